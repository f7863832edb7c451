"""`train_ensemble`: Nequix members on a data set, as ``model_1.nqx`` … and ``ensemble.json``."""

from __future__ import annotations

from argparse import Namespace
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

from alfw.compat._shell import OK, Parser, leave, say, show
from alfw.core.errors import ConfigError, PluginError
from alfw.io.npz_rows import PRESETS
from alfw.io.pair_files import Reading
from alfw.io.versions import newest_version
from alfw.models.nequix import FINE_TUNING, NequixTraining
from alfw.steps.convert import convert_checkpoint
from alfw.steps.train_files import Job, train_files
from alfw.steps.train_start import make_start
from alfw.steps.train_table import now_and_then, spread_note, table
from alfw.steps.training_sides import read_sides, sources

DESCRIPTION = (
    "A Nequix ensemble on all labelled frames of a data set; a tenth of them, by trajectory, validate. From scratch:"
    " networks of alfw's default size (3 layers, 32x0e + 16x1o, 4 Å), 3200 steps of 8 frames. From a checkpoint: its"
    " own size, 600 steps of 5 frames. The same command again continues what was cut off."
)


def parser() -> Parser:
    """The flags of the seed's document, and a few more."""
    parser = Parser("train_ensemble", DESCRIPTION)
    parser.add_argument(
        "--dataset", required=True, type=Path, metavar="PATH", help="folder or file: extxyz, npz …"
    )
    parser.add_argument("--outdir", required=True, type=Path, metavar="DIR")
    parser.add_argument("--members", type=int, default=5, help="%(default)s")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    parser.add_argument(
        "--start-from", metavar="PATH", help="checkpoint, published name, or an ensemble to go on from"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, help="passes over the train side")
    length.add_argument("--steps", type=int, help="steps of the optimiser")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument(
        "--pt", action="store_true", help="write model_1.pt … beside them, for Nequix's torch back-end"
    )
    parser.add_argument("--units", choices=tuple(PRESETS), help="of NPZ files that do not say (eV)")
    parser.add_argument("--force", action="store_true", help="replace another ensemble in --outdir")
    return parser


def work(arguments: Namespace) -> int:
    """Train and say how good it is; the exit code."""
    if arguments.pt and find_spec("torch") is None:
        raise PluginError("--pt needs the package 'torch': pip install 'alfw[torch]'")
    data = newest_version(arguments.dataset) if arguments.dataset.is_file() else arguments.dataset
    if data != arguments.dataset:
        say(f"{arguments.dataset}: its newest version is {data.name}")
    reading = Reading(units=arguments.units or "eV", assumed=arguments.units is None, origin="auto")
    sides = read_sides(sources([data]), [], reading, arguments.seed)
    start = make_start(_options(arguments, len(sides.train)), arguments.start_from)
    for note in [*sides.notes, *spread_note(start.model)]:
        say(note)
    about = {"name": arguments.outdir.resolve().name}
    job = Job(arguments.outdir, start, sides, arguments.seed, about=about, stem="model", first=1)
    report = train_files(job, arguments.force, now_and_then(say))
    if report["already_trained"]:
        say(f"{job.folder}: already trained on these data with these options; --force trains again")
    if arguments.pt:
        for member in report["members"]:
            weights = job.folder / member["file"]
            convert_checkpoint(weights, weights.with_suffix(".pt"), force=True)
    for line in table(report):
        show(line)
    say(
        f"next: python -m alfw.compat.validate_models --models {job.folder} --testset DIR --output report.json"
    )
    return OK


def _options(arguments: Namespace, n_train: int) -> dict[str, Any]:
    """The options of alfw's model for these flags."""
    if min(arguments.members, arguments.epochs or 1, arguments.steps or 1, arguments.batch_size or 1) < 1:
        raise ConfigError("--members, --epochs, --steps and --batch-size have to be 1 or more")
    training = {"steps": arguments.steps, "batch_size": arguments.batch_size}
    if arguments.epochs is not None:
        usual = FINE_TUNING["batch_size"] if arguments.start_from else NequixTraining().batch_size
        training["steps"] = arguments.epochs * ceil(n_train / (arguments.batch_size or usual))
    given = {key: value for key, value in training.items() if value is not None}
    options: dict[str, Any] = {"kind": "nequix", "members": arguments.members}
    if arguments.pt and arguments.start_from is None:
        options["index_weights"] = False  # torch's network has none
    return options | ({"training": given} if given else {})


if __name__ == "__main__":
    leave(parser(), work)

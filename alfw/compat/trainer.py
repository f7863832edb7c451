"""`trainer`: PhysNet with DCMNet from pairs of files, energies with forces and dipoles, and potentials."""

from __future__ import annotations

import json
from argparse import SUPPRESS, BooleanOptionalAction, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alfw.compat._shell import OK, Parser, leave, say, show
from alfw.core.errors import ConfigError, PluginError
from alfw.io.datasets import Source
from alfw.io.npz_rows import PRESETS
from alfw.io.pair_files import Reading, stated_units
from alfw.steps.train_files import Job, train_files
from alfw.steps.train_plots import parity_plots
from alfw.steps.train_start import make_start
from alfw.steps.train_table import now_and_then, spread_note, table
from alfw.steps.training_sides import Sides, read_sides

UNITS = "units taken, where files do not say: R Å, E eV, F eV/Å, D e·Å, esp Hartree/e (--units hartree for others)"
SOURCES, METRICS = ("physnet", "dcmnet", "mixed"), ("l2", "mae", "rmse")
# Flag, type, default, help; names and defaults are those of the seed's trainer.
SIZES: tuple[tuple[str, Any, Any, str], ...] = (
    ("physnet-features", int, 64, "features of an atom"),
    ("physnet-iterations", int, 3, "message passing"),
    ("physnet-basis", int, 64, "radial functions"),
    ("physnet-cutoff", float, 6.0, "Å"),
    ("physnet-n-res", int, 3, "residual blocks"),
    ("dcmnet-features", int, 128, "features of an atom"),
    ("dcmnet-iterations", int, 2, "message passing"),
    ("dcmnet-basis", int, 64, "radial functions"),
    ("dcmnet-cutoff", float, 10.0, "Å"),
    ("n-dcm", int, 3, "distributed charges of an atom"),
    ("max-degree", int, 2, "of DCMNet's features"),
)
TRAINING: tuple[tuple[str, Any, Any, str], ...] = (
    ("epochs", int, 100, ""),
    ("batch-size", int, 1, ""),
    ("weight-decay", float, 1e-4, ""),
    ("energy-weight", float, 10.0, ""),
    ("forces-weight", float, 50.0, ""),
    ("dipole-weight", float, 25.0, ""),
    ("esp-weight", float, 10000.0, ""),
    ("mono-weight", float, 100.0, ""),
    ("esp-max-value", float, None, "Hartree/e; points beyond do not count"),
)
# Flags without a use here, and why; named when they are given.
IDLE = {
    "natoms": "frames are padded to what they need",
    "print_freq": "progress is told by time",
    "plot_freq": "plots are made once, at the end",
}
PLOT_ONLY = ("plot_samples", "plot_esp_examples")
PLOT_SAMPLES, PLOT_ESP_EXAMPLES = 100, 2


def parser() -> Parser:
    """The flags of the seed's trainer, and a few more."""
    parser = Parser("trainer", "PhysNet with DCMNet on EFD and ESP files, whose rows find each other.")
    for side in ("train", "valid"):
        for kind, what in (("efd", "energies, forces, dipoles"), ("esp", "electrostatic potentials")):
            parser.add_argument(f"--{side}-{kind}", type=Path, required=True, metavar="NPZ", help=what)
    for name, kind, default, words in (*SIZES, *TRAINING):
        shown = words if default is None else f"{words} (%(default)s)".lstrip()
        parser.add_argument(f"--{name}", type=kind, default=default, help=shown)
    parser.add_argument("--learning-rate", "--lr", type=float, default=1e-3)
    parser.add_argument("--grad-clip-norm", type=float, default=1.0, help="0 = none (%(default)s)")
    parser.add_argument(
        "--esp-min-distance", type=float, default=0.0, help="Å from an atom, beside twice its radius"
    )
    parser.add_argument("--dipole-source", choices=SOURCES, default="physnet")
    for name, default in (("dipole", "--dipole-source"), ("esp", "dcmnet")):
        parser.add_argument(f"--{name}-loss-sources", nargs="*", choices=SOURCES, help=f"default: {default}")
        parser.add_argument(f"--{name}-metric", choices=METRICS, default="l2")
    parser.add_argument(
        "--loss-config", type=Path, help="JSON or YAML with lists dipole and esp of {source, weight, metric}"
    )
    parser.add_argument("--mix-coulomb-energy", action=BooleanOptionalAction, default=False)
    parser.add_argument("--subtract-atom-energies", action=BooleanOptionalAction, default=True)
    parser.add_argument("--max-atomic-number", type=int, default=28)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--name", default="co2_joint_physnet_dcmnet")
    parser.add_argument(
        "--ckpt-dir", type=Path, default=Path("checkpoints"), help="the ensemble goes to its folder NAME"
    )
    parser.add_argument(
        "--restart", metavar="PATH", help="weights (npz) or folder of an ensemble to go on from"
    )
    parser.add_argument("--plot-results", action=BooleanOptionalAction, default=False)
    for name in (*IDLE, *PLOT_ONLY):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=SUPPRESS, help=IDLE.get(name))
    parser.add_argument("--verbose", action=BooleanOptionalAction, default=True)
    _own_flags(parser)
    return parser


def _own_flags(parser: Parser) -> None:
    """What the seed's trainer does not have."""
    parser.add_argument("--members", type=int, default=1, help="of the ensemble (%(default)s)")
    parser.add_argument("--units", choices=tuple(PRESETS), help="of files that do not say")
    parser.add_argument("--esp-origin", choices=("auto", "file", "centre"), default="auto",
                        help="points as in the file, or their mean moved to that of the atoms; auto: as the seed's"
                        " trainer, moved, for files without ids")  # fmt: skip
    parser.add_argument("--atomic-energies", choices=("fitted", "seed"), default="fitted")
    parser.add_argument("--force", action="store_true", help="replace what is there")


def work(arguments: Namespace) -> int:
    """Train and say how good it is; the exit code."""
    start = make_start(_options(arguments), arguments.restart)
    files = {
        side: Source(getattr(arguments, f"{side}_efd"), getattr(arguments, f"{side}_esp"))
        for side in ("train", "valid")
    }
    if arguments.units is None and not all(
        stated_units(path)
        for source in files.values()
        for path in (source.path, source.esp)
        if path is not None
    ):
        say(UNITS)
    reading = Reading(
        units=arguments.units or "eV", assumed=arguments.units is None, origin=arguments.esp_origin
    )
    sides = read_sides([files["train"]], [files["valid"]], reading, arguments.seed)
    _check(arguments, sides)
    for note in [*sides.notes, *_idle(arguments), *spread_note(start.model)]:
        say(note)
    tell = now_and_then(say) if arguments.verbose else None
    folder = arguments.ckpt_dir / arguments.name
    job = Job(folder, start, sides, arguments.seed, about={"name": arguments.name})
    report = train_files(job, arguments.force, tell)
    if report["already_trained"]:
        say(f"{folder}: already trained on these data with these options; --force trains again")
    for line in table(report):
        show(line)
    if arguments.plot_results:
        _plot(arguments, sides, folder)
    say(f"next: alfw validate {folder} --testset FILES")
    return OK


def _options(arguments: Namespace) -> dict[str, Any]:
    """The options of alfw's model for these flags."""
    lengths = {"physnet_cutoff": "physnet_cutoff_A", "dcmnet_cutoff": "dcmnet_cutoff_A"}
    names = [name.replace("-", "_") for name, *_ in SIZES]
    options = {lengths.get(name, name): getattr(arguments, name) for name in names}
    names = [name.replace("-", "_") for name, *_ in TRAINING]
    training = {name: getattr(arguments, name) for name in [*names, "learning_rate"]}
    training["grad_clip_norm"] = arguments.grad_clip_norm or 1e9
    training["esp_min_distance_A"] = arguments.esp_min_distance
    training["dipole_loss_sources"] = arguments.dipole_loss_sources or [arguments.dipole_source]
    training["esp_loss_sources"] = arguments.esp_loss_sources or ["dcmnet"]
    training |= {"dipole_metric": arguments.dipole_metric, "esp_metric": arguments.esp_metric}
    if arguments.loss_config is not None:
        training |= loss_terms(arguments.loss_config)
    more = {
        name: getattr(arguments, name)
        for name in ("dipole_source", "mix_coulomb_energy", "subtract_atom_energies")
    }
    given = {"atomic_energies_eV": "seed"} if arguments.atomic_energies == "seed" else {}
    return {"kind": "physnet", "members": arguments.members, **options, **more, **given, "training": training}


def loss_terms(path: Path) -> dict[str, Any]:
    """Options of the training for a file of loss terms: lists `dipole` and `esp` of {source, weight, metric, name}.

    Raises
    ------
    ConfigError
        Not readable, unknown sources or metrics, or terms of one list with different weights or metrics.
    """
    content = _mapping(path)
    options: dict[str, Any] = {}
    for name in ("dipole", "esp"):
        terms = content.get(name) or []
        if not isinstance(terms, list) or not all(isinstance(term, Mapping) for term in terms):
            raise ConfigError(f"{path}: {name} has to be a list of {{source, weight, metric}}")
        given = [
            (term.get("source"), float(term.get("weight", 1.0)), term.get("metric", "l2")) for term in terms
        ]
        for source, _, metric in given:
            if source not in SOURCES or metric not in METRICS:
                raise ConfigError(
                    f"{path}: {name}: source {source!r}, metric {metric!r}: known are"
                    f" {', '.join(SOURCES)}; {', '.join(METRICS)}"
                )
        if len({(weight, metric) for _, weight, metric in given}) > 1:
            raise ConfigError(
                f"{path}: {name}: its terms need one weight and one metric here: give them alike"
            )
        if given:
            options[f"{name}_loss_sources"] = [source for source, _, _ in given]
            options[f"{name}_weight"], options[f"{name}_metric"] = given[0][1:]
    return options


def _mapping(path: Path) -> Mapping[str, Any]:
    """The content of a JSON or YAML file."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else YAML(typ="safe").load(text)
    except (OSError, ValueError, YAMLError) as error:
        raise ConfigError(
            f"--loss-config {path}: cannot be read ({' '.join(str(error).split())[:100]})"
        ) from None
    if not isinstance(content, Mapping):
        raise ConfigError(f"--loss-config {path}: has to be a mapping with dipole and esp")
    return content


def _check(arguments: Namespace, sides: Sides) -> None:
    """Refuse data beyond what the flags allow."""
    frames = [item.frame for item in [*sides.train, *sides.valid]]
    largest, heaviest = max(map(len, frames)), max(int(frame.numbers.max()) for frame in frames)
    if largest > getattr(arguments, "natoms", largest):
        raise ConfigError(
            f"--natoms {arguments.natoms}: there are molecules of {largest} atoms: --natoms {largest}"
        )
    if heaviest > arguments.max_atomic_number:
        raise ConfigError(
            f"--max-atomic-number {arguments.max_atomic_number}: there are elements up to Z = {heaviest}: raise it"
        )


def _idle(arguments: Namespace) -> list[str]:
    """One line with the flags that were given and do nothing."""
    given = [(name, why) for name, why in IDLE.items() if hasattr(arguments, name)]
    if not arguments.plot_results:
        given += [(name, "no --plot-results") for name in PLOT_ONLY if hasattr(arguments, name)]
    told = ", ".join(f"--{name.replace('_', '-')} ({why})" for name, why in given)
    return [f"flags without effect here: {told}"] if told else []


def _plot(arguments: Namespace, sides: Sides, folder: Path) -> None:
    """Draw what the ensemble says of the valid side, if it can be drawn."""
    samples = getattr(arguments, "plot_samples", PLOT_SAMPLES)
    try:
        paths = parity_plots(
            folder, sides.valid[:samples], getattr(arguments, "plot_esp_examples", PLOT_ESP_EXAMPLES)
        )
    except PluginError:
        say("no plots: pip install matplotlib, then the same command draws them")
        return
    say(f"plots: {', '.join(str(path) for path in paths)}")


if __name__ == "__main__":
    leave(parser(), work)

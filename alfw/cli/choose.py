"""`alfw screen` and `alfw select`: what an ensemble says of frames in files, and which of them are worth a label."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alfw.cli import output
from alfw.cli.campaign import Json
from alfw.cli.validate import SeveralWords
from alfw.core.errors import ConfigError

if TYPE_CHECKING:
    from alfw.core.exploration import Pool
    from alfw.core.frame import Frame
    from alfw.core.protocols import Potential
    from alfw.steps.screened import Origin, Screening
    from alfw.steps.select_files import Selected

QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)
SHOWN = 10
Charge = Annotated[int, typer.Option(help="Of frames whose file does not say.")]
Multiplicity = Annotated[int, typer.Option(min=1, help="2S + 1, of frames whose file does not say.")]
Vacuum = Annotated[bool, typer.Option("--vacuum", help="Make slabs and wires fully periodic with vacuum.")]
MODEL = "A folder with ensemble.json, or files of members."
SET = "Any option of the selector, in YAML: physical.max_force_quantile=0.99."


def register(app: typer.Typer) -> None:
    """Add these verbs to `alfw`."""
    for verb in (screen, select):
        app.command(name=verb.__name__, cls=SeveralWords)(verb)


def screen(
    models: Annotated[list[Path], typer.Argument(help=MODEL, metavar="MODEL...")],
    structures: Annotated[
        list[str], typer.Option(help="Folders, files (any that ASE reads) and globs.", metavar="PATH...")
    ],
    to: Annotated[
        Path | None, typer.Option("-o", "--output", help="FILE.json, or FILE.npz with features.")
    ] = None,
    charge: Charge = 0,
    multiplicity: Multiplicity = 1,
    vacuum: Vacuum = False,
    as_json: Json = False,
) -> int:
    """Energies, forces and force_std of an ensemble on frames in files; those it is least sure of are shown."""
    from alfw.models.ensemble import load_models
    from alfw.steps.screen_files import read_structures
    from alfw.steps.screened import as_rows, save

    if to is not None and to.suffix not in (".json", ".npz"):
        raise ConfigError(f"--output {to}: has to end in .json or .npz")
    frames, origins = read_structures(structures, charge, multiplicity, "vacuum" if vacuum else None)
    found = _screened(load_models(models), frames, origins, features=to is not None and to.suffix == ".npz")
    if to is not None:
        save(to, found)
    if as_json:
        output.show_json(as_rows(found))
    else:
        _show_screening(found)
    return output.OK


def select(
    pool: Annotated[
        list[str], typer.Argument(help="What alfw screen wrote, or frames in any files.", metavar="POOL...")
    ],
    to: Annotated[
        Path, typer.Option("-o", "--output", help="The chosen frames; FILE.json beside has the reasons.")
    ],
    kind: Annotated[str, typer.Option(help="environments, random, force-std, farthest …")] = "environments",
    max_frames: Annotated[int, typer.Option(min=0, help="At most so many.")] = 50,
    model: Annotated[list[Path] | None, typer.Option(help=MODEL, metavar="MODEL...")] = None,
    labelled: Annotated[
        list[str] | None, typer.Option(help="Frames that have labels already.", metavar="PATH...")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help=SET, metavar="KEY=VALUE")] = None,
    seed: Annotated[int, typer.Option(help="Of random choices.")] = 0,
    charge: Charge = 0,
    multiplicity: Multiplicity = 1,
    vacuum: Vacuum = False,
    as_json: Json = False,
) -> int:
    """Choose the frames that are worth a label; without a model by coverage of geometric environments."""
    from alfw.cli.train import plugin_options
    from alfw.steps.screen_files import read_structures
    from alfw.steps.select_files import make_selector, save
    from alfw.steps.select_files import select as choose

    if to.suffix not in (".extxyz", ".xyz"):
        raise ConfigError(f"--output {to}: has to end in .extxyz")
    selector = make_selector(plugin_options(kind, set_ or []))
    partial_pbc = "vacuum" if vacuum else None
    known = read_structures(labelled, charge, multiplicity, partial_pbc)[0] if labelled else []
    offered, origins = _pool(pool, model or [], known, (charge, multiplicity, partial_pbc))
    selected = choose(offered, origins, selector, max_frames, seed)
    save(to, selected)
    for note in selected.selection.notes:
        output.say(note)
    if as_json:
        output.show_json(selected.report())
    else:
        _show_selection(selected, to)
    return output.OK if selected.frames else output.CHECK_FAILED


def _pool(
    names: Sequence[str], models: Sequence[Path], labelled: list[Frame], reading: tuple[int, int, Any]
) -> tuple[Pool, list[Origin]]:
    """The pool, and where its frames are from."""
    from alfw.models.ensemble import load_models
    from alfw.steps.screen_files import read_structures
    from alfw.steps.screened import load
    from alfw.steps.select_files import bare_pool, pool_of, pool_of_rows

    paths = [Path(name) for name in names]
    potential = load_models(models) if models else None
    kept = {path.suffix for path in paths if path.is_file()} & {".json", ".npz"}
    if kept and len(paths) > 1:
        raise ConfigError("give one screening, or frames in any number of files")
    if kept == {".json"}:
        return pool_of_rows(paths[0], labelled)
    if kept == {".npz"} and potential is None:
        found = load(paths[0])
    else:
        frames, origins = read_structures(names, *reading)
        if potential is None:
            return bare_pool(frames, labelled), origins
        found = _screened(potential, frames, origins, features=True)
    offered, notes = pool_of(found, labelled, potential)
    for note in notes:
        output.say(note)
    return offered, found.origins


def _screened(potential: Potential, frames: list[Frame], origins: list[Origin], features: bool) -> Screening:
    from alfw.steps.screen_files import screen as ask

    with _progress(len(frames)) as tell:
        return ask(potential, frames, origins, features, tell)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, int], None]]:
    with output.err.status(f"{total} frames") as spinner:
        yield lambda done, _: spinner.update(f"{done}/{total} frames")


def _show_screening(found: Screening) -> None:
    """How far members are apart, and where most."""
    import numpy as np

    finite, std = found.finite, found.force_std
    lost = int((~finite).sum())
    output.show(
        f"{len(found.frames)} frames, {found.members} members" + (f", {lost} not finite" if lost else "")
    )
    for name, values in (("force_std", std[finite]), ("max_force", found.max_force[finite])):
        if values.size and np.isfinite(values).all():
            numbers = "  ".join(f"{np.quantile(values, q):.4f}" for q in QUANTILES)
            output.show(f"{name} eV/Å, min / median / 90 % / 99 % / max: {numbers}")
    if found.members < 2:
        output.show("force_std needs two members or more")
        return
    for i in np.argsort(np.where(finite, -std, np.inf), kind="stable")[: min(SHOWN, int(finite.sum()))]:
        origin = found.origins[i]
        output.show(f"  {std[i]:.4f} eV/Å  {origin.path} frame {origin.index}  {found.frames[i].formula}")


def _show_selection(selected: Selected, to: Path) -> None:
    """How many of how many, and why not the others."""
    report = selected.report()
    output.show(f"{report['n_selected']} of {report['n_pool']} frames: {to}")
    for reason, number in sorted(report["rejected"].items()):
        output.show(f"  {number} turned down: {reason}")
    if selected.frames:
        output.show(f"next: alfw qm write {to} --labeler KIND -o DIR")

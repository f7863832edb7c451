"""`alfw validate`: how good a model is, from files, without a database."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from typer.core import TyperCommand

from alfw.cli import output
from alfw.cli.campaign import Json
from alfw.core.registry import private

if TYPE_CHECKING:
    from alfw.steps.validation.physics import Physics
    from alfw.steps.validation.testset import Reading

LISTS = frozenset(
    {"--testset", "--temperature", "--structures", "--model", "--labelled"}
)  # take several words
COLUMNS = (
    ("frames", "n_frames", "d", 1),
    ("F RMSE", "force_rmse_eV_per_A", ".4f", 1),
    ("F MAE", "force_mae_eV_per_A", ".4f", 1),
    ("E RMSE", "energy_rmse_eV_per_atom", ".2f", 1000),
    ("E MAE", "energy_mae_eV_per_atom", ".2f", 1000),
    ("E RMSE*", "energy_shift_removed.rmse_eV_per_atom", ".2f", 1000),
)
Models = Annotated[
    list[Path], typer.Argument(help="A folder with ensemble.json, or files of members.", metavar="MODEL...")
]
TestSets = Annotated[
    list[str],
    typer.Option(
        "--testset",
        help="Labelled frames: files, folders, globs; name=PATH is a region of its own.",
        metavar="[NAME=]PATH...",
    ),
]
Report = Annotated[
    Path | None, typer.Option("-o", "--output", help="The report as JSON, with the errors of each frame.")
]
Units = Annotated[
    str | None, typer.Option(help="eV or hartree, of NPZ files that do not say.", metavar="UNITS")
]
Starts = Annotated[str | None, typer.Option(help="Frames to start from; default: of the test set.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to `alfw`."""
    app.command(name="validate", cls=SeveralWords)(validate)


class SeveralWords(TyperCommand):
    """A command whose `LISTS` take all words up to the next option, as a shell expands a glob."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words that are left, as Typer's own."""
        return super().parse_args(ctx, repeated(args))


def repeated(words: Sequence[str]) -> list[str]:
    """``--testset a b`` as ``--testset a --testset b``."""
    found: list[str] = []
    option = None
    for word in words:
        if option is not None and not word.startswith("-") and found[-1] != option:
            found.append(option)
        elif word.startswith("-"):
            option = word if word in LISTS else None
        found.append(word)
    return found


def validate(
    models: Models,
    testset: TestSets,
    path: Report = None,
    html: Annotated[Path | None, typer.Option(help="The report as one HTML page with pictures.")] = None,
    coverage: Annotated[
        float, typer.Option(min=0.01, max=0.999, help="Of the conformal bound on force errors.")
    ] = 0.9,
    eos: Annotated[bool, typer.Option("--eos", help="Energy–volume curves of its crystals.")] = False,
    relax: Annotated[bool, typer.Option("--relax", help="Relaxations of the minima in it.")] = False,
    stability: Annotated[
        bool, typer.Option("--stability", help="Molecular dynamics until it fails.")
    ] = False,
    md_ps: Annotated[float, typer.Option("--md-ps", min=0.001, help="How long, of --stability.")] = 10.0,
    temperature: Annotated[
        list[float] | None, typer.Option(help="Of --stability, K; default 300.", metavar="K...")
    ] = None,
    walkers: Annotated[int, typer.Option(min=1, help="Of --stability, at each temperature.")] = 16,
    starts: Starts = None,
    labeler: Annotated[
        str | None, typer.Option(help="The reference, of --eos and --relax: pyscf, vasp …", metavar="KIND")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the labeler.", metavar="KEY=VALUE")
    ] = None,
    max_force_rmse: Annotated[
        float | None, typer.Option(help="eV/Å of any region; exit code 2 above.")
    ] = None,
    max_energy_rmse: Annotated[
        float | None, typer.Option(help="eV/atom of any region; exit code 2 above.")
    ] = None,
    require_spread: Annotated[
        bool, typer.Option("--require-spread", help="Exit code 2 for a single member.")
    ] = False,
    units: Units = None,
    charge: Annotated[int, typer.Option(help="Of frames whose file does not say.")] = 0,
    multiplicity: Annotated[int, typer.Option(min=1, help="2S + 1, of frames whose file does not say.")] = 1,
    energy_key: Annotated[str | None, typer.Option(help="Where the energies are.", metavar="KEY")] = None,
    forces_key: Annotated[str | None, typer.Option(help="Where the forces are.", metavar="KEY")] = None,
    as_json: Json = False,
) -> int:
    """Errors of a model on labelled frames, and what its spread knows of them; exit code 2 where a limit is missed."""
    from alfw.cli.qmfiles import settings
    from alfw.steps.qm_folder import make_labeler
    from alfw.steps.validate import Limits, save_html, save_report
    from alfw.steps.validate import validate as run
    from alfw.steps.validation.testset import Reading

    reading = Reading(units, charge, multiplicity, energy_key, forces_key)
    md = {"temperatures_K": tuple(temperature or [300.0]), "walkers": walkers, "time_ps": md_ps}
    wanted = _physics(eos, relax, md if stability else None, starts, reading)
    if wanted is not None and labeler is not None:
        wanted = replace(wanted, labeler=make_labeler({"kind": labeler, **settings(set_ or [])}, Path())[1])
    if html is not None:
        private("alfw.io._plots", "report")  # whether it is installed is said now, not at the end
    with output.live():
        found = run(models, testset, reading, wanted, coverage, logging.getLogger("alfw").info)
        if html is not None:
            save_html(html, found)
    if path is not None:
        save_report(path, found)
    missed = Limits(max_force_rmse, max_energy_rmse, require_spread).missed(found.report)
    output.say(f"labels of {found.report['labels']}")
    if found.report["note"]:
        output.say(found.report["note"])
    if as_json:
        output.show_json({**found.summary, "missed": missed})
    else:
        _show(found.report)
    for line in missed:
        output.fail(line)
    return output.CHECK_FAILED if missed else output.OK


def _physics(
    eos: bool, relax: bool, md: Mapping[str, Any] | None, starts: str | None, reading: Reading
) -> Physics | None:
    """What is wanted beside errors."""
    if not (eos or relax or md):
        return None
    from alfw.steps.validation.physics import Physics, start_frames
    from alfw.steps.validation.relaxation import Relaxations
    from alfw.steps.validation.stability import Stability

    return Physics(
        curves=eos,
        relaxations=Relaxations() if relax else None,
        stability=None if md is None else Stability(**md),
        starts=start_frames(starts, reading) if md and starts else (),
    )


def _show(report: dict[str, Any]) -> None:
    """A row a region, then one for each part that was wanted."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("region", no_wrap=True)
    spread = report["all"]["spread"] is not None
    for title in (*(title for title, *_ in COLUMNS), *(("rank", "held") if spread else ())):
        table.add_column(title, justify="right", no_wrap=True)
    several = len(report["regions"]) > 1
    rows = [*report["regions"].items(), *([("all", report["all"])] if several else [])]
    for name, region in rows:
        cells = [
            _cell(reduce(getitem, key.split("."), region), spec, factor) for _, key, spec, factor in COLUMNS
        ]
        table.add_row(name, *cells, *(_spread_cells(report, name, region) if spread else ()))
    output.out.print(table)
    legend = "forces per component in eV/Å, energies in meV/atom (*: without a constant for each composition)"
    if spread:
        bound = report["all"]["spread"]["conformal"]
        factor = _cell(bound["factor"], ".3g", 1)
        legend += (
            "; rank: correlation of force_std with the error of an atom; held: fraction of frames whose largest error"
            f" is below {factor} × force_std ({bound['promised']:.0%} promised)"
        )
    output.say(legend)
    for line in _elements(report), *_physics_lines(report):
        output.show(line)


def _spread_cells(report: dict[str, Any], name: str, region: dict[str, Any]) -> tuple[str, str]:
    bound = report["all"]["spread"]["conformal"]
    held = bound["regions"].get(name, bound) if name != "all" else bound
    rank = region["spread"]["forces"]["spearman"] if region["spread"] else None
    return _cell(rank, ".2f", 1), _cell(held["fraction"] if bound["factor"] is not None else None, ".2f", 1)


def _cell(value: float | None, spec: str, factor: float) -> str:
    return "–" if value is None else format(value * factor, spec)


def _elements(report: dict[str, Any]) -> str:
    found = report["all"]["elements"].items()
    parts = (f"{name} {_cell(each['force_rmse_eV_per_A'], '.4f', 1)}" for name, each in found)
    return "force RMSE by element: " + ", ".join(parts)


def _physics_lines(report: dict[str, Any]) -> list[str]:
    """A line each for curves, relaxations and stability."""
    lines = []
    for found in report.get("curves", {}).get("structures", []):
        problem = found["problem"]
        delta, volume = found["delta_meV_per_atom"], (found["difference"] or {}).get("V0_percent")
        numbers = f"V0 {_cell(volume, '+.2f', 1)} %, Δ {_cell(delta, '.3g', 1)} meV/atom"
        lines.append(f"curve of {found['formula']}: {problem or numbers}")
    if "curves" in report and not report["curves"]["structures"]:
        lines.append("curves: no crystal of the test set is there at five volumes or more")
    if "relaxations" in report:
        found = report["relaxations"]
        counts = f"{found['n_minima']} minima, {found['n_relaxed']} relaxed, {found['n_converged']} converged"
        rmsd = (found.get("rmsd_A") or {}).get("median")
        none = "no frame of the test set is a minimum of the reference, by its forces"
        numbers = f"{counts}, median RMSD {_cell(rmsd, '.3f', 1)} Å"
        lines.append(f"relaxations: {numbers if found['n_minima'] else none}")
    for found in report.get("stability", {}).get("temperatures", []):
        failed = f"{found['n_failed']} of {found['n_walkers']} walkers failed"
        lines.append(f"stability at {found['temperature_K']:g} K: {failed}, median {found['median_text']}")
    return lines

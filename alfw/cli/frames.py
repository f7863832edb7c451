"""`alfw frames list, export`: events of molecular dynamics and frames in files, out to where they are labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from alfw.cli import output
from alfw.cli.campaign import Json
from alfw.core.errors import DataError

frames = typer.Typer(no_args_is_help=True)
MANY = 40  # so many of one kind are shown; --json has all


class Unit(StrEnum):
    """Of velocities."""

    true = "A/fs"
    mmml = "mmml"


class Order(StrEnum):
    """How some of many are chosen."""

    diverse = "diverse"
    force = "force"


Paths = Annotated[
    list[Path],
    typer.Argument(help="Event files, trajectories, any structures; folders, globs.", metavar="PATH…"),
]
UnitOption = Annotated[
    Unit | None,
    typer.Option(
        "--velocity-unit",
        help="Of event files that do not say: A/fs, or mmml (Å/(100 fs), as its jaxmd_dynamics writes). "
        "Not given: by their kinetic temperature.",
    ),
]
Charge = Annotated[int, typer.Option(help="Of frames whose file does not say.")]
Multiplicity = Annotated[int, typer.Option(min=1, help="2S + 1, of frames whose file does not say.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to `alfw`."""
    frames.command(name="list")(list_frames)
    frames.command(name="export")(export_frames)
    app.add_typer(frames, name="frames", help="Events of dynamics and frames in files: list, export.")


def list_frames(
    paths: Paths,
    velocity_unit: UnitOption = None,
    charge: Charge = 0,
    multiplicity: Multiplicity = 1,
    as_json: Json = False,
) -> int:
    """List what is there: explosions, high forces, and the frames of ordinary files."""
    from alfw.steps.frame_files import gather
    from alfw.steps.frame_listing import addition_lines, listing, summary_lines

    found = gather(paths, velocity_unit and velocity_unit.value, charge=charge, multiplicity=multiplicity)
    _tell([vars(each) for each in found.unreadable], found.notes)
    if not found.n_frames:
        raise DataError(f"{', '.join(map(str, paths))}: no frames")
    report = listing(found)
    if as_json:
        output.show_json(report)
    else:
        _show_files(report["files"])
        _show_events(report["events"])
        for line in [*summary_lines(found.events), *addition_lines(found.events)] if found.events else []:
            output.show(line)
    return output.CHECK_FAILED if found.unreadable else output.OK


def export_frames(
    paths: Paths,
    target: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Folder of structure_0000.xyz …, or one .extxyz file.", metavar="OUT"
        ),
    ],
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Each structure once; of several the least extreme one.")
    ] = False,
    rmsd_threshold: Annotated[
        float,
        typer.Option(min=0.0, help="Å, after turning and exchanging like atoms; below it two are the same."),
    ] = 0.5,
    min_force: Annotated[float, typer.Option(help="eV/Å: leave out events below it.")] = 0.0,
    max_force: Annotated[
        float | None,
        typer.Option(help="eV/Å: leave out frames above it. Not given: what is physical, by the data."),
    ] = None,
    max_structures: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    order: Annotated[
        Order, typer.Option(help="Which: far from each other, or those of the largest forces.")
    ] = Order.diverse,
    bad: Annotated[
        bool, typer.Option("--bad", help="Of explosions the first bad frame, not the last good one.")
    ] = False,
    velocity_unit: UnitOption = None,
    charge: Charge = 0,
    multiplicity: Multiplicity = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace structures that are there.")] = False,
    as_json: Json = False,
) -> int:
    """Write frames for labelling: of explosions the last good one; what is not physical is listed and left out."""
    from alfw.steps.frame_candidates import Wanted
    from alfw.steps.frame_export import check_target, export
    from alfw.steps.frame_files import gather

    check_target(target, force)
    found = gather(paths, velocity_unit and velocity_unit.value, charge=charge, multiplicity=multiplicity)
    wanted = Wanted(deduplicate, rmsd_threshold, min_force, max_force, max_structures, order.value, bad)
    report = export(found, wanted, target, force)
    _tell(report["unreadable"], report["notes"])
    if as_json:
        output.show_json(report)
    else:
        _show_export(report)
    if not report["n_exported"]:
        raise DataError(f"{target} is not written: none of {report['n_found']} frames is left")
    return output.CHECK_FAILED if found.unreadable else output.OK


def _tell(unreadable: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
    """Files that cannot be read, and notes, to the person."""
    for each in unreadable:
        output.say(f"{each['file']}: {each['why']}")
    if unreadable:
        output.say(f"{len(unreadable)} unreadable")
    for note in notes:
        output.say(f"note: {note}")


def _show_files(files: Sequence[Mapping[str, Any]]) -> None:
    """Ordinary files, one line each."""
    for each in files:
        what = ", ".join(f"{formula} ({count})" for formula, count in list(each["formulas"].items())[:4])
        force = "" if each["max_force"] is None else f"; F_max {each['max_force']:.2f} eV/Å"
        output.show(
            f"{each['source']}: {each['n_frames']} frames, {each['n_labelled']} labelled; {what}{force}"
        )


def _show_events(events: Sequence[Mapping[str, Any]]) -> None:
    """Events as a table."""
    if not events:
        return
    rows = [("F_max", "good", "std", "T", "time/fs", "reason", "formula", "file")]
    for e in events[:MANY]:
        force = [_number(e[key], ".2f") for key in ("max_force", "good_max_force", "force_std")]
        place = [_number(e["temperature"], ".0f"), _number(e["time_fs"], ".6g")]
        rows.append((*force, *place, f"{e['reason']}, {e['instability_type']}", e["formula"], e["source"]))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        cells = [
            c.rjust(w) if k < 5 else c.ljust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        output.show("  ".join(cells).rstrip())
    if len(events) > MANY:
        output.show(f"… {len(events)} in all; --json lists them")
    output.show(
        "forces in eV/Å: largest component of the frame beyond the limit, of the last good one, force_std"
    )


def _number(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def _show_export(report: Mapping[str, Any]) -> None:
    """What was written, what was left out, what stands for what."""
    from alfw.steps.frame_listing import stands_for

    for each in report["excluded"][:MANY]:
        output.show(f"left out: {each['source']}: {each['why']}")
    for each in report["merged"][:MANY]:
        output.show(stands_for(each))
    for key in ("excluded", "merged"):
        if len(report[key]) > MANY:
            output.show(f"… {len(report[key])} {key} in all; --json lists them")
    if report["n_exported"]:
        merged = sum(len(each["merged"]) for each in report["merged"])
        output.show(
            f"{report['output']}: {report['n_exported']} of {report['n_found']} frames; "
            f"{len(report['excluded'])} left out, {merged} duplicates"
        )

"""`active_learning_manager`: structures saved by molecular dynamics, listed, exported, and results made a data set."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alfw.compat._shell import CHECK_FAILED, OK, Parser, leave, say, show, show_refused
from alfw.core.errors import ConfigError, DataError
from alfw.steps.frame_candidates import Wanted, filtered
from alfw.steps.frame_export import export
from alfw.steps.frame_files import Found, gather
from alfw.steps.frame_listing import addition_lines, listing, stands_for, summary_lines

DATASET = "training_data.npz"  # in the folder --output
UNITS = "R Å, E eV, F eV/Å, D and Dxyz e·Å, esp Hartree/e"


def parser() -> Parser:
    """The flags."""
    parser = Parser(
        "active_learning_manager", "Structures saved by molecular dynamics: list, export, data set."
    )
    parser.add_argument("--source", nargs="+", default=[], metavar="PATH", help="folders, files, globs")
    parser.add_argument("--list", action="store_true", help="summarise what is there")
    parser.add_argument("--export-xyz", action="store_true", help="structures for QM into --output")
    parser.add_argument("--create-dataset", action="store_true", help="training data of --qm-results")
    parser.add_argument("--min-force", type=float, default=0.0, help="eV/Å, of the event")
    parser.add_argument("--max-force", type=float, help="eV/Å; not given: what is physical, by the data")
    parser.add_argument("--deduplicate", action="store_true", help="each structure once")
    parser.add_argument("--rmsd-threshold", type=float, default=0.5, help="Å, sqrt(mean over atoms of |d|²)")
    parser.add_argument("--max-structures", type=int, help="at most so many")
    parser.add_argument("--output", type=Path, default=Path("./al_export"), metavar="DIR")
    parser.add_argument("--qm-results", nargs="+", default=[], metavar="PATH", help="outputs of QM programs")
    parser.add_argument("--order", choices=["diverse", "force"], default="diverse", help="which, of more")
    parser.add_argument("--velocity-unit", choices=["A/fs", "mmml"], help="of files that do not say")
    parser.add_argument("--bad", action="store_true", help="of explosions the first bad frame")
    parser.add_argument("--charge", type=int, default=0, help="of structures that do not say")
    parser.add_argument("--multiplicity", type=int, default=1, help="2S + 1, of structures that do not say")
    parser.add_argument("--force", action="store_true", help="replace structures that are there")
    parser.add_argument("--json", action="store_true", help="results as JSON")
    return parser


def work(arguments: Namespace) -> int:
    """List, export, create, as asked; the exit code."""
    if not (arguments.list or arguments.export_xyz or arguments.create_dataset):
        raise ConfigError("nothing to do: --list, --export-xyz or --create-dataset")
    if (arguments.list or arguments.export_xyz) and not arguments.source:
        raise ConfigError("--source is needed: the active_learning folders of the runs")
    if arguments.create_dataset and not arguments.qm_results:
        raise ConfigError("--create-dataset needs --qm-results: outputs of QM programs")
    report: dict[str, Any] = {}
    code = OK
    if arguments.list or arguments.export_xyz:
        code = _structures(arguments, report)
    if arguments.create_dataset:
        code = max(code, _dataset(arguments, report))
    if arguments.json:
        show(json.dumps(report, indent=1, ensure_ascii=False))
    return code


def _structures(arguments: Namespace, report: dict[str, Any]) -> int:
    """List and export; the exit code."""
    found = gather(arguments.source, arguments.velocity_unit, True, arguments.charge, arguments.multiplicity)
    for each in found.unreadable:
        say(f"{each.file}: {each.why}")
    if found.unreadable:
        say(f"{len(found.unreadable)} unreadable")
    for note in found.notes:
        say(f"note: {note}")
    where = ", ".join(arguments.source)
    if not found.events:
        raise DataError(f"no structures in {where}")
    if arguments.list:
        kept = filtered(found.events, arguments.min_force, arguments.max_force)
        if not kept:
            raise DataError(f"no structures in {where}: none of {len(found.events)} has such a force")
        report["list"] = listing(Found(kept, {}, found.unreadable, found.notes))
        if not arguments.json:
            for line in [*summary_lines(kept), *addition_lines(kept)]:
                show(line)
    if arguments.export_xyz:
        _export(arguments, found, report)
    return CHECK_FAILED if found.unreadable else OK


def _export(arguments: Namespace, found: Found, report: dict[str, Any]) -> None:
    """Write structures for QM."""
    wanted = Wanted(
        deduplicate=arguments.deduplicate,
        rmsd_threshold_A=arguments.rmsd_threshold,
        min_force=arguments.min_force,
        max_force=arguments.max_force,
        max_structures=arguments.max_structures,
        order=arguments.order,
        bad=arguments.bad,
    )
    done = report["export"] = export(found, wanted, arguments.output, arguments.force)
    for note in done["notes"][len(found.notes) :]:
        say(f"note: {note}")
    if not arguments.json:
        _show_export(done)
    if not done["n_exported"]:
        raise DataError(f"{arguments.output} is not written: none of {done['n_found']} structures is left")
    command = f"prepare_qm_inputs --xyz-dir {arguments.output} --qm-software orca --output ./orca_inputs"
    say(f"next: python -m alfw.compat.{command}")


def _show_export(done: Mapping[str, Any]) -> None:
    """What was left out, what stands for what, what was written."""
    for each in done["excluded"]:
        show(f"left out: {each['source']}: {each['why']}")
    for each in done["merged"]:
        show(stands_for(each))
    if done["n_exported"]:
        show(f"Exported {done['n_exported']} structures to {done['output']}")


def _dataset(arguments: Namespace, report: dict[str, Any]) -> int:
    """Training data of QM outputs, or of training sets (NPZ) made of them; the exit code."""
    path = arguments.output if arguments.output.suffix == ".npz" else arguments.output / DATASET
    if all(name.endswith(".npz") for name in arguments.qm_results):
        return _merged(arguments, path, report)
    from alfw.steps.qm_read import collect, find_sources, save

    collected = collect(find_sources(arguments.qm_results), None, arguments.charge, _stated(arguments))
    done = report["dataset"] = save(path, collected, "Hartree/e")
    if not arguments.json:
        if collected.items:
            show(f"{path}: {done['n_labels']} structures; {UNITS}")
        show_refused(collected.refused)
    if not collected.items:
        raise DataError(f"no good output among {done['n_outputs']}: {path} is not written")
    return CHECK_FAILED if collected.refused else OK


def _merged(arguments: Namespace, path: Path, report: dict[str, Any]) -> int:
    """One training set of several; the exit code."""
    from alfw.io.datasets import Source
    from alfw.io.frames import expand_paths
    from alfw.io.pair_files import Reading
    from alfw.steps.data_files import merge_files

    sources = [Source(file) for file in expand_paths(arguments.qm_results)]
    reading = Reading(arguments.charge, arguments.multiplicity, "eV", True, "file")
    done = report["dataset"] = merge_files(sources, path, reading, esp_unit="Hartree/e")
    for note in done["notes"]:
        say(f"note: {note}")
    if not arguments.json:
        show(f"{done['file']}: {done['n_frames']} structures of {len(sources)} files; {UNITS}")
    return OK


def _stated(arguments: Namespace) -> int | None:
    """The multiplicity of outputs that do not say; 1 is no statement."""
    return None if arguments.multiplicity == 1 else int(arguments.multiplicity)


if __name__ == "__main__":
    leave(parser(), work)

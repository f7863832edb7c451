"""Raw outputs in a folder of QM inputs: kept by `alfw qm run`, or left by a program that somebody ran by hand."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alfw.core.errors import LabelError, StructureError, UnknownLabelError
from alfw.core.frame import Frame
from alfw.core.ids import sha256
from alfw.core.records import Label, Run
from alfw.io.files import remove, replacing, write_file
from alfw.labelers.outputs import CODES, labels, main_output, output_files, outputs_in, reader
from alfw.steps.qm_folder import QMFolder, Refused

RECORD = "run.json"


def output_suffix(kind: str) -> str:
    """What users call the main output of this program."""
    return ".log" if kind == "gaussian" else ".out"


def save_run(folder: QMFolder, stem: str, run: Run, label: Label | None, refused: Refused | None) -> None:
    """Keep the raw output and what was made of it; the main output also as a plain file."""
    record: dict[str, Any] = {
        "verdict": "failed" if label is None else "good",
        "theory": folder.theory,
        "frame": folder.items[stem].frame.id,
        "energy_eV": None if label is None else label.energy,
        "failure": None if refused is None else refused.as_json("frame"),
        "corrections": [dict(correction) for correction in run.corrections],
        "changes": dict(run.changes),
        "wall_s": round(run.wall_s, 3),
        "version": run.version if label is None else label.version,
        "command": run.command,
        "host": run.host,
        "files": sorted(run.files),
    }
    main = main_output(folder.labeler.kind, run.files)
    plain = folder.path / (stem + output_suffix(folder.labeler.kind))
    if main is None:
        remove(plain)  # of an earlier attempt
    else:
        write_file(plain, main)
    with replacing(folder.run_folder(stem)) as temporary:
        temporary.mkdir()
        for name, data in run.files.items():
            (temporary / f"{name}.gz").write_bytes(gzip.compress(data, 5, mtime=0))
        (temporary / RECORD).write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")


def record_of(folder: QMFolder, stem: str) -> Mapping[str, Any] | None:
    """What `save_run` wrote for this frame at this theory; None where it did not."""
    try:
        record = json.loads((folder.run_folder(stem) / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fits = isinstance(record, dict) and (record.get("theory"), record.get("frame")) == (
        folder.theory,
        folder.items[stem].frame.id,
    )
    return record if fits else None


def load_run(folder: QMFolder, stem: str) -> Run | None:
    """The raw output that `alfw qm run` kept for this frame at this theory, else one left by hand; None = none.

    Raises
    ------
    LabelError
        There is one, but it is empty, broken, or of another program.
    """
    record = record_of(folder, stem)
    if record is None:
        return _by_hand(folder, stem)
    place = folder.run_folder(stem)
    try:
        files = {name: gzip.decompress((place / f"{name}.gz").read_bytes()) for name in record["files"]}
    except (OSError, EOFError, zlib.error) as error:
        raise UnknownLabelError(f"{place}: broken ({error})", str(error)) from error
    more = {key: record[key] for key in ("corrections", "changes", "wall_s", "version", "command", "host")}
    return Run(files, **more)


def _by_hand(folder: QMFolder, stem: str) -> Run | None:
    """The output of a program that somebody ran on the written input."""
    kind = folder.labeler.kind
    if kind not in CODES:
        return None
    plain = [folder.path / f"{stem}{suffix}{packed}" for suffix in (".out", ".log") for packed in ("", ".gz")]
    for path in plain:
        if path.is_file():
            return read_run(folder, path)
    place = folder.path / stem
    return read_run(folder, place) if place.is_dir() and outputs_in(place, kind) else None


def read_run(folder: QMFolder, output: Path) -> Run:
    """A run by hand.

    Raises
    ------
    LabelError
        Its output is empty, broken, or of another program or version than the labeler's.
    """
    return _checked_version(folder, Run(output_files(output, folder.labeler.kind)[1]))


def untouched(folder: QMFolder, stem: str) -> bool:
    """Whether the inputs of a frame are as they were written."""
    mine = {
        n: digest for n, digest in folder.inputs.items() if Path(n).stem == stem or n.startswith(f"{stem}/")
    }
    paths = {folder.path / name: digest for name, digest in mine.items()}
    return all(path.is_file() and sha256(path.read_bytes()) == digest for path, digest in paths.items())


def _checked_version(folder: QMFolder, run: Run) -> Run:
    """The run, if it is of the version that the labeler states."""
    wanted = getattr(folder.labeler, "version", None)
    if wanted is None:
        return run
    found = reader(folder.labeler.kind).output(run.files).version
    if not (found.rpartition(" ")[2] + ".").startswith(f"{wanted}."):
        what = f"an output of {found}, but the labeler states version {wanted}"
        raise StructureError(what, found)
    return run


def labelled(folder: QMFolder, stem: str, run: Run) -> list[tuple[Frame, Label]]:
    """The frame with its label, and every further step of the output with the frame it is of.

    Raises
    ------
    LabelError
        There is no label of the frame.
    """
    frame = folder.items[stem].frame
    label = folder.labeler.parse(frame, run)
    if folder.labeler.kind not in CODES:
        return [(frame, label)]
    found = labels(reader(folder.labeler.kind).output(run.files), frame)
    return [(each, label if each is frame else other) for each, other in found]


def is_done(folder: QMFolder, stem: str) -> bool:
    """Whether there is a good output of this frame at this theory."""
    record = record_of(folder, stem)
    if record is not None:
        return bool(record["verdict"] == "good")
    try:
        run = _by_hand(folder, stem)
        return run is not None and bool(labelled(folder, stem, run))
    except LabelError:
        return False


def output_stem(path: Path) -> str:
    """The name of an output file without ``.out``, ``.log`` and ``.gz``; another name as it is."""
    name = path.name.removesuffix(".gz")
    return Path(name).stem if Path(name).suffix in (".out", ".log") else name

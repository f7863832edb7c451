"""Outputs of any program that alfw reads: which one it is of, and what it says."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np

from alfw.core.errors import (
    DataError,
    MissingOutputError,
    StructureError,
    UnknownLabelError,
)
from alfw.core.frame import Frame
from alfw.core.records import Label, Run
from alfw.labelers._common import about_mass_centre, check_electrons
from alfw.labelers._judge import checked
from alfw.labelers._output import Output, Reader, Step, step_of

CODES = ("castep", "cp2k", "espresso", "gaussian", "nwchem", "orca", "psi4", "qchem", "vasp", "xtb")
# Words for closed and open shells of one method.
SPINS = {"rks": "", "uks": "", "rhf": "hf", "uhf": "hf"}
HEAD_BYTES = 4_000_000  # in which a mark is looked for where a folder is searched for outputs


def reader(code: str) -> Reader:
    """The reader of this code's outputs.

    Raises
    ------
    DataError
        There is none.
    """
    if code not in CODES:
        raise DataError(f"no reader for outputs of {code!r}; there are {', '.join(CODES)}")
    found: Reader = import_module(f"alfw.labelers.readers.{code}").READER
    return found


def marks(data: bytes) -> list[str]:
    """The codes whose mark an output has; one, if it is an output that alfw reads."""
    return [code for code in CODES if _marked(data, code)]


def recognise(data: bytes) -> str:
    """The code that a main output is of.

    Raises
    ------
    UnknownLabelError
        None that alfw knows, or more than one.
    """
    found = marks(data)
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownLabelError(f"looks like an output of {' and of '.join(found)}: say which with --labeler")
    lines = (line.strip() for line in data[:10000].decode(errors="replace").splitlines())
    first = next((line for line in lines if line), "nothing but blanks")
    raise UnknownLabelError(f"not an output of {', '.join(CODES)}; it begins with: {first[:80]}", first)


def output_files(path: Path, code: str | None = None) -> tuple[Reader, dict[str, bytes]]:
    """The reader of an output, and the output with what belongs to it by the names that the reader knows.

    Parameters
    ----------
    path : Path
        A main output, packed by gzip or not, or the folder of a calculation.
    code : str, optional
        None: recognised from the output.

    Raises
    ------
    LabelError
        Missing, empty, not unpackable, or of no program that alfw knows.
    """
    if path.is_dir():
        path = _main_in(path, code)
    data = _bytes(path)
    if not data.strip():
        raise MissingOutputError("the output is empty", "empty file")
    found = reader(code or recognise(data))
    files = {found.main: data}
    for name, beside in found.companions(path.with_suffix("") if path.suffix == ".gz" else path).items():
        for candidate in (beside, beside.with_name(beside.name + ".gz")):
            if name not in files and candidate.is_file():
                files[name] = _bytes(candidate)
    return found, files


def read_output(path: Path, code: str | None = None) -> Output:
    """What an output says, if it ended well; as `output_files`.

    Raises
    ------
    LabelError
        The subclass that the output calls for, with its literal line as `signature`.
    """
    found, files = output_files(path, code)
    return found.output(files)


def outputs_in(folder: Path, code: str | None = None) -> list[Path]:
    """The main outputs in a folder: that of one calculation by its usual name, else all there are; sorted."""
    codes = [code] if code else CODES
    names = dict.fromkeys(reader(each).main for each in codes)
    usual = [folder / f"{name}{packed}" for name in names for packed in ("", ".gz")]
    for path in usual:
        if path.is_file() and any(_marked(_bytes(path), each) for each in codes):
            return [path]
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    # Of one calculation, beside NAME_OUTCAR: they are no outputs of their own.
    names = [path.name.removesuffix(".gz").removesuffix("OUTCAR") for path in files if "OUTCAR" in path.name]
    beside = {name + other for name in names for other in ("log", "CONTCAR", "vasprun.xml")}
    return [path for path in files if path.name.removesuffix(".gz") not in beside and _is_output(path, codes)]


def _is_output(path: Path, codes: Sequence[str]) -> bool:
    """Whether the beginning of a file has a mark of one of these codes."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return False
    return any(_marked(head, code) for code in codes)


def _main_in(folder: Path, code: str | None) -> Path:
    """The main output in the folder of one calculation."""
    found = outputs_in(folder, code)
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownLabelError(f"{len(found)} outputs in this folder: {found[0].name}, {found[1].name} …")
    raise MissingOutputError(
        f"no output of {code or 'any program that alfw knows'} in this folder", "no output"
    )


def _marked(data: bytes, code: str) -> bool:
    """Whether an output has the mark of this code."""
    return re.search(reader(code).mark.encode(), data, re.MULTILINE) is not None


def _bytes(path: Path) -> bytes:
    """Content of a file, unpacked where it is packed."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnknownLabelError(f"cannot be unpacked ({error})", "broken gzip file") from error
    except OSError as error:
        raise MissingOutputError(f"cannot be read: {error.strerror}", str(error.strerror)) from error


def level(output: Output) -> str:
    """Code, major version and method of an output, in words; outputs that differ in it do not belong together."""
    major = output.version.rpartition(" ")[2].partition(".")[0]
    words = [SPINS.get(word.lower(), word) for word in output.theory.split(" ")]
    return f"{output.code} {major}: {' '.join(word for word in words if word)}".strip().rstrip(":")


def labels(
    output: Output, known: Frame | None = None, charge: int = 0, multiplicity: int | None = None
) -> list[tuple[Frame, Label]]:
    """Every step of an output with the frame it is of.

    Parameters
    ----------
    known : Frame, optional
        What was submitted: the step that lies there is its label, and there has to be one.
    charge, multiplicity : int
        Of outputs that do not say; multiplicity None = 1, if the number of electrons allows it.

    Raises
    ------
    LabelError
        A step that is absurd, or of other atoms, charge or multiplicity than `known`.
    """
    found = []
    matched = False
    for step in output.steps:
        frame = _frame(output, step, known, charge, multiplicity)
        if known is not None:
            try:
                step = step_of(known, replace(output, steps=[step]))
                frame, matched = known, True
            except StructureError:
                pass  # a label of its own geometry; that none is the known frame's is refused below
        found.append((frame, _label(frame, step, output.version)))
    if known is not None and not matched:
        step_of(known, output)  # says why
    return found


def _frame(output: Output, step: Step, known: Frame | None, charge: int, multiplicity: int | None) -> Frame:
    """The frame of a step, in the orientation of the output."""
    if output.charge is not None:
        charge = output.charge
    elif known is not None:
        charge = known.charge
    wanted = output.multiplicity or (known.multiplicity if known is not None else multiplicity)
    periodic = step.cell is not None
    try:
        frame = Frame(
            numbers=step.numbers,
            positions=step.positions,
            cell=np.zeros((3, 3)) if step.cell is None else step.cell,
            pbc=np.full(3, periodic),
            charge=charge,
            multiplicity=wanted or 1,
        )
    except DataError as error:
        raise UnknownLabelError(str(error)) from error
    if output.multiplicity is None and known is None and not periodic:
        check_electrons(frame)
    return frame


def _label(frame: Frame, step: Step, version: str) -> Label:
    """The label of a step in the frame's own orientation."""
    dipole = about_mass_centre(step.dipole, frame) if step.dipole is not None and not frame.periodic else None
    return checked(
        frame,
        Run(files={}, version=version),
        total_energy=True,
        energy=step.energy,
        forces=step.forces,
        stress=step.stress if frame.periodic else None,
        dipole=dipole,
        charges=step.charges,
        s_squared=step.s_squared,
        esp=step.esp,
        esp_points=step.esp_points,
    )


def main_output(kind: str, files: Mapping[str, bytes]) -> bytes | None:
    """The output that people look at among the files of a run; None where there is none."""
    name = reader(kind).main if kind in CODES else "output.log"
    return files.get(name)

"""Files that alfw and the user's script hand to each other."""

from __future__ import annotations

import tempfile
from pathlib import Path

from alfw.core.errors import (
    DataError,
    DeckError,
    DivergedError,
    GradientMissingError,
    MissingOutputError,
    UnknownLabelError,
)
from alfw.core.frame import Frame
from alfw.core.records import Label
from alfw.io.frames import read_frames, write_extxyz
from alfw.io.imported import Imported
from alfw.labelers._output import Output, Step
from alfw.labelers.outputs import marks, reader

MAX_BYTES = 1_000_000  # of a file that travels in the campaign


def file_text(path: Path) -> str:
    """A file of the user that is to travel in the campaign.

    Raises
    ------
    DataError
        Missing, too large, or not text.
    """
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise DataError(f"{path}: {len(data)} bytes are too many; install it on the workers instead")
        return data.decode("utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8; install it on the workers instead") from error


def is_poscar(name: str) -> bool:
    """Whether VASP's structure format is meant."""
    return name.endswith(".vasp") or name.startswith(("POSCAR", "CONTCAR"))


def structure_file(frame: Frame, name: str) -> bytes:
    """The structure file in the format that its name says, with 8 decimals and more.

    Raises
    ------
    DeckError
        ASE does not write such files.
    """
    from ase.io import write  # a third of a second, which most commands can do without

    with tempfile.TemporaryDirectory(prefix="alfw_") as folder:
        path = Path(folder) / name
        if path.suffix in (".extxyz", ".xyz"):
            write_extxyz(path, [Imported(frame)])
        elif is_poscar(name):
            write(path, frame.to_atoms(), format="vasp")
        else:
            try:
                write(path, frame.to_atoms())
            except Exception as error:  # any of ASE's writers
                raise DeckError(f"structure: ASE cannot write {name!r} ({error})") from error
        return path.read_bytes()


def result_output(data: bytes, name: str) -> Output:
    """The result, through the reader of the program that wrote it, else through ASE.

    Raises
    ------
    LabelError
        Empty, unreadable, not converged, without energy and forces, not finite.
    """
    if not data.strip():
        raise MissingOutputError(f"{name} is empty")
    codes = marks(data)
    if len(codes) == 1:
        found = reader(codes[0])
        return found.output({found.main: data})
    with tempfile.TemporaryDirectory(prefix="alfw_") as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            items = read_frames(path, partial_pbc="vacuum")
        except DataError as error:
            text = str(error).replace(str(path), name)
            raise (DivergedError if "finite" in text else UnknownLabelError)(text) from error
    steps = [_step(item.frame, item.label) for item in items if item.label is not None]
    if not steps:
        raise GradientMissingError(f"{name} has no energy with forces")
    return Output("command", "", steps)


def _step(frame: Frame, label: Label) -> Step:
    """A labelled frame of a file as a step."""
    return Step(
        numbers=frame.numbers,
        positions=frame.positions,
        energy=label.energy,
        forces=label.forces,
        cell=frame.cell if frame.periodic else None,
        stress=label.stress,
        dipole=label.dipole,
        charges=label.charges,
    )

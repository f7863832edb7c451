"""Outputs of VASP 5 and 6: OUTCAR and vasprun.xml, which have to agree where both are there, and what it prints.

Source of the lines: https://www.vasp.at/wiki; those of errors as custodian's handlers know them (MIT,
materialsproject/custodian).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from alfw.core.errors import (
    BasisError,
    DeckError,
    ExecutableError,
    InputError,
    LabelError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    OutOfMemoryLabelError,
    StructureError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.labelers._output import MATCH_A, Output, Reader, Step
from alfw.labelers.readers.endings import broken_off, from_system
from alfw.labelers.readers.vasp_files import CONVERGED, LAST_LINE, TIMING, Told, outcar, vasprun

Files = Mapping[str, bytes]
XML = "vasprun.xml"
ENERGY_eV, FORCE_eV_per_A = 1e-5, 1e-4  # how far the two files may be apart: what is rounded differently

MESH = r"different class of lattices|Could not get correct shifts"
# Trouble with the symmetry that VASP finds in a frame; it goes without.
SYMMETRY = (
    r"internal error in subroutine (?:IBZKPT|PRICEL|SGRCON)|PRICELV|POSMAP|RHOSYG|HNFORM"
    r"|Fatal error detecting k-mesh|unable to match k-point|rotation matrix was not found"
    r"|group operation missing|non-integer element in rotation|Inconsistent Bravais lattice"
    r"|number of G-vector changed in star|not all point group operations"
    r"|determination of the symmetry of your systems shows a strong"
)
# Of an output that is not complete: regular expression of a line → class; first match wins.
FATAL: tuple[tuple[str, type[LabelError]], ...] = (
    (r"unable to find the specified executable|execvp error|execve\(\)|not enough slots", ExecutableError),
    (r"attempt to run as root", ExecutableError),
    (r"Error reading item|Error code was IERR|Spin polarized Harris functional dynamics", DeckError),
    (r"number of potentials on File POTCAR|type information is not consistent with", BasisError),
    (r"triple product of the basis vectors", InputError),
    (r"hard stop|soft stop encountered", WalltimeError),
    (r"virtual memory exhausted|oom_kill", OutOfMemoryLabelError),
    (r"BRMIX: very serious problems|supplied exchange-correlation table", NotConvergedError),
    (
        r"Routine ZPOTRF|Call to (?:routine )?ZHE|call to ZHE|in subspace rotation P[SD]SYEVX",
        NotConvergedError,
    ),
    (r"the gradient is not orthogonal|SBESSELITER : nicht konvergent", NotConvergedError),
    (r"TOO FEW BANDS|number of bands is not sufficient", InputError),
    # The mesh of k-points does not fit to the smearing, or to the lattice.
    (r"[Tt]etrahedron method fails|TETIRR needs special|DENTET", DeckError),
    (MESH, DeckError),
    (SYMMETRY, InputError),
    (r"internal E(?:RROR|rror)|ERROR RSPHER|REAL_OPTLAY: internal error", UnknownLabelError),
    (r"ALGO=A and IALGO=5X tend to fail", DeckError),  # a warning: what comes of it stands above
)
# Of a complete output: with these its numbers are wrong all the same.
VOID: tuple[tuple[str, type[LabelError]], ...] = (
    (r"TOO FEW BANDS|number of bands is not sufficient", InputError),
    (r"[Tt]etrahedron method fails", DeckError),
)
CHARGE_LOST = r"BRMIX: very serious problems"  # normal where charged cells begin with atoms' densities
BOX = re.compile(r"^\| {2,}(\S.*?) *\|$", re.MULTILINE)
LETTERS = re.compile(r"(.)\1{2}|^[A-Z#!](?: +[A-Z#!]+)+$")  # rows of the letters that VASP draws over errors
# Where one of these has another value, energy or forces are not those of the structure at the stated theory.
PLAIN = {"PSTRESS": 0.0, "SCALEE": 1.0, "VCA": 1.0}


def read(files: Files) -> Output:
    """Every ionic step whose electronic loop converged.

    Raises
    ------
    LabelError
        The output is not complete, its two files disagree, or no loop converged.
    """
    text, xml, log = _sorted(files)
    everything = f"{log}\n{text}"
    if not ((text and TIMING in text and LAST_LINE in text) or (xml and not text)):
        raise _ending(files, everything)
    told = [part for part in (outcar(text) if text else None, vasprun(xml) if xml else None) if part]
    if len(told) == 2:
        _agree(*told)
    # OUTCAR says that a loop converged, vasprun.xml has more digits.
    steps = [step for step, fine in zip(told[-1].steps, told[0].converged, strict=True) if fine]
    if not steps:
        raise _unconverged(everything, told[0])
    charge = _charge(told[0])
    _plain(told)
    for pattern, error in (*VOID, *(() if charge else ((CHARGE_LOST, NotConvergedError),))):
        line = _line(pattern, everything)
        if line is not None:
            raise error(line, line)
    return Output(
        code="vasp",
        version=f"vasp {told[0].version}",
        steps=steps,
        theory=_theory(told[0]),
        charge=charge,
        multiplicity=_multiplicity(told[0]),
        grouped=True,
    )


def _sorted(files: Files) -> tuple[str, bytes, str]:
    """OUTCAR, vasprun.xml, and all else that is text, whatever their names are."""
    text, xml, log = "", b"", ""
    for data in files.values():
        if data.lstrip()[:5] in (b"<?xml", b"<mode"):
            xml = data
        elif re.search(rb"^ (?:INCAR:|POTCAR: |executed on )", data[:20000], re.MULTILINE):
            text = data.decode(errors="replace")
        else:
            log += data.decode(errors="replace") + "\n"
    return text, xml, log


def _line(pattern: str, text: str) -> str | None:
    """The first line that matches, without the box around it."""
    found = re.search(f"^.*(?:{pattern}).*$", text, re.MULTILINE)
    return None if found is None else found.group().strip(" |")


def _ending(files: Files, text: str) -> LabelError:
    """Why the output is not complete."""
    system = from_system(text)
    if system is not None and not isinstance(system, MPIAbortError):
        return system
    for pattern, error in FATAL:
        line = _line(pattern, text)
        if line is not None:
            return error(f"VASP: {line}", line)
    if "REFUSE TO CONTINUE WITH THIS SICK JOB" in text:
        said = [line for line in BOX.findall(text) if not LETTERS.search(line)]
        line = said[0] if said else "I REFUSE TO CONTINUE WITH THIS SICK JOB"
        at_fault = any(re.search(r"\b(?:INCAR|KPOINTS|POTCAR)\b", each) for each in said)
        return (DeckError if at_fault else UnknownLabelError)(f"VASP refuses: {line}", line)
    return broken_off(files, text)


def _agree(one: Told, other: Told) -> None:
    """Raise StructureError when OUTCAR and vasprun.xml are not of the same calculation."""
    if len(one.steps) != len(other.steps):
        raise StructureError(f"OUTCAR has {len(one.steps)} ionic steps, vasprun.xml {len(other.steps)}")
    for i, (a, b) in enumerate(zip(one.steps, other.steps, strict=True)):
        if not np.array_equal(a.numbers, b.numbers):
            what = "atoms"
        elif _apart(a, b) > MATCH_A:
            what = "structures"
        elif abs(a.energy - b.energy) > ENERGY_eV:
            what = "energies"
        elif np.abs(a.forces - b.forces).max() > FORCE_eV_per_A:
            what = "forces"
        else:
            continue
        raise StructureError(f"OUTCAR and vasprun.xml have different {what} in step {i + 1}")


def _apart(one: Step, other: Step) -> float:
    """Largest distance (Å) between rows of the cells, or positions modulo lattice vectors."""
    if one.cell is None or other.cell is None:
        return np.inf
    shift = (one.positions - other.positions) @ np.linalg.inv(other.cell)
    away = (shift - np.round(shift)) @ other.cell
    return float(max(np.abs(away).max(), np.abs(one.cell - other.cell).max()))


def _unconverged(text: str, told: Told) -> LabelError:
    """Why no step counts."""
    if not told.steps:
        return MissingOutputError("no ionic step", "no ionic step")
    line = _line("aborting loop (?!because EDIFF)", text)
    if line is None:
        limit = told.tags["NELM"]
        line = _line(CONVERGED, text) or f"NELM = {limit}"
        return NotConvergedError(f"no electronic loop converged within NELM = {limit} cycles", line)
    error = WalltimeError if "stop" in line else NotConvergedError
    return error(line.strip("- "), line.strip("- "))


def _plain(told: list[Told]) -> None:
    """Raise UnknownLabelError where energies or forces are not what they seem."""
    tags = {**told[-1].tags, **told[0].tags}
    for tag, plain in PLAIN.items():
        if float(tags.get(tag, plain)) != plain:
            line = f"{tag} = {tags[tag]}"
            raise UnknownLabelError(f"{line}: energy or forces are not those of the structure alone", line)
    if int(tags["ICHARG"]) >= 10:
        line = f"ICHARG = {tags['ICHARG']}"
        raise UnknownLabelError(
            f"{line}: the density was kept fixed, the energy is not self-consistent", line
        )
    if tags.get("ML_LMLFF", "F").strip(".").upper().startswith("T"):
        raise UnknownLabelError("ML_LMLFF: the steps may be those of a force field", "ML_LMLFF = .TRUE.")


def _charge(told: Told) -> int:
    """Charge (e) of the cell."""
    charge = told.valence - float(told.tags["NELECT"])
    if abs(charge - round(charge)) > 1e-3:
        line = f"NELECT = {told.tags['NELECT']}"
        raise UnknownLabelError(f"{line}: a charge of {charge:.4f} e", line)
    return round(charge)


def _multiplicity(told: Told) -> int | None:
    """2S + 1 where it was fixed, or there is no spin; else None."""
    if int(told.tags["ISPIN"]) == 1:
        return 1
    fixed = float(told.tags["NUPDOWN"])
    return round(fixed) + 1 if fixed >= 0 else None


def _theory(told: Told) -> str:
    """What the output says of the theory, in VASP's words."""
    kinds = sorted({title.split()[0] for title in told.titles})
    said = {tag: told.tags[tag] for tag in ("PREC", "LREAL", "ISMEAR") if tag in told.tags}
    said |= {tag: f"{float(told.tags[tag]):.2f}".rstrip("0").rstrip(".") for tag in ("ENCUT", "SIGMA")}
    for tag in ("GGA", "METAGGA", "LHFCALC", "LDAU", "IVDW"):
        value = told.tags.get(tag, "--").upper()
        said |= {} if value in ("--", "F", "0", "NONE") else {tag: value}
    if "LHFCALC" in said:
        said |= {tag: f"{float(told.tags[tag]):g}" for tag in ("AEXX", "HFSCREEN") if tag in told.tags}
    return " ".join([*kinds, *(f"{tag}={value}" for tag, value in said.items())])


def _companions(path: Path) -> dict[str, Path]:
    """The other one of OUTCAR and vasprun.xml."""
    for mine, other in (("OUTCAR", XML), (XML, "OUTCAR")):
        if mine in path.name:
            return {f"{other} beside it": path.with_name(path.name.replace(mine, other))}
    return {}


def both(files: Files) -> bool:
    """Whether OUTCAR and vasprun.xml are there."""
    text, xml, _ = _sorted(files)
    return bool(text and xml)


READER = Reader(
    code="vasp",
    mark=r'^ vasp\.\d|type="string">vasp |^\| +W {4}W {4}AA {4}RRRRR|^\| +EEEEEEE  RRRRRR   RRRRRR',
    main="OUTCAR",
    read=read,
    companions=_companions,
)

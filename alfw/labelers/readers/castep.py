"""What CASTEP 17 to 25 prints into its .castep file: single points, geometry optimisations, molecular dynamics.

ASE's reader is not used: it does not ask whether the SCF converged, and gives the energy without dispersion where
there is one with it (3.29). Source of the lines: outputs of CASTEP 17.2, 19.1, 20.11 and 25.1; https://www.castep.org.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    GradientMissingError,
    LabelError,
    MPIAbortError,
    NotConvergedError,
    OutOfMemoryLabelError,
    StructureError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.core.frame import Float
from alfw.core.units import EV_PER_A3_GPa
from alfw.labelers._output import Output, Reader, Step
from alfw.labelers.readers.endings import broken_off, from_system

Files = Mapping[str, bytes]
MAIN = "castep.castep"
BANNER = r"CCC   AA    SSS  TTTTT  EEEEE  PPPP"
END = r"^Total time +="
UNITS = {"length": "A", "energy": "eV", "force": "eV/A", "pressure": "GPa", "charge": "e"}
UNCONVERGED = r"has not reached the groundstate|electronic minimisation did not converge"
# Of a run that did not come to its end, in its .err file or above: regular expression → class, first match wins.
FATAL: tuple[tuple[str, type[LabelError]], ...] = (
    (r"Insufficient time for another iteration", WalltimeError),
    (r"[Nn]ot enough memory|[Ee]rror (?:in )?allocating", OutOfMemoryLabelError),
    (r"[Nn]umber of electrons.*spin|spin.*inconsistent", ChargeError),
    (r"[Pp]seudopotential.*(?:not found|[Ee]rror)|[Ee]rror.*[Pp]seudopotential", BasisError),
    (UNCONVERGED, NotConvergedError),
)
READING = (
    r"^ *(?:parameters_read|parameters_validate|cell_read)\w*$"  # in the stack of calls: the deck is at fault
)

EVENT = re.compile(
    r"^ +Unit Cell *$"
    r"|^.*Fractional coordinates of atoms.*$"
    r"|^ *(?:Final|Dispersion corrected final) (?:free )?energy.*$"
    r"|^ \*+ .*Forces \*+$"
    r"|^ \*+ .*Stress Tensor \*+$"
    rf"|^.*(?:{UNCONVERGED}).*$",
    re.MULTILINE,
)
NUMBER = r"(-?\d+\.\d+)"
ATOM = re.compile(rf"^ +x +([A-Z][a-z]?)(?::\S+)? +\d+ +{NUMBER} +{NUMBER} +{NUMBER} +x *$", re.MULTILINE)
FORCE = re.compile(rf"^ \* +([A-Z][a-z]?)(?::\S+)? +\d+ +{NUMBER} +{NUMBER} +{NUMBER} +\* *$", re.MULTILINE)
TENSION = re.compile(rf"^ \* +[xyz] +{NUMBER} +{NUMBER} +{NUMBER} +\* *$", re.MULTILINE)


@dataclass
class _Draft:
    """What is known so far of one geometry."""

    symbols: list[str]
    positions: Float  # fractional
    cell: Float
    energies: dict[str, float]
    forces: Float | None = None
    stress: Float | None = None
    unconverged: str = ""

    @property
    def complete(self) -> bool:
        return self.forces is not None and bool(self.energies) and not self.unconverged


def read(files: Files) -> Output:
    """Every geometry with its energy and forces, of the last run in the file.

    Raises
    ------
    LabelError
        That run has not come to its end, did not converge, or has no forces.
    """
    text = files.get(MAIN, b"").decode(errors="replace")
    begins = [found.start() for found in re.finditer(BANNER, text)]
    run = text[begins[-1] :] if begins else ""
    if not re.search(END, run, re.MULTILINE):
        raise _ending(files, run)
    for name, unit in UNITS.items():
        if _said(rf"output +{name} unit", run) != unit:
            raise UnknownLabelError(f"{name} not in {unit}", f"output {name} unit: not {unit}")
    drafts = _drafts(run)
    if _said("type of calculation", run) == "molecular dynamics":
        for draft in drafts:
            draft.stress = None  # it has a part of the moving atoms
    dispersion = _said("DFT.D: Semi-empirical dispersion correction", run) == "on"
    metallic = "Treating system as metallic" in run
    steps = [_step(draft, dispersion, metallic) for draft in drafts if draft.complete]
    if not steps:
        for line in (draft.unconverged for draft in drafts if draft.unconverged):
            raise NotConvergedError(line, line)
        raise GradientMissingError("no geometry with energy and forces")
    version = re.search(r"CASTEP version +([\d.]+)", run)
    return Output(
        code="castep",
        version=f"castep {version[1]}" if version else "castep",
        steps=steps,
        theory=_theory(run),
        charge=_charge(run),
        multiplicity=1 if "treating system as non-spin-polarized" in run else None,
        grouped=True,
    )


def _drafts(run: str) -> list[_Draft]:
    """Every geometry of a run, in order."""
    cell: Float = np.zeros((3, 3))
    drafts: list[_Draft] = []
    only_centre = (
        re.search(r"Number of ionic constraints += +3\n", run) and "Centre of mass is constrained" in run
    )
    for event in EVENT.finditer(run):
        line, below = event.group().strip(), run[event.end() :]
        if line == "Unit Cell":
            cell = _cell(below)
            if drafts:  # positions follow only where they have changed as well
                drafts.append(_Draft(drafts[-1].symbols, drafts[-1].positions, cell, {}))
        elif "Fractional coordinates" in line:
            rows = ATOM.findall(below[: _end(below, "xxxxxxxx")])
            fractional = np.array([[float(x) for x in row[1:]] for row in rows])
            drafts.append(_Draft([row[0] for row in rows], fractional, cell, {}))
        elif not drafts:
            continue
        elif "nergy" in line:
            _add_energy(drafts[-1], line)
        elif "Forces" in line:
            if " Constrained" not in line or only_centre:
                drafts[-1].forces = _forces(drafts[-1], below[: _end(below, " ********")])
        elif "Stress" in line:
            drafts[-1].stress = _stress(below[: _end(below, " ********")])
        else:
            drafts[-1].unconverged = line
    expected = int(_found(r"Total number of ions in cell += +(\d+)", run))
    if any(len(draft.symbols) != expected for draft in drafts):
        raise StructureError(f"a list of positions does not have {expected} atoms")
    return drafts


def _add_energy(draft: _Draft, line: str) -> None:
    """Take a final energy; those with dispersion follow those without, and a new SCF starts with the plain one."""
    kind = ("dispersion " if line.startswith("Dispersion") else "") + (
        "free" if "free energy" in line else "energy"
    )
    if kind == "energy":
        draft.energies.clear()
        draft.forces = draft.stress = None
    draft.energies[kind] = float(_found(r"= *(\S+?) *eV$", line))


def _step(draft: _Draft, dispersion: bool, metallic: bool) -> Step:
    """A complete geometry with the energy whose derivative the forces are; UnknownLabelError without that one."""
    kind = ("dispersion " if dispersion else "") + ("free" if metallic else "energy")
    if kind not in draft.energies or draft.forces is None:
        raise UnknownLabelError(f"no {kind} energy among {', '.join(draft.energies)}", f"no {kind} energy")
    return Step(
        numbers=np.array([atomic_numbers[symbol] for symbol in draft.symbols]),
        positions=draft.positions @ draft.cell,
        energy=draft.energies[kind],
        forces=draft.forces,
        cell=draft.cell,
        stress=draft.stress,
    )


def _cell(below: str) -> Float:
    """(3, 3) Å, from the table that begins below."""
    rows = re.findall(rf"^ +{NUMBER} +{NUMBER} +{NUMBER}(?: +{NUMBER}){{3}} *$", below[:1500], re.MULTILINE)[
        :3
    ]
    return np.array([[float(x) for x in row[:3]] for row in rows]).reshape(3, 3)


def _stress(table: str) -> Float:
    """(3, 3) eV/Å^3; the pressure below the table, minus a third of its trace, tells its sign.

    Raises
    ------
    UnknownLabelError
        The two do not fit.
    """
    stress = np.array(TENSION.findall(table), float).reshape(3, 3)
    pressure = float(_found(r"Pressure: +(\S+)", table))
    if abs(np.trace(stress) / 3 + pressure) > 1e-3 + 1e-4 * abs(pressure):
        raise UnknownLabelError("stress and pressure do not fit", f"Pressure: {pressure}")
    return stress / EV_PER_A3_GPa


def _forces(draft: _Draft, table: str) -> Float | None:
    """(n, 3) eV/Å; None where constraints set some to zero, StructureError where they are of other atoms."""
    if "cons'd" in table:
        return None
    rows = FORCE.findall(table)
    if [row[0] for row in rows] != draft.symbols:
        raise StructureError("the forces are of other atoms than the positions")
    return np.array([[float(x) for x in row[1:]] for row in rows])


def _end(below: str, border: str) -> int:
    """Where the table ends that begins below: at its lower border."""
    first = re.search(r"\d", below)
    place = below.find(border, first.start() if first else 0)
    return place if place >= 0 else len(below)


def _found(pattern: str, text: str) -> str:
    """What the group of a pattern matches.

    Raises
    ------
    UnknownLabelError
        Nothing.
    """
    found = re.search(pattern, text)
    if found is None:
        raise UnknownLabelError(f"the output lacks {pattern}", "not what CASTEP prints")
    return found[1]


def _said(name: str, run: str) -> str:
    """A parameter of the header, e.g. what follows ``net charge of system :``."""
    found = re.search(rf"^ *{name} *: *(.*?) *$", run, re.MULTILINE)
    return found[1] if found else ""


def _charge(run: str) -> int:
    """Net charge (e)."""
    said = _said("net charge of system", run)
    charge = float(said or "nan")
    if not abs(charge - np.round(charge)) < 1e-3:
        raise UnknownLabelError(f"a charge of {said or 'unknown size'}", "net charge of system")
    return round(charge)


def _theory(run: str) -> str:
    """What the header says of the theory."""
    names = (
        "using functional",
        "plane wave basis set cut-off",
        "SEDC with",
        "smearing scheme",
        "smearing width",
    )
    said = [" ".join(_said(name, run).split()) for name in names]
    return ", ".join(text for text in said if text)


def _ending(files: Files, run: str) -> LabelError:
    """Why the run has not come to its end."""
    errors = "\n".join(data.decode(errors="replace") for name, data in files.items() if name.endswith(".err"))
    others = [
        data.decode(errors="replace") for name, data in files.items() if name.endswith((".log", ".castep"))
    ]
    text = "\n".join([errors, *others])
    system = from_system(text)
    if system is not None and not isinstance(system, MPIAbortError):
        return system
    for pattern, error in FATAL:
        found = re.search(f"^.*(?:{pattern}).*$", f"{errors}\n{run}", re.MULTILINE)
        if found:
            line = found.group().strip()
            return error(f"CASTEP: {line}", line)
    said = [line.strip() for line in errors.partition("Current trace stack")[0].splitlines() if line.strip()]
    if said:
        at_fault = re.search(READING, errors, re.MULTILINE) is not None
        return (DeckError if at_fault else UnknownLabelError)(f"CASTEP: {said[0]}", said[0])
    return broken_off(files, "\n".join(others))


def _companions(path: Path) -> dict[str, Path]:
    """What went wrong, by the first process."""
    return {"castep.0001.err": path.with_suffix(".0001.err")}


READER = Reader(code="castep", mark=BANNER, main=MAIN, read=read, companions=_companions)

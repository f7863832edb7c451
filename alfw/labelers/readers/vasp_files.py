"""What OUTCAR and vasprun.xml of VASP 5 and 6 say, each for itself; `vasp` judges it.

ASE's readers are not used: they take a file that is cut off for a short one, fill missing rows with zeros, and do not
ask whether an electronic loop converged. Source: https://www.vasp.at/wiki, pages OUTCAR and vasprun.xml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from xml.etree.ElementTree import Element, ParseError, iterparse

import numpy as np
from ase.data import atomic_numbers

from alfw.core.errors import GradientMissingError, MissingOutputError
from alfw.core.frame import Float, Int
from alfw.core.units import EV_PER_A3_GPa
from alfw.labelers._output import Step

CONVERGED = "aborting loop because EDIFF is reached"
TIMING = "General timing and accounting informations for this job"
LAST_LINE = "Voluntary context switches:"
KBAR_eV_per_A3 = 0.1 / EV_PER_A3_GPa
# Row of the six numbers after "in kB" that is each element of the tensor: XX YY ZZ XY YZ ZX.
VOIGT = np.array([[0, 3, 5], [3, 1, 4], [5, 4, 2]])
TAGS = (
    *("PREC", "ENCUT", "ISPIN", "NUPDOWN", "NELECT", "NELM", "EDIFF", "ICHARG", "ISMEAR", "SIGMA", "LREAL"),
    *(
        "PSTRESS",
        "SCALEE",
        "VCA",
        "GGA",
        "METAGGA",
        "LHFCALC",
        "AEXX",
        "HFSCREEN",
        "LDAU",
        "IVDW",
        "ML_LMLFF",
    ),
)
UNUSED = ("projected", "dos", "eigenvalues", "dielectricfunction", "kpoints")  # large, and not read


@dataclass(frozen=True, eq=False)
class Told:
    """What one of the two files says.

    Attributes
    ----------
    version : str
    tags : {name: text}
        Those of `TAGS` that it has, as VASP understood them.
    titles : sequence of str
        Of the pseudopotentials.
    valence : float
        Electrons of the neutral cell.
    steps : sequence of Step
    converged : sequence of bool
        Whether the electronic loop of each step came to its end.
    """

    version: str
    tags: Mapping[str, str]
    titles: Sequence[str]
    valence: float
    steps: Sequence[Step]
    converged: Sequence[bool]


def outcar(text: str) -> Told:
    """What an OUTCAR says that is complete.

    Raises
    ------
    MissingOutputError, GradientMissingError
        It is not, or a step is not.
    """
    version = _found(r"^ vasp\.(\d[\w.]*)", text)
    head, *loops = re.split(r"^-+ Iteration +\d+\( +1\) +-+$", text, flags=re.MULTILINE)
    tags = dict(_outcar_tags(head))
    counts = [int(n) for n in _found(r"ions per type = +([\d ]+)", head).split()]
    titles = re.findall(r"^ +(\S.*\S) +:\n energy of atom ", head, re.MULTILINE)
    elements = re.findall(r"VRHFIN *= *([A-Z][a-z]?)", head) or [
        re.split(r"[_.]", t.split()[1])[0] for t in titles
    ]
    numbers = np.repeat([atomic_numbers[element] for element in elements], counts)
    if len(numbers) != int(_found(r"NIONS += +(\d+)", head)):
        raise MissingOutputError("OUTCAR: number of ions and ions per type do not fit")
    weights = _found(r"^ +VCA +=([\d. ]+)", head).split()
    if "LDA+U is selected" in head:
        tags["LDAU"] = "T"
    tags["VCA"] = next((weight for weight in weights if float(weight) != 1.0), "1.0")
    charges = [float(x) for x in _found(r"Ionic Valenz\n +ZVAL +=([\d. ]+)", head).split()]
    steps = [_outcar_step(loop, numbers) for loop in loops]
    limit = int(tags["NELM"])
    return Told(
        version=version,
        tags=tags,
        titles=re.findall(r"^ +TITEL += +(.+?) *$", head, re.MULTILINE) or titles,
        valence=float(np.dot(charges, counts)),
        steps=steps,
        converged=[CONVERGED in loop and loop.count(" Iteration ") + 1 < limit for loop in loops],
    )


def _outcar_tags(head: str) -> Iterator[tuple[str, str]]:
    """Tags as they are in force; those that VASP does not list there, from its copy of the INCAR."""
    used = head[max(head.find("Startparameter for this run"), 0) :]
    for tag in TAGS:
        for place in (used, head):
            found = re.search(rf"(?<!\w){tag} *= *([^\s;]+)", place)
            if found:
                yield tag, found[1]
                break


def _outcar_step(loop: str, numbers: Int) -> Step:
    """One ionic step from its electronic loop on."""
    energy = re.findall(r"free  energy   TOTEN  = +(\S+) eV", loop)
    if len(energy) != 1:
        raise MissingOutputError("OUTCAR: an ionic step without its final TOTEN")
    forces = _table(loop, r"POSITION +TOTAL-FORCE \(eV/Angst\)\n -+\n", len(numbers))
    if forces is None:
        raise GradientMissingError("OUTCAR: an ionic step without forces")
    cell = _table(loop, r"direct lattice vectors +reciprocal lattice vectors\n", 3)
    if cell is None:
        raise MissingOutputError("OUTCAR: an ionic step without its cell")
    stress = re.findall(r"^ +in kB +(.+)$", loop, re.MULTILINE)
    return Step(
        numbers=numbers,
        positions=forces[:, :3],
        energy=float(energy[0]),
        forces=forces[:, 3:],
        cell=cell[:, :3],
        # VASP prints the force on the cell: positive where it wants to expand.
        stress=-_numbers(stress[-1], 6)[VOIGT] * KBAR_eV_per_A3 if stress else None,
    )


def _table(text: str, head: str, rows: int) -> Float | None:
    """(rows, 6) numbers below the last such head; None where there is none.

    Raises
    ------
    ValueError
        It has fewer rows, or a row has not six numbers.
    """
    found = list(re.finditer(head, text))
    if not found:
        return None
    lines = text[found[-1].end() :].split("\n", rows)[:rows]
    return np.array([_numbers(line, 6) for line in lines])


def _numbers(line: str, count: int) -> Float:
    """That many numbers of a line, also where a minus has taken the last blank between two of them."""
    values = np.array([float(x) for x in re.sub(r"(?<=\d)-", " -", line).split()])
    if len(values) != count:
        raise ValueError(f"{count} numbers expected: {line.strip()}")
    return values


def _found(pattern: str, text: str) -> str:
    """What the group of a pattern matches.

    Raises
    ------
    MissingOutputError
        Nothing.
    """
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise MissingOutputError(f"OUTCAR is not complete: it lacks {pattern}")
    return found[1]


def vasprun(data: bytes) -> Told:
    """What a vasprun.xml says that is complete.

    Raises
    ------
    MissingOutputError, GradientMissingError
        It is not, or a step is not.
    """
    tags: dict[str, str] = {}
    atoms: list[list[str]] = []
    types: list[list[str]] = []
    version = ""
    steps, loops = [], []
    try:
        for _, element in iterparse(BytesIO(data)):
            if element.tag == "generator":
                version = _text(element, "i[@name='version']")
            elif element.tag in ("incar", "parameters"):
                tags |= {item.get("name", ""): (item.text or "").strip() for item in element.iter("i")}
            elif element.tag == "atominfo":
                atoms, types = (_rows(element, name) for name in ("atoms", "atomtypes"))
            elif element.tag == "calculation":
                steps.append(_xml_step(element, np.array([atomic_numbers[atom[0]] for atom in atoms])))
                loops.append([_xml_energy(loop) for loop in element.findall("scstep")])
            if element.tag in ("calculation", *UNUSED):
                element.clear()
    except ParseError as error:
        raise MissingOutputError(f"vasprun.xml is cut off or broken ({error})", str(error)) from error
    tags["ENCUT"] = tags.pop("ENMAX", tags.get("ENCUT", ""))
    limit, accuracy = int(tags["NELM"]), float(tags["EDIFF"]) + 1e-8
    return Told(
        version=version,
        tags={tag: tags[tag] for tag in TAGS if tag in tags},
        titles=[row[4] for row in types],
        valence=sum(int(row[0]) * float(row[3]) for row in types),
        steps=steps,
        converged=[1 < len(loop) < limit and abs(loop[-1] - loop[-2]) <= accuracy for loop in loops],
    )


def _xml_step(calculation: Element, numbers: Int) -> Step:
    """One ionic step."""
    structure = calculation.find("structure")
    if structure is None or calculation.find("energy") is None:
        raise MissingOutputError("vasprun.xml: an ionic step without structure or energy")
    cell = _array(structure.find("crystal/varray[@name='basis']"), 3)
    fractional = _array(structure.find("varray[@name='positions']"), len(numbers))
    forces = _array(calculation.find("varray[@name='forces']"), len(numbers))
    stress = _array(calculation.find("varray[@name='stress']"), 3)
    if forces is None or fractional is None or cell is None:
        raise GradientMissingError("vasprun.xml: an ionic step without forces or positions")
    return Step(
        numbers=numbers,
        positions=fractional @ cell,
        energy=_xml_energy(calculation),
        forces=forces,
        cell=cell,
        stress=None if stress is None else -stress * KBAR_eV_per_A3,
    )


def _xml_energy(element: Element) -> float:
    """The free energy (eV) of a step, or of one cycle of its electronic loop."""
    return float(_text(element, "energy/i[@name='e_fr_energy']"))


def _text(element: Element, path: str) -> str:
    """What stands at a path.

    Raises
    ------
    MissingOutputError
        Nothing.
    """
    found = element.findtext(path)
    if found is None:
        raise MissingOutputError(f"vasprun.xml: no {path}")
    return found.strip()


def _rows(atominfo: Element, name: str) -> list[list[str]]:
    """A table of the atoms."""
    rows = atominfo.findall(f"array[@name='{name}']/set/rc")
    return [[(cell.text or "").strip() for cell in row.findall("c")] for row in rows]


def _array(varray: Element | None, rows: int) -> Float | None:
    """(rows, 3) numbers; None where there are none.

    Raises
    ------
    ValueError
        There are fewer or more.
    """
    if varray is None:
        return None
    values = np.array([[float(x) for x in (row.text or "").split()] for row in varray.findall("v")])
    if values.shape != (rows, 3):
        raise ValueError(f"vasprun.xml: {varray.get('name')} of shape {values.shape}, not ({rows}, 3)")
    return values

"""What VASP reads: the INCAR's tags and whether they belong to the theory, spins, Hubbard U, POSCAR, POTCAR.

VASP ignores a tag that it does not know, so a misspelt one has to be found here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict

from alfw.core.errors import BasisError
from alfw.core.frame import Frame
from alfw.labelers._pseudos import Pseudo, verified


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What changes the energy surface. Missing on purpose: what alfw sets itself (NSW, MAGMOM, NELECT, KSPACING …), and
# what counts atoms or species (LDAUU, VDW_C6 …), whose order is the POSCAR's. Non-collinear spins are not supported.
THEORY_TAGS = _words(
    """ADDGRID AEXX AGGAC AGGAX ALDAC ALDAX AMGGAC AMGGAX BPARAM CMBJ CMBJA CMBJB CPARAM DIPOL EB_K EDIFF EFERMI EFIELD
    ENAUG ENCUT ENCUTFOCK ENINI EPSILON EVENONLY GGA GGA_COMPAT HFRCUT HFSCREEN HFSCREENC IDIPOL ISMEAR IVDW IVDW_NL
    LAMBDA_D_K LASPH LCORR LDAUTYPE LDIPOL LFOCKACE LFOCKAEDFT LHFCALC LHFONE LIBXC1 LIBXC2 LMAXFOCK LMAXFOCKAE LMAXPAW
    LMAXTAU LMODELHF LMONO LREAL LRHFCALC LSOL LSPIN_VDW LTHOMAS LUSE_VDW LVDW_EWALD METAGGA
    NC_K NGX NGXF NGY NGYF NGZ NGZF NKRED NKREDX NKREDY NKREDZ NLSPLINE NMAXFOCKAE ODDONLY PARAM1 PARAM2 PARAM3 PREC
    PRECFOCK SHIFTRED SIGMA SIGMA_K TAU VDW_A1 VDW_A2 VDW_CNRADIUS VDW_D VDW_RADIUS VDW_S6 VDW_S8 VDW_SR
    VOSKOWN ZAB_VDW"""
)
# What only says how the same answer is found, how fast, and what is written. Symmetry is among them: it saves k-points.
EXECUTION_TAGS = _words(
    """ALGO AMIN AMIX AMIX_MAG BMIX BMIX_MAG DEPER EBREAK IALGO IMIX INIMIX INIWAV ISEARCH ISYM KPAR LAECHG LASYNC
    LCHARG LDIAG LELF LMAXMIX LORBIT LPLANE LSCAAWARE LSCALAPACK LSCALU LSUBROT LVHAR LVTOT LWAVE MAXMEM MAXMIX MIXPRE
    NBANDS NBLK NCORE NELM NELMDL NELMIN NPAR NSIM NTAUPAR NWRITE RANDOM_SEED SYMPREC TIME WC WEIMIN"""
)
# Further ones that custodian's remedies may set without changing the theory.
NEUTRAL_TAGS = EXECUTION_TAGS | {"ISTART", "ICHARG", "SYSTEM"}
DEFAULTS = {"ALGO": "NORMAL", "NELM": 100, "LWAVE": False, "LCHARG": False}
DEFAULT_MOMENT = 1.0  # μ_B, VASP's own for each atom
OTHER_GUESS = 2.0  # times the moments
# What remedies of our own may set; None until they do.
REMEDIES = ("NELM", "ALGO", "ISYM", "KPAR", "AMIX", "BMIX", "AMIX_MAG", "BMIX_MAG")


def normalised(tags: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The tags in one spelling: upper case, numbers as numbers, booleans as booleans.

    Raises
    ------
    ValueError
        One of them is not known, or not known to belong here.
    """
    found = {str(tag).upper(): _normal(value) for tag, value in tags.items()}
    for tag in sorted(found.keys() - known):
        if tag in THEORY_TAGS:
            raise ValueError(f"{tag} changes the theory: it belongs into `incar`")
        if tag in EXECUTION_TAGS:
            raise ValueError(f"{tag} does not change the theory: it belongs into `incar_execution`")
        what = "unknown (VASP would ignore it), or set by alfw from the frame and other options"
        raise ValueError(f"{tag}: {what}; if it has to be, put it into an own vasp.INCAR.j2 (`decks`)")
    return dict(sorted(found.items()))


def _normal(value: Any) -> Any:
    """A value in its one spelling."""
    if isinstance(value, (list, tuple)):
        return [_normal(item) for item in value]
    if isinstance(value, str):
        text = value.strip().upper()
        if text in (".TRUE.", ".FALSE.", "TRUE", "FALSE", ".T.", ".F."):
            return text.strip(".").startswith("T")
        if " " in text:
            return [_normal(item) for item in text.split()]
        try:
            value = float(text.replace("D", "E"))
        except ValueError:
            return text
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def written(tags: Mapping[str, Any]) -> dict[str, str]:
    """The tags as they stand in an INCAR."""
    return {tag: _written(value) for tag, value in tags.items()}


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return ".TRUE." if value else ".FALSE."
    if isinstance(value, (list, tuple)):
        return " ".join(_written(item) for item in value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)


class Hubbard(BaseModel):
    """A Hubbard U on one shell of an element; `l` 1 = p, 2 = d, 3 = f."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    l: Literal[1, 2, 3]  # noqa: E741  (its name everywhere)
    U_eV: float
    J_eV: float = 0.0


def grouped(frame: Frame) -> list[int]:
    """Indices of the frame's atoms as a POSCAR has them: those of one element together, elements as they appear."""
    numbers = frame.numbers.tolist()
    first = {z: numbers.index(z) for z in set(numbers)}
    return sorted(range(len(frame)), key=lambda i: first[numbers[i]])


def poscar(frame: Frame) -> bytes:
    """The POSCAR of a frame: Cartesian, 10 decimals."""
    order = grouped(frame)
    symbols = [chemical_symbols[frame.numbers[i]] for i in order]
    elements = list(dict.fromkeys(symbols))
    rows = [" ".join(f"{x: .10f}" for x in row) for row in (*frame.cell, *frame.positions[order])]
    counts = [str(symbols.count(element)) for element in elements]
    head = [frame.formula, "1.0", *rows[:3], " ".join(elements), " ".join(counts), "Cartesian"]
    return "\n".join([*head, *rows[3:], ""]).encode()


def potcar_files(entries: Any) -> Any:
    """Option `pseudopotentials` with ``Si_sv`` spelt out as ``Si_sv/POTCAR``."""

    def file(name: Any) -> Any:
        return f"{name.rstrip('/')}/POTCAR" if isinstance(name, str) and "POTCAR" not in name else name

    if not isinstance(entries, Mapping):
        return entries
    return {
        element: {**entry, "file": file(entry.get("file"))} if isinstance(entry, Mapping) else file(entry)
        for element, entry in entries.items()
    }


def potcars(pseudopotentials: Mapping[str, Pseudo], folder: str | None, frame: Frame) -> dict[str, bytes]:
    """The POTCAR of each element of the frame, in the order of its POSCAR.

    Raises
    ------
    ExecutableError, BasisError
        A file is missing on this worker or another one; or it is not of the element it stands for.
    """
    elements = [chemical_symbols[frame.numbers[i]] for i in grouped(frame)]
    found = verified(pseudopotentials, folder, elements)
    for element, data in found.items():
        named = [name.decode() for name in re.findall(rb"VRHFIN *= *([A-Z][a-z]?)", data)]
        if named != [element]:
            what = f"{pseudopotentials[element].file} is no POTCAR of {element}"
            raise BasisError(f"{what}, but of {', '.join(named) or 'nothing'}: correct `pseudopotentials`")
    return found


def valence(potcars: Mapping[str, bytes], frame: Frame) -> float:
    """Valence electrons of the neutral frame."""
    electrons = {}
    for element, data in potcars.items():
        found = re.search(rb"ZVAL *= *([\d.]+)", data)
        if found is None:
            raise BasisError(f"the POTCAR of {element} has no ZVAL: correct `pseudopotentials`")
        electrons[element] = float(found[1])
    return sum(electrons[chemical_symbols[z]] for z in frame.numbers)


def spin_tags(
    frame: Frame, spin: bool | None, moments: Mapping[str, float], factor: float = 1.0
) -> dict[str, Any]:
    """ISPIN, MAGMOM in the order of the POSCAR, and NUPDOWN where the multiplicity says it.

    Parameters
    ----------
    spin, moments
        Options of the labeler.
    factor : float
        By which the initial moments are multiplied.
    """
    symbols = [chemical_symbols[z] for z in frame.numbers]
    given = frame.multiplicity > 1 or frame.moments is not None or bool(moments.keys() & set(symbols))
    if not (given if spin is None else spin):
        return {"ISPIN": 1}
    unpaired = frame.multiplicity - 1
    fallback = 0.0 if moments else unpaired / len(frame) if unpaired else DEFAULT_MOMENT
    first = [moments.get(symbol, fallback) for symbol in symbols] if frame.moments is None else frame.moments
    tags: dict[str, Any] = {"ISPIN": 2, "MAGMOM": [factor * float(first[i]) for i in grouped(frame)]}
    return tags | ({"NUPDOWN": unpaired} if unpaired else {})


def hubbard_tags(frame: Frame, hubbard: Mapping[str, Hubbard], kind: Any) -> dict[str, Any]:
    """LDAU and what belongs to it, in the order of the POSCAR; `kind` is LDAUTYPE."""
    elements = dict.fromkeys(chemical_symbols[frame.numbers[i]] for i in grouped(frame))
    shells = [hubbard.get(element) for element in elements]
    if not any(shells):
        return {}
    return {
        "LDAU": True,
        "LDAUTYPE": kind,
        "LDAUL": [shell.l if shell else -1 for shell in shells],
        "LDAUU": [shell.U_eV if shell else 0.0 for shell in shells],
        "LDAUJ": [shell.J_eV if shell else 0.0 for shell in shells],
        "LMAXMIX": 2 * max(shell.l for shell in shells if shell),
    }

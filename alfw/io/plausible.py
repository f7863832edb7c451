"""Whether labels can be in the units that they are said, or taken, to be in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.core.records import Label
from alfw.core.units import HARTREE_eV
from alfw.io.imported import Imported

# Total energies of free atoms, PBE/def2-TZVP; whatever the method, those of all-electron calculations are within 2 %.
ATOM_ENERGIES_eV = {
    **{1: -13.587, 6: -1029.499, 7: -1484.274, 8: -2041.878, 9: -2713.473, 15: -8978.229, 16: -10831.086},
    **{17: -12516.444},
}
NEAR = 0.03  # of the sum over free atoms: bonds are 1 % of it
MAX_FORCE_RMSE = 100.0  # eV/Å; root mean square of whole data sets, exploded frames among them, stay below


def check_plausible(items: Sequence[Imported], where: str) -> None:
    """Raise DataError where energies or forces contradict their units (eV, eV/Å, as converted); else nothing.

    Total energies are compared with those of free atoms. Relative ones, and those of methods without core electrons,
    contradict nothing.
    """
    labelled = [(item.frame, item.label) for item in items if item.label is not None]
    if not labelled:
        return
    ratio = _energy_ratio(labelled)
    if ratio is not None and abs(ratio * HARTREE_eV - 1) < NEAR:
        raise DataError(
            f"{where}: its energies are those of free atoms in Hartree, not in eV as taken here: say `units`"
            " in the file, or --units hartree"
        )
    if ratio is not None and abs(ratio / HARTREE_eV - 1) < NEAR:
        raise DataError(
            f"{where}: its energies are those of free atoms in eV, not in Hartree as taken here: say `units`"
            " in the file, or --units eV"
        )
    rms = float(np.sqrt(np.mean(np.concatenate([label.forces.ravel() for _, label in labelled]) ** 2)))
    if rms > MAX_FORCE_RMSE:
        raise DataError(
            f"{where}: root mean square force {rms:.0f} eV/Å: its unit is another than taken here, or the"
            " frames are broken; say `units` in the file"
        )


def _energy_ratio(labelled: Sequence[tuple[Frame, Label]]) -> float | None:
    """Median of energy over that of free atoms; None where an element is not in the table."""
    ratios = [
        label.energy / sum(ATOM_ENERGIES_eV[int(z)] for z in frame.numbers)
        for frame, label in labelled
        if all(int(z) in ATOM_ENERGIES_eV for z in frame.numbers)
    ]
    return float(np.median(ratios)) if ratios else None

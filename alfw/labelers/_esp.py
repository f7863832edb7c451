"""Where the electrostatic potential is calculated: points on van der Waals surfaces around a molecule.

The recipe is that of Merz and Kollman: each atom gets a sphere of its van der Waals radius times a scale factor, with
evenly spread points on it; those inside the sphere of another atom at the same scale are left out; the surfaces of all
scale factors together are the grid.

Source: U. C. Singh, P. A. Kollman, J. Comput. Chem. 5, 129 (1984), doi 10.1002/jcc.540050204 (scale factors 1.4, 1.6,
1.8, 2.0 and one point per Å^2); B. H. Besler, K. M. Merz, P. A. Kollman, J. Comput. Chem. 11, 431 (1990),
doi 10.1002/jcc.540110404.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from ase.data import chemical_symbols, vdw_alvarez
from pydantic import BaseModel, ConfigDict, Field
from scipy.spatial.distance import cdist

from alfw.core.errors import InputError
from alfw.core.frame import DECIMALS, Float, Frame

# Å. Main group: M. Mantina et al., J. Phys. Chem. A 113, 5806 (2009), doi 10.1021/jp8111556, Table 12, which keeps the
# radii of A. Bondi, J. Phys. Chem. 68, 441 (1964), doi 10.1021/j100785a001; hydrogen is Bondi's, as Merz and Kollman
# have it. All others: S. Alvarez, Dalton Trans. 42, 8617 (2013), doi 10.1039/C3DT50599E.
MAIN_GROUP = """
H 1.20 He 1.40 Li 1.81 Be 1.53 B 1.92 C 1.70 N 1.55 O 1.52 F 1.47 Ne 1.54
Na 2.27 Mg 1.73 Al 1.84 Si 2.10 P 1.80 S 1.80 Cl 1.75 Ar 1.88
K 2.75 Ca 2.31 Ga 1.87 Ge 2.11 As 1.85 Se 1.90 Br 1.83 Kr 2.02
Rb 3.03 Sr 2.49 In 1.93 Sn 2.17 Sb 2.06 Te 2.06 I 1.98 Xe 2.16
Cs 3.43 Ba 2.68 Tl 1.96 Pb 2.02 Bi 2.07 Po 1.97 At 2.02 Rn 2.20 Fr 3.48 Ra 2.83
"""
_WORDS = MAIN_GROUP.split()
RADII = dict(zip(_WORDS[::2], map(float, _WORDS[1::2]), strict=True))
GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))

Factor = Annotated[float, Field(gt=0.0, le=10.0)]


class EspGrid(BaseModel):
    """Points of the electrostatic potential: which surfaces, and how dense.

    Attributes
    ----------
    scale_factors : tuple of float
        One surface each, at this multiple of the van der Waals radii.
    points_per_A2 : float, 1/Å^2
        Of each surface.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale_factors: Annotated[tuple[Factor, ...], Field(min_length=1)] = (1.4, 1.6, 1.8, 2.0)
    points_per_A2: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0


def check_esp(frame: Frame, grid: EspGrid | None) -> None:
    """Raise InputError when there is a grid, but no van der Waals radius for an element."""
    for z in np.unique(frame.numbers) if grid else ():
        try:
            vdw_radius(int(z))
        except InputError as error:
            raise InputError(f"frame {frame.id[:12]}: {error}") from error


def surface_points(frame: Frame, grid: EspGrid) -> Float:
    """(G, 3) float64, Å: the points around a frame in its own orientation, rounded to 1e-6 Å as positions are.

    Always the same for the same frame; they move along with it, but do not turn with it.

    Raises
    ------
    InputError
        No van der Waals radius is known for an element.
    """
    radii = np.array([vdw_radius(int(z)) for z in frame.numbers])
    surfaces = [
        _surface(frame.positions, factor * radii, grid.points_per_A2) for factor in grid.scale_factors
    ]
    return np.asarray(np.round(np.concatenate(surfaces), DECIMALS) + 0.0, np.float64)


def vdw_radius(number: int) -> float:
    """Van der Waals radius (Å) of an element.

    Raises
    ------
    InputError
        None is known.
    """
    symbol = chemical_symbols[number]
    others = vdw_alvarez.vdw_radii
    radius = RADII.get(symbol, float(others[number]) if number < len(others) else np.nan)
    if not radius > 0.0:
        raise InputError(f"no van der Waals radius is known for {symbol}: leave out `esp`")
    return radius


def sphere(points: int) -> Float:
    """(points, 3) float64: unit vectors, evenly spread along a spiral.

    Source: Á. González, Math. Geosci. 42, 49 (2010), doi 10.1007/s11004-009-9257-x ("Fibonacci lattice").
    """
    index = np.arange(points)
    height = 1.0 - (2.0 * index + 1.0) / points
    width, angle = np.sqrt(1.0 - height**2), GOLDEN_ANGLE * index
    return np.stack([width * np.cos(angle), width * np.sin(angle), height], axis=1)


def _surface(centres: Float, radii: Float, density: float) -> Float:
    """(G, 3) Å: what no other sphere covers of the spheres around these centres."""
    kept = []
    for atom, radius in enumerate(radii):
        points = centres[atom] + radius * sphere(max(1, round(4.0 * np.pi * radius**2 * density)))
        outside = cdist(points, centres) >= radii
        outside[:, atom] = True
        kept.append(points[outside.all(axis=1)])
    return np.concatenate(kept)

"""Labelled frames for tests that need some: small clusters and crystals of copper and gold, labels by EMT."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled, TrainingData

CLUSTER = Atoms("Cu3Au2", [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [0, 0, 2.5], [2.5, 2.5, 0.3]])


def example_data(periodic: bool = True, count: int = 12, seed: int = 0) -> TrainingData:
    """Two thirds of `count` frames to train on, the others to validate: clusters and, if `periodic`, crystals too.

    Source: effective-medium theory as in ASE; K. W. Jacobsen, P. Stoltze, J. K. Nørskov, Surf. Sci. 366, 394 (1996),
    doi:10.1016/0039-6028(96)00816-3.
    """
    rng = np.random.default_rng(seed)
    kinds = [CLUSTER, CLUSTER[:4], CLUSTER[2:]]
    if periodic:
        alloy = bulk("Cu", cubic=True)
        alloy.numbers[0] = 79
        kinds += [alloy]
    items = [_labelled(kinds[i % len(kinds)].copy(), rng) for i in range(count)]
    n_train = 2 * count // 3
    return TrainingData(items[:n_train], items[n_train:])


def _labelled(atoms: Atoms, rng: np.random.Generator) -> Labeled:
    if atoms.pbc.all():
        strain = 0.03 * rng.standard_normal((3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + strain + strain.T), scale_atoms=True)
    atoms.positions += 0.1 * rng.standard_normal(atoms.positions.shape)
    frame = Frame.from_atoms(atoms)
    known = frame.to_atoms()
    known.calc = EMT()
    stress = known.get_stress(voigt=False) if frame.periodic else None
    return Labeled(frame, Label(float(known.get_potential_energy()), known.get_forces(), stress=stress))

"""Small waters labelled with PySCF here, and one small PhysNet trained on them, shared by the tests."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled, Resources, TrainingData
from alfw.core.units import BOHR_A, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.models.physnet import PhysNetModel

SMALL: dict[str, Any] = {
    **dict.fromkeys(("physnet_features", "dcmnet_features"), 16),
    **dict.fromkeys(("physnet_basis", "dcmnet_basis"), 16),
    **{"physnet_iterations": 2, "physnet_n_res": 1, "n_dcm": 2, "max_degree": 1, "members": 1},
}
TINY: dict[str, Any] = {
    **SMALL,
    **dict.fromkeys(("physnet_features", "dcmnet_features", "physnet_basis", "dcmnet_basis"), 4),
    **{"physnet_iterations": 1, "dcmnet_iterations": 1},
}


def hartree_fock(atoms: Atoms, charge: int = 0, multiplicity: int = 1) -> Labeled:
    """Energy, forces, dipole about the centre of mass and potential at points around, HF/STO-3G."""
    from pyscf import df, gto, scf

    frame = Frame.from_atoms(atoms, charge, multiplicity)
    spots = [(int(z), tuple(p)) for z, p in zip(frame.numbers, frame.positions, strict=True)]
    mol = gto.M(atom=spots, basis="sto-3g", charge=charge, spin=multiplicity - 1, verbose=0)
    mf = (scf.RHF if multiplicity == 1 else scf.UHF)(mol).run(conv_tol=1e-10)
    gradient = mf.nuc_grad_method()
    gradient.verbose = 0
    around = Rotation.random(40, random_state=0).apply([2.6, 0.0, 0.0]) + frame.positions[0]
    density = mf.make_rdm1().reshape(-1, mol.nao, mol.nao).sum(0)
    away = np.linalg.norm((around[:, None] - frame.positions[None]) / BOHR_A, axis=2)
    electrons = np.einsum(
        "ijg,ij->g", df.incore.aux_e2(mol, gto.fakemol_for_charges(around / BOHR_A)), density
    )
    esp = (frame.numbers / away).sum(1) - electrons
    centre = np.average(frame.positions, axis=0, weights=frame.masses)
    dipole = mf.dip_moment(unit="AU", verbose=0) * BOHR_A - charge * centre
    forces = -gradient.kernel() * HARTREE_PER_BOHR_eV_PER_A
    return Labeled(
        frame, Label(mf.e_tot * HARTREE_eV, forces, dipole=dipole, esp=esp * HARTREE_eV, esp_points=around)
    )


@cache
def waters() -> list[Labeled]:
    """26 shaken waters; the test is skipped without PySCF."""
    pytest.importorskip("pyscf")
    rng = np.random.default_rng(0)
    shaken = [molecule("H2O") for _ in range(26)]
    for atoms in shaken:
        atoms.positions += rng.normal(scale=0.05, size=(3, 3))
    return [hartree_fock(atoms) for atoms in shaken]


@cache
def small_model() -> tuple[PhysNetModel, Path]:
    """The small network and the weights of one member, trained on 20 of the waters."""
    folder = Path(tempfile.mkdtemp(prefix="alfw_physnet_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model = PhysNetModel(**SMALL, training={"epochs": 120, "batch_size": 5, "learning_rate": 3e-3})
    data = TrainingData(waters()[:20], waters()[20:])
    return model, model.train(data, 0, None, folder, Resources())


def springs(number: int, seed: int, offset_eV: float = -40.0, points: int = 12) -> list[Labeled]:
    """Waters of two springs and three fixed charges: labels that cost nothing, with `points` or a few more."""
    rng = np.random.default_rng(seed)
    items = []
    for i in range(number):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.05, size=(3, 3))
        x, charges = atoms.positions, np.array([-0.6, 0.3, 0.3])
        bonds = x[1:] - x[0]
        lengths = np.linalg.norm(bonds, axis=1, keepdims=True)
        pull = -20.0 * (lengths - 0.96) * bonds / lengths
        around = 3.0 * Rotation.random(points + i % 4, random_state=i).apply([1.0, 0.0, 0.0]) + x[0]
        away = np.linalg.norm(around[:, None] - x, axis=2)
        label = Label(
            float(offset_eV + 10.0 * ((lengths - 0.96) ** 2).sum()),
            np.concatenate([-pull.sum(0, keepdims=True), pull]),
            dipole=charges @ x,
            esp=HARTREE_eV * BOHR_A * (charges / away).sum(1),
            esp_points=around,
        )
        items.append(Labeled(Frame.from_atoms(atoms), label))
    return items

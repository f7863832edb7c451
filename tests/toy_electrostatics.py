"""Molecules with springs for bonds and charges that stay: energies, forces, dipoles, potentials in the seed's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.build import molecule
from scipy.spatial.transform import Rotation

from alfw.core.frame import Frame
from alfw.core.records import Label
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.io.esp_npz import EspRow, write_esp_npz
from alfw.io.imported import Imported
from alfw.io.plausible import ATOM_ENERGIES_eV
from alfw.io.training_npz import write_training_npz

CHARGES = {"CO2": (0.7, -0.35, -0.35), "H2O": (-0.8, 0.4, 0.4)}
SPRING_eV_PER_A2 = 20.0
EFD_KEYS, ESP_KEYS = ("R", "Z", "E", "F", "Dxyz"), ("R", "Z", "N", "esp", "vdw_surface")


def toy(name: str, seed: int) -> Imported:
    """A shaken molecule with its label."""
    rng = np.random.default_rng(seed)
    atoms, q = molecule(name), np.array(CHARGES[name])
    equilibrium = atoms.get_all_distances()
    atoms.positions += rng.normal(scale=0.05, size=(3, 3))
    frame = Frame.from_atoms(atoms)
    vectors = frame.positions[:, None] - frame.positions
    lengths = np.linalg.norm(vectors, axis=2) + np.eye(3)
    stretch = lengths - equilibrium - np.eye(3)
    energy = sum(ATOM_ENERGIES_eV[int(z)] for z in frame.numbers) + SPRING_eV_PER_A2 / 4 * (stretch**2).sum()
    forces = -SPRING_eV_PER_A2 * (stretch[..., None] * vectors / lengths[..., None]).sum(1)
    points = Rotation.random(12, random_state=seed).apply([4.0, 0.0, 0.0]) + frame.positions.mean(0)
    points += frame.positions.mean(0) - points.mean(0)  # the seed's trainer would leave them where they are
    away = np.linalg.norm(points[:, None] - frame.positions, axis=2)
    esp = (q / away).sum(1) * HARTREE_eV * BOHR_A
    return Imported(frame, Label(energy, forces, dipole=q @ frame.positions, esp=esp, esp_points=points))


def write_pair(efd: Path, esp: Path, items: Sequence[Imported], with_esp: Sequence[Imported]) -> None:
    """Two files with the seed's keys alone: no N in the first, no ids and no units in either."""
    efd.parent.mkdir(parents=True, exist_ok=True)
    esp.parent.mkdir(parents=True, exist_ok=True)
    write_training_npz(efd, items)
    write_esp_npz(esp, [EspRow(i.frame, i.label.esp, i.label.esp_points) for i in with_esp])
    for path, keys in ((efd, EFD_KEYS), (esp, ESP_KEYS)):
        with np.load(path, allow_pickle=False) as data:
            np.savez(path, **{key: data[key] for key in keys})

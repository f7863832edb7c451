"""One PySCF single point with gradient, as a program: reads input.json, writes result.json in atomic units.

Run as ``python -m alfw.labelers._pyscf_main`` in the folder of the calculation; the log goes to stdout.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyscf
from pyscf import dft, gto, scf

CHECKPOINT = "scf.chk"
CARRIED = "restart.chk"  # the checkpoint of an earlier calculation; it may be damaged, so PySCF must not write to it
OVERLAP = 1e-7  # eigenvalues of the overlap matrix below this are a linear dependency, as in ORCA and Psi4
ESP_BYTES = 100e6  # of the integrals of one chunk of points


class LinearDependency(Exception):
    """The basis functions depend on each other, and none may be left out."""


def molecule(spec: Mapping[str, Any]) -> gto.Mole:
    """The molecule in its own orientation, with the core potentials that belong to its basis."""
    mol = gto.Mole(
        atom=list(zip(spec["numbers"], spec["positions_bohr"], strict=True)),
        unit="Bohr",
        basis=spec["basis"],
        charge=spec["charge"],
        spin=spec["unpaired"],
        symmetry=False,
        verbose=4,
    )
    if spec["max_memory_MB"] is not None:
        mol.max_memory = spec["max_memory_MB"]
    mol.max_memory *= spec.get("memory_share", 1.0)
    symbols = sorted({gto.elements.ELEMENTS[number] for number in spec["numbers"]})
    # def2 and others are valence-only beyond Kr: without this PySCF would put all electrons into them.
    ecp, heavy = gto.mole.bse_predefined_ecp(spec["basis"], symbols)
    if heavy:
        mol.ecp = dict.fromkeys(heavy, ecp)
    return mol.build()


def mean_field(mol: gto.Mole, spec: Mapping[str, Any]) -> Any:
    """The SCF object: restricted for singlets, unrestricted otherwise."""
    unrestricted = spec["unpaired"] > 0
    if spec["method"] == "hf":
        mf = (scf.UHF if unrestricted else scf.RHF)(mol)
    else:
        mf = (dft.UKS if unrestricted else dft.RKS)(mol, xc=spec["method"])
        mf.grids.level = spec["grid_level"]
    if spec["density_fit"]:
        mf = mf.density_fit()
    mf.conv_tol = spec["conv_tol"]
    mf.max_cycle = spec["max_cycle"]
    mf.level_shift = spec.get("level_shift") or 0.0
    if spec.get("damp"):
        mf.damp = spec["damp"]
    mf.chkfile = CHECKPOINT
    return mf.newton() if spec.get("newton") else mf


def independent(mol: gto.Mole, remove: bool) -> None:
    """Keep all basis functions, or leave out what depends on others where that is allowed.

    PySCF by itself (2.14) would drop eigenvectors of the overlap matrix below 1e-6 unasked: their number changes along
    a trajectory, and with it the energy jumps.

    Raises
    ------
    LinearDependency
        There is one, and nothing may be left out.
    """
    smallest = float(np.linalg.eigvalsh(mol.intor_symmetric("int1e_ovlp"))[0])
    if smallest < OVERLAP and not remove:
        raise LinearDependency(
            f"linear dependency between AOs: an eigenvalue of the overlap matrix is {smallest:.1e}"
        )
    scf.hf.remove_overlap_zero_eigenvalue = remove
    scf.hf.overlap_zero_eigenvalue_threshold = OVERLAP


def first_guess(mf: Any, spec: Mapping[str, Any]) -> np.ndarray:
    """The density matrix to start from: an earlier attempt's, if there is one that can be read."""
    if spec.get("restart"):
        for name in (CHECKPOINT, CARRIED):
            with suppress(OSError, KeyError, ValueError, TypeError):
                return np.asarray(mf.from_chk(name))
    try:
        return np.asarray(mf.get_init_guess(key=spec.get("init_guess") or "minao"))
    except RuntimeError:  # Hückel's minimal basis has too few orbitals for some high spins (triplet He)
        return np.asarray(mf.get_init_guess(key="1e"))


def potential(mol: gto.Mole, density: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(G,) Hartree/e: the electrostatic potential of nuclei and electrons at `points` (G, 3) Bohr.

    V(r) = Σ_A Z_A / |r − R_A| − Σ_ij D_ij (i| 1/|r − r'| |j); atoms with a core potential count with Z less its
    electrons.
    """
    total = density if density.ndim == 2 else density.sum(axis=0)
    away = np.linalg.norm(points[:, None, :] - mol.atom_coords(), axis=2)
    values = (mol.atom_charges() / away).sum(axis=1)
    size = max(1, int(ESP_BYTES / (8 * mol.nao**2)))
    for start in range(0, len(points), size):
        part = slice(start, start + size)
        integrals = mol.intor("int1e_grids", hermi=1, grids=points[part])
        values[part] -= np.einsum("gij,ij->g", integrals, total)
    return np.asarray(values)


def compute(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Energy, gradient and properties; or an error without SCF convergence."""
    mol = molecule(spec)
    independent(mol, bool(spec.get("remove_linear_dependency")))
    mf = mean_field(mol, spec)
    energy = mf.kernel(dm0=first_guess(mf, spec))
    if not mf.converged:
        message = f"SCF not converged in {spec['max_cycle']} cycles"
        return {"error": {"type": "NotConverged", "message": message}, "energy_hartree": float(energy)}
    gradient = mf.nuc_grad_method()
    if spec["method"] != "hf":
        gradient.grid_response = spec["grid_response"]
    return {
        "energy_hartree": float(energy),
        "gradient_hartree_per_bohr": np.asarray(gradient.kernel()).tolist(),
        **properties(mol, mf, spec),
        "numbers": [gto.charge(mol.atom_symbol(atom)) for atom in range(mol.natm)],
        "positions_bohr": mol.atom_coords().tolist(),
        "charge": mol.charge,
        "multiplicity": mol.spin + 1,
        "version": pyscf.__version__,
    }


def properties(mol: gto.Mole, mf: Any, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Dipole about the origin, Mulliken charges, <S²>, and the potential where points are given."""
    density = mf.make_rdm1()
    found = {
        "dipole_e_bohr": np.asarray(mf.dip_moment(mol, density, unit="AU", verbose=0)).tolist(),
        "mulliken_charges_e": np.asarray(mf.mulliken_pop(mol, density, verbose=0)[1]).tolist(),
        "s_squared": float(mf.spin_square()[0]),
    }
    if spec.get("esp_points_bohr"):
        points = np.array(spec["esp_points_bohr"])
        found["esp_points_bohr"] = points.tolist()
        found["esp_hartree_per_e"] = potential(mol, density, points).tolist()
    return found


def main() -> int:
    """Exit status: 0 with numbers, 1 without; result.json tells which."""
    spec = json.loads(Path("input.json").read_text())
    try:
        result = compute(spec)
    except Exception as error:  # whatever it is: recorded with its own words, judged by the parser
        traceback.print_exc()
        result = {"error": {"type": type(error).__name__, "message": " ".join(str(error).split("\n")[:2])}}
    Path("result.json.part").write_text(json.dumps(result))
    os.replace("result.json.part", "result.json")  # never half a result
    return int("error" in result)


if __name__ == "__main__":
    sys.exit(main())

"""One PySCF single point with gradient, as a program: reads input.json, writes result.json in atomic units.

Run as ``python -m alfw.labelers._pyscf_main`` in the folder of the calculation; the log goes to stdout.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyscf
from pyscf import dft, gto, scf

CHECKPOINT = "scf.chk"


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
    mf.init_guess = spec.get("init_guess", "minao")
    mf.level_shift = spec.get("level_shift") or 0.0
    if spec.get("damp"):
        mf.damp = spec["damp"]
    mf.chkfile = CHECKPOINT
    return mf.newton() if spec.get("newton") else mf


def compute(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Energy, gradient, dipole about the origin, <S²> and version; or an error without SCF convergence."""
    mol = molecule(spec)
    mf = mean_field(mol, spec)
    restart = bool(spec.get("restart")) and Path(CHECKPOINT).exists()
    energy = mf.kernel(mf.from_chk(CHECKPOINT) if restart else None)
    if not mf.converged:
        message = f"SCF not converged in {spec['max_cycle']} cycles"
        return {"error": {"type": "NotConverged", "message": message}, "energy_hartree": float(energy)}
    gradient = mf.nuc_grad_method()
    if spec["method"] != "hf":
        gradient.grid_response = spec["grid_response"]
    return {
        "energy_hartree": float(energy),
        "gradient_hartree_per_bohr": np.asarray(gradient.kernel()).tolist(),
        "dipole_e_bohr": np.asarray(mf.dip_moment(unit="AU", verbose=0)).tolist(),
        "s_squared": float(mf.spin_square()[0]),
        "version": pyscf.__version__,
    }


def main() -> int:
    """Exit status: 0 with numbers, 1 without; result.json tells which."""
    spec = json.loads(Path("input.json").read_text())
    try:
        result = compute(spec)
    except Exception as error:  # whatever it is: recorded with its own words, judged by the parser
        traceback.print_exc()
        result = {"error": {"type": type(error).__name__, "message": str(error)}}
    Path("result.json.part").write_text(json.dumps(result))
    os.replace("result.json.part", "result.json")  # never half a result
    return int("error" in result)


if __name__ == "__main__":
    sys.exit(main())

"""Other ways to the numbers that labelers give: PySCF set up by hand."""

from typing import Any

import numpy as np

from alfw.core.frame import Frame


def scf_of(frame: Frame, basis: str, method: str = "hf") -> tuple[Any, Any, np.ndarray]:
    """PySCF's molecule, its converged mean field, and the density matrix of all electrons (nao, nao)."""
    from pyscf import dft, gto, scf

    mol = gto.M(
        atom=list(zip(frame.numbers.tolist(), frame.positions.tolist(), strict=True)),
        basis=basis,
        ecp={"I": basis} if 53 in frame.numbers else {},
        charge=frame.charge,
        spin=frame.multiplicity - 1,
        verbose=0,
    )
    if method == "hf":
        mf = (scf.UHF if mol.spin else scf.RHF)(mol)
    else:
        mf = (dft.UKS if mol.spin else dft.RKS)(mol, xc=method)
        mf.grids.level = 5
    mf._chkfile.close()  # else a file without an owner is left to the garbage collector, which warns
    mf.chkfile = None
    mf.conv_tol = 1e-11
    mf.kernel()
    density = mf.make_rdm1()
    return mol, mf, density if density.ndim == 2 else density.sum(axis=0)

"""The same atoms at another place, turned: what is left when that is taken out."""

from __future__ import annotations

import numpy as np

from alfw.core.frame import Float


def rotation(source: Float, target: Float) -> Float:
    """(3, 3) proper rotation that turns `source` (n, 3), about its centre, onto `target`: r → R r.

    Source
    ------
    W. Kabsch, Acta Cryst. A 32, 922 (1976), doi:10.1107/S0567739476001873.
    """
    covariance = (target - target.mean(0)).T @ (source - source.mean(0))
    left, _, right = np.linalg.svd(covariance)
    sign = np.sign(np.linalg.det(left @ right))
    return np.asarray(left @ np.diag([1.0, 1.0, sign]) @ right, np.float64)

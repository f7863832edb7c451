"""Compiled programs do not use up the memory maps of a process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

MAPS = Path("/proc/self/maps")


@pytest.mark.skipif(not MAPS.exists(), reason="no /proc here")
def test_programs_are_dropped_when_their_share_is_used_up() -> None:
    import jax
    import jax.numpy as jnp

    from alfw.models._jax import make_room

    compiled = [jax.jit(lambda x, k=k: jnp.sin(k * x).sum()) for k in range(20)]
    before = [float(f(jnp.arange(5.0))) for f in compiled]
    full = MAPS.read_bytes().count(b"\n")
    make_room(1.0)
    assert MAPS.read_bytes().count(b"\n") >= full  # far from the limit nothing is dropped
    make_room(0.0)
    assert MAPS.read_bytes().count(b"\n") < full - 30
    assert np.array_equal([float(f(jnp.arange(5.0))) for f in compiled], before)

"""How alfw sets JAX up: the persistent compilation cache, devices, and strictness off inside other libraries."""

from __future__ import annotations

import gc
import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

import jax

from alfw.core.errors import TrainingError

MIN_COMPILE_S = 0.3  # what compiles faster is not worth a file
MAPS_SHARE = 0.4  # of the memory maps: one training and its evaluation need less than what is left


def use_compilation_cache() -> None:
    """Keep compiled programs between processes, and not too many of them in this one; see `make_room`."""
    _keep_programs()
    make_room()


def make_room(share: float = MAPS_SHARE) -> None:
    """Drop all compiled programs once the process has used up this share of the memory maps that the system allows.

    On a CPU each program of XLA takes tens to hundreds of them; without any left the process dies with a segmentation
    fault. A worker that lives for many rounds of many systems would get there. What is still needed is compiled anew,
    or read from the cache. Source: Linux, proc_sys_vm(5), max_map_count.
    """
    maps, limit = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
    if maps.exists() and limit.exists() and maps.read_bytes().count(b"\n") > share * int(limit.read_text()):
        jax.clear_caches()
        gc.collect()


@cache
def _keep_programs() -> None:
    """Set the persistent cache, unless the user has set a cache directory of his own.

    In ``$ALFW_CACHE`` or ``~/.cache/alfw``; one folder per kind of CPU, because home directories are shared by nodes
    whose processors differ and XLA compiles for the instructions of the one at hand.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    root = Path(os.environ.get("ALFW_CACHE") or Path.home() / ".cache" / "alfw")
    jax.config.update("jax_compilation_cache_dir", str(root / "jax" / _processor()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_S)


def _processor() -> str:
    """Short hash of the processor's model and instruction sets."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(errors="replace") if info.exists() else platform.processor()
    lines = {line for line in text.splitlines() if line.startswith(("flags", "Features", "model name"))}
    return hashlib.sha256("\n".join([platform.machine(), *sorted(lines)]).encode()).hexdigest()[:12]


def device(kind: Literal["cpu", "gpu"]) -> jax.Device:
    """The first device of this kind.

    Raises
    ------
    TrainingError
        JAX has none.
    """
    try:
        return jax.local_devices(backend=kind)[0]
    except RuntimeError as error:
        found = jax.default_backend()
        raise TrainingError(
            f"resources ask for a {kind}, but JAX finds only {found}: install jax[cuda12] there or set gpus: 0"
        ) from error


@contextmanager
def use_device(kind: Literal["cpu", "gpu"]) -> Iterator[None]:
    """Run on the first device of this kind.

    Where JAX does so anyway nothing is set: what it compiles would not serve outside.

    Raises
    ------
    TrainingError
        JAX has none.
    """
    wanted = device(kind)
    if wanted == jax.local_devices()[0]:
        yield
        return
    with jax.default_device(wanted):
        yield


@contextmanager
def foreign_code() -> Iterator[None]:
    """Trace code of other libraries (nequix, e3nn, optax) under JAX's own promotion rules."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield

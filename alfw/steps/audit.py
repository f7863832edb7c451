"""Audit frames: drawn at random from the pool before anything is chosen, to measure the error without bias."""

from __future__ import annotations

import numpy as np

from alfw.steps.pool import Screened

MAX_TEMPERATURES = 8  # more than so many of one sampler, as of a ramp, are put together


def draw_audit(pool: Screened, fresh: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Indices of audit frames: uniform over what is auditable, stratified by sampler × temperature.

    Each stratum gets its share of `number` by size, rounded up or down at random, so every frame is as likely as any
    other however few are drawn.

    Source
    ------
    Systematic rounding: W. G. Cochran, Sampling Techniques, 3rd edition (1977), chapter 8.
    """
    random = np.random.default_rng(seed)
    open_ = np.flatnonzero(pool.auditable & fresh)
    number = min(number, len(open_))
    if number <= 0:
        return np.zeros(0, np.int64)
    keys = strata(pool.part[open_], pool.temperature_K[open_])
    _, stratum, sizes = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    ends = np.floor(np.cumsum(sizes) * number / len(open_) + random.random()).astype(int)
    quotas = np.diff(ends, prepend=0)
    members = [open_[stratum.ravel() == s] for s in range(len(sizes))]
    drawn = [random.choice(some, quota, replace=False) for some, quota in zip(members, quotas, strict=True)]
    return np.concatenate(drawn).astype(np.int64)


def strata(part: np.ndarray, temperature_K: np.ndarray) -> np.ndarray:
    """(B, 2) float64: sampler, and temperature, or the number of its bin where a sampler has very many of them.

    The bins of a sampler hold equal numbers of frames. Frames without a temperature are a stratum of their own.
    """
    kelvin = np.nan_to_num(np.array(temperature_K, float), nan=-1.0)
    for sampler in np.unique(part):
        mine = np.flatnonzero((part == sampler) & (kelvin >= 0))
        if len(np.unique(kelvin[mine])) > MAX_TEMPERATURES:
            inner = np.quantile(kelvin[mine], np.linspace(0, 1, MAX_TEMPERATURES + 1)[1:-1])
            kelvin[mine] = np.searchsorted(inner, kelvin[mine], side="right")
    return np.column_stack([np.asarray(part, float), kelvin])

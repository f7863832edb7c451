"""Seconds and memory of selection: coverage of environments, farthest points, duplicates; and what two stages lose.

Every case runs in a process of its own, on one thread. Prints one JSON object.

    python benchmarks/selecting.py [-o FILE] [--scale 0.1] [--case NAME …]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from machine import describe_machine, options, publish
from selection_data import (
    ATOMS,
    LABELLED,
    acetones,
    features_of,
    frames_with_copies,
    pool_of,
    rows_with_copies,
)

from alfw.core.exploration import Pool
from alfw.core.scaling import ElementScale
from alfw.selectors._coverage import Coverage
from alfw.selectors._duplicates import _group
from alfw.selectors._farthest import farthest_points
from alfw.selectors._near import owners
from alfw.selectors._options import Dedup
from alfw.selectors.environments import EnvironmentsSelector

PICKS = 100
POINTS, DIMENSIONS, FARTHEST_PICKS = 1_000_000, 64, 200
LIMIT_A = 0.05
PLANTED = 0.1
GOALS: dict[str, dict[str, float]] = {
    "environments": {"seconds": 20.0, "memory_GB": 4.0},
    "farthest": {"ratio": 1.2},
    "duplicates": {"seconds": 10.0, "recall": 0.999, "memory_GB": 1.5},
}


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall and CPU seconds, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return round(time.perf_counter() - wall, 2), round(time.process_time() - cpu, 2), result


def environments(scale: float, kind: str) -> dict[str, Any]:
    """100 picks from 1e5 frames: the whole selector (filters, scale, copies, picks, duplicates of picks)."""
    n = int(100_000 * scale)
    features_s, _, z = timed(lambda: features_of(n, 2, kind))
    pool = pool_of(acetones(n, 3), list(z), kind)
    before = memory_GB()
    seconds, cpu, selection = timed(lambda: EnvironmentsSelector().select(pool, PICKS, 0))
    goal = GOALS["environments"]
    return {
        "frames": n,
        "labelled": LABELLED,
        "picks": len(selection.chosen),
        "features": kind,
        "made_features_s": features_s,
        "seconds": seconds,
        "cpu_s": cpu,
        "memory_before_GB": before,
        "memory_GB": memory_GB(),
        "reached": seconds <= goal["seconds"] and memory_GB() <= goal["memory_GB"],
        "goal": goal,
    }


def two_stages_loss(scale: float, kind: str) -> dict[str, Any]:
    """What two stages, a random tenth, and chance leave uncovered of 1e5 frames, against exact picks."""
    n = int(100_000 * scale)
    z = list(features_of(n, 2, kind))
    frames = acetones(n, 3)
    numbers = [frames[0].numbers] * n
    element_scale = ElementScale.fit_frames(z, numbers)
    pool = pool_of(frames, z, kind)
    tenth = np.random.default_rng(4).choice(n, n // 10, replace=False)
    in_tenth = pool_of([frames[i] for i in tenth], [z[i] for i in tenth], kind)

    def picks(pool: Pool, most: int) -> list[int]:
        chosen = EnvironmentsSelector(exact_up_to=most).select(pool, PICKS, 0).chosen
        return [choice.index for choice in chosen]

    arms = {
        "exact": picks(pool, n * ATOMS),
        "two stages, 10 parts": picks(pool, n * ATOMS // 10),
        "exact on a random tenth": [int(tenth[i]) for i in picks(in_tenth, n * ATOMS)],
        "random": np.random.default_rng(5).choice(n, PICKS, replace=False).tolist(),
    }
    result: dict[str, Any] = {}
    for name, chosen in arms.items():
        coverage = Coverage(element_scale)
        coverage.add(numbers, z)
        coverage.cover_others([f.numbers for f in pool.labelled], pool.labelled_features or [])
        coverage.cover(chosen)
        gain = coverage.gain()
        result[name] = {"radius": round(float(gain.max()), 4), "mean": round(float(gain.mean()), 4)}
        result[name]["shared_with_exact"] = len(set(chosen) & set(arms["exact"]))
    return {"frames": n, "picks": PICKS, "left_uncovered": result, "memory_GB": memory_GB()}


def two_stages(scale: float) -> dict[str, Any]:
    """100 picks from 1e6 frames in parts of 200,000; features lie in memory as float16."""
    n = int(1_000_000 * scale)
    features_s, _, z = timed(lambda: features_of(n, 2, "clustered", np.float16))
    frames = acetones(1, 3) * n  # one geometry: a million Frames would take 2 GB that are not the selector's
    pool = pool_of(frames, z, "clustered")
    before = memory_GB()
    selector = EnvironmentsSelector(dedup=Dedup(min_distance_A=0), exact_up_to=int(2_000_000 * scale))
    seconds, cpu, selection = timed(lambda: selector.select(pool, PICKS, 0))
    return {
        "frames": n,
        "parts": 5,
        "picks": len(selection.chosen),
        "made_features_s": features_s,
        "seconds": seconds,
        "cpu_s": cpu,
        "memory_before_GB": before,
        "memory_GB": memory_GB(),
    }


def farthest(scale: float) -> dict[str, Any]:
    """k = 200 of 1e6 × 64 against as many bare matrix-vector products, in turn."""
    x = np.random.default_rng(0).standard_normal((int(POINTS * scale), DIMENSIONS), np.float32)
    product = np.empty(len(x), np.float32)

    def bare() -> None:
        for pick in range(FARTHEST_PICKS):
            np.matmul(x, x[pick], out=product)

    bounds, ours = [], []
    for _ in range(3):
        bounds.append(timed(bare)[:2])
        ours.append(timed(lambda: farthest_points(x, FARTHEST_PICKS, 0))[:2])
    wall, cpu = (statistics.median(o[i] / b[i] for o, b in zip(ours, bounds, strict=True)) for i in (0, 1))
    return {
        "points": len(x),
        "dimensions": DIMENSIONS,
        "picks": FARTHEST_PICKS,
        "products_s": bounds,
        "seconds_and_cpu_s": ours,
        "ratio": round(wall, 3),
        "ratio_cpu": round(cpu, 3),
        "goal": GOALS["farthest"],
        "reached": wall <= GOALS["farthest"]["ratio"],
        "memory_GB": memory_GB(),
    }


def duplicates(scale: float) -> dict[str, Any]:
    """1e6 rows of 64 distances (24 independent motions, each distance ± 0.25 Å), a tenth repeats another.

    A repetition differs in every column by a uniform number within the limit of 0.05 Å: as badly as it may.
    """
    n = int(1_000_000 * scale)
    x, twins, originals = rows_with_copies(n, DIMENSIONS, PLANTED, LIMIT_A)
    before = memory_GB()
    seconds, cpu, owner = timed(lambda: owners(x, LIMIT_A))
    found = np.flatnonzero(owner >= 0)
    recall = float(((owner[twins] >= 0) | (owner[originals] >= 0)).mean())
    goal = GOALS["duplicates"]
    wrong = int((np.abs(x[found] - x[owner[found]]) >= LIMIT_A).any(1).sum())
    reached = seconds <= goal["seconds"] and recall >= goal["recall"] and memory_GB() <= goal["memory_GB"]
    return {
        "rows": n,
        "columns": DIMENSIONS,
        "planted": len(twins),
        "seconds": seconds,
        "cpu_s": cpu,
        "recall": round(recall, 5),
        "found": len(found),
        "wrong": wrong,
        "memory_before_GB": before,
        "memory_GB": memory_GB(),
        "goal": goal,
        "reached": reached and wrong == 0,
    }


def duplicate_frames(scale: float) -> dict[str, Any]:
    """Frames of 20 atoms, a tenth of them turned, reordered and displaced copies: fingerprints and join apart."""
    n = int(40_000 * scale)
    frames, n_copies = frames_with_copies(n, PLANTED)
    _, fingerprints_cpu, group = timed(lambda: _group(frames))
    seconds, cpu, owner = timed(lambda: owners(group.fingerprints, LIMIT_A, 0, group.same(LIMIT_A)))
    return {
        "frames": n,
        "atoms": 20,
        "planted": n_copies,
        "profiles_and_fingerprints_cpu_s": fingerprints_cpu,
        "seconds": seconds,
        "cpu_s": cpu,
        "recall": round(float((owner[-n_copies:] >= 0).mean()), 5),
        "found": int((owner >= 0).sum()),
        "memory_GB": memory_GB(),
    }


CASES: dict[str, Callable[[float], dict[str, Any]]] = {
    "environments": lambda scale: environments(scale, "clustered"),
    "environments_manifold": lambda scale: environments(scale, "manifold"),
    "environments_independent": lambda scale: environments(scale, "independent"),
    "two_stages_loss_clustered": lambda scale: two_stages_loss(scale, "clustered"),
    "two_stages_loss_manifold": lambda scale: two_stages_loss(scale, "manifold"),
    "two_stages": two_stages,
    "farthest": farthest,
    "duplicates": duplicates,
    "duplicate_frames": duplicate_frames,
}


def memory_GB() -> float:
    """Largest resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


def in_own_process(case: str, scale: float) -> Any:
    """What a case returns, run in a new process."""
    command = [sys.executable, __file__, "--inside", "--case", case, "--scale", str(scale)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{case}: {run.stderr}")
    print(f"{case}: {run.stdout.strip()}", file=sys.stderr)
    return json.loads(run.stdout) | {"load_average": round(os.getloadavg()[0], 2)}


def main() -> None:
    """Run the cases and print or write the JSON object."""
    parser = options(__doc__)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES), help="only these")
    parser.add_argument("--scale", type=float, default=1.0, help="sizes are multiplied with this")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(CASES[arguments.case[0]](arguments.scale)))
        return
    before = describe_machine()
    cases = {case: in_own_process(case, arguments.scale) for case in arguments.case}
    result = {
        "benchmark": "selecting",
        "scale": arguments.scale,
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "cases": cases,
        "machine": before,
    }
    publish(result, arguments.output)


if __name__ == "__main__":
    main()

"""Training of four Nequix members on 200 ethanol frames: in one process, and in four processes one after the other.

One process is what a train Firework with all members does: one import and one compilation. Each of the four compiles
for itself, as workers on four machines do; then the four again with a shared compilation cache that is warm.
Errors are of the mean of the four, on 100 other frames.

    python benchmarks/ensembles.py [-o FILE]

prints one JSON object and writes it to FILE.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe_machine, options, publish

MEMBERS, FRAMES = 4, 200
NETWORK = {"hidden_irreps": "16x0e + 8x1o", "n_layers": 2}
TRAINING = {"steps": 3200, "batch_size": 10}
GOAL_eV_PER_A, GOAL_S, GOAL_RATIO = 0.10, 90.0, 1.5


def work(members: list[int], folder: Path) -> None:
    """Train these members; in a process of its own."""
    from oracle import ethanol

    from alfw.core.records import Resources, TrainingData
    from alfw.models.nequix import NequixModel

    items = ethanol(400)[: 2 * FRAMES : 2]
    model = NequixModel.model_validate({"members": MEMBERS, **NETWORK, "training": TRAINING})
    data = TrainingData(items, (), model.statistics(TrainingData(items)))
    for k in members:
        model.train(data, k, None, folder / str(k), Resources())


def run(members: list[int], folder: Path, cache: Path) -> dict[str, float]:
    """Wall and CPU seconds of one process that trains these members."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, __file__, "--members", *map(str, members), "--folder", str(folder)],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)},
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": time.perf_counter() - began, "cpu_s": cpu}


def total(parts: list[dict[str, float]]) -> dict[str, float]:
    """Sums of both times."""
    return {key: round(sum(part[key] for part in parts), 1) for key in ("wall_s", "cpu_s")}


def errors(folder: Path) -> dict[str, float]:
    """Force RMSE (eV/Å) of the mean of the members, at 500 K and at 1000 K."""
    from finetuning import errors as of
    from oracle import ethanol

    from alfw.models.ensemble import load_models

    potential = load_models([folder / str(k) / "member.nqx" for k in range(MEMBERS)])
    return {
        "force_rmse_eV_per_A": round(of(potential, ethanol(100, 500.0, 1)), 4),
        "force_rmse_1000K_eV_per_A": round(of(potential, ethanol(100, 1000.0, 2)), 4),
    }


def measure() -> dict[str, Any]:
    """Both sides."""
    from oracle import ethanol

    ethanol(400)  # made before any clock starts
    everyone = list(range(MEMBERS))
    with tempfile.TemporaryDirectory() as root:
        base = Path(root)
        one = total([run(everyone, base / "one", base / "cache_one")])
        four = total([run([k], base / "four", base / f"cache_{k}") for k in everyone])
        warm = total([run([k], base / "warm", base / "cache_0") for k in everyone])
        found = errors(base / "one")
    ratios = {key: round(four[key] / one[key], 2) for key in one}
    return {
        "one_process": one,
        "four_processes": four,
        "four_processes_warm_cache": warm,
        "times_cheaper": ratios,
        "times_cheaper_than_warm": {key: round(warm[key] / one[key], 2) for key in one},
        **found,
        "reached": {
            "error_and_time": found["force_rmse_eV_per_A"] < GOAL_eV_PER_A and one["wall_s"] < GOAL_S,
            "cheaper": min(ratios.values()) >= GOAL_RATIO,
        },
    }


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--members", type=int, nargs="+", help="internal: train these")
    parser.add_argument("--folder", type=Path, help="internal: their weights")
    arguments = parser.parse_args()
    if arguments.members is not None:
        work(arguments.members, arguments.folder)
        return
    before = describe_machine()
    result = {"benchmark": "ensembles", "members": MEMBERS, "frames": FRAMES, "network": NETWORK}
    result |= {"training": TRAINING, **measure(), "machine": before}
    publish(result, arguments.output)


if __name__ == "__main__":
    main()

"""What it costs MD to know in every step how uncertain the model is: one network, shallow and deep ensembles, ethanol.

All walkers are driven by the same network: alone; with the energy σ of K readouts on it in every step; with force_std
of a deep ensemble of four in every step. "screening" is `predict` (energies and forces of all members): the readouts in
one pass, against the same readouts as K networks. Compilation is not counted.

    python benchmarks/spread.py [-o FILE] [--checkpoint nequix-mp-1.nqx]

prints a table and writes JSON to FILE: medians of the repeats, which take turns. The large network is the published
checkpoint, if its file is there; readouts are drawn, not fitted, which changes no cost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.build import molecule
from machine import describe_machine

from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.core.records import Resources
from alfw.models._nequix_heads import readout
from alfw.models._nequix_network import load, program, save
from alfw.models._nequix_potential import NequixPotential
from alfw.models.nequix import NequixModel
from alfw.samplers.jaxmd import JaxMDSampler

GOAL = 1.15  # times the time of the single model, with energy σ in every step
HEADS, MEMBERS, T_K, DT_FS = (8, 32), 4, 100.0, 0.1
SHARED = Path(__file__).resolve().parents[2] / "shared" / "models" / "nequix-mp-1.nqx"
SMALL = {"hidden_irreps": "16x0e + 8x1o", "n_layers": 2, "cutoff_A": 4.0}
STATISTICS = {
    "species": [1, 6, 8],
    "E0_eV": {"1": 0.0, "6": 0.0, "8": 0.0},
    "scale_eV": 1.35,
    "avg_n_neighbors": 8.0,
}


class Cost(NamedTuple):
    """Seconds of one run."""

    wall_s: float
    cpu_s: float


def with_heads(weights: Path, number: int, folder: Path) -> Path:
    """A file of the same network with readouts drawn about its own, in pairs."""
    member, rng = load(weights), np.random.default_rng(number)
    mean = readout(member.params)
    delta = 0.05 * np.abs(mean).mean() * rng.standard_normal((number // 2, len(mean)))
    path = folder / f"heads_{number}.nqx"
    heads = mean + np.concatenate([delta, -delta])
    save(path, member.spec, program(member.spec).network(member.params), member.reference, heads)
    return path


def md(potential: Potential, walkers: int, n_steps: int, deviation: bool) -> Callable[[], Cost]:
    """A function that runs MD and says what it cost; called once here, to compile."""
    limits = {"max_force_eV_per_A": 1e6, "min_distance_fraction": 0.0, "max_speed_A_per_fs": 1e3}
    limits |= {"max_growth_A": 1e6, "force_std_eV_per_A": 1e6 if deviation else None}
    sampler = JaxMDSampler(
        temperatures_K=(T_K,), walkers=walkers, dt_fs=DT_FS, n_steps=n_steps, keep_every=n_steps,
        force_std_every=1, limits=limits,
    )  # fmt: skip
    start = Frame.from_atoms(molecule("CH3CH2OH"))

    def run() -> Cost:
        return timed(lambda: checked(sampler.run(potential, [start], 0, Path(), Resources()).events))

    run()
    return run


def checked(events: list[Any]) -> None:
    """Raise where a walker has stopped: its steps would cost nothing."""
    if events:
        raise RuntimeError(f"{len(events)} walkers stopped: {events[0].reason}")


def screening(potential: Potential, n_frames: int) -> Callable[[], Cost]:
    """The same of `predict`."""
    atoms, rng = molecule("CH3CH2OH"), np.random.default_rng(0)
    frames = [
        Frame(atoms.numbers, atoms.positions + 0.05 * rng.standard_normal((9, 3))) for _ in range(n_frames)
    ]
    potential.predict(frames)
    return lambda: timed(lambda: potential.predict(frames))


def timed(work: Callable[[], object]) -> Cost:
    """What it costs to do this once."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def cases(
    weights: list[Path], folder: Path, steps: int, frames: int
) -> dict[str, dict[str, Callable[[], Cost]]]:
    """By kind of work, what is compared; the first of each is the reference."""
    folder.mkdir(parents=True, exist_ok=True)
    one, deep = NequixModel(members=1).load(weights[:1]), NequixModel().load(weights)
    shallow = {k: with_heads(weights[0], k, folder) for k in HEADS}
    kinds: dict[str, dict[str, Callable[[], Cost]]] = {}
    for walkers in (1, 16):
        n = max(20, steps // walkers)
        kinds[f"MD, {walkers} walkers"] = {
            "one model": md(one, walkers, n, False),
            **{
                f"energy σ of {k} heads": md(NequixModel(members=1).load([path]), walkers, n, False)
                for k, path in shallow.items()
            },
            f"force_std of {MEMBERS} members": md(deep, walkers, n, True),
        }
    kinds["screening"] = {
        "one model": screening(one, frames),
        f"{MEMBERS} members": screening(deep, frames),
        **{
            f"{k} heads": screening(NequixModel(members=1).load([path]), frames)
            for k, path in shallow.items()
        },
        f"{HEADS[0]} heads as networks": screening(NequixPotential([shallow[HEADS[0]]]), frames),
    }
    return kinds


def measured(kinds: dict[str, dict[str, Callable[[], Cost]]], repeats: int) -> dict[str, Any]:
    """Medians over repeats that take turns, and ratios to the first case of each kind, repeat by repeat."""
    result: dict[str, Any] = {}
    for kind, runs in kinds.items():
        turns = [{name: run() for name, run in runs.items()} for _ in range(repeats)]
        first = next(iter(runs))
        result[kind] = {
            name: {
                "wall_s": round(statistics.median(turn[name].wall_s for turn in turns), 4),
                "cpu_s": round(statistics.median(turn[name].cpu_s for turn in turns), 4),
                "ratio_wall": round(statistics.median(t[name].wall_s / t[first].wall_s for t in turns), 3),
                "ratio_cpu": round(statistics.median(t[name].cpu_s / t[first].cpu_s for t in turns), 3),
            }
            for name in runs
        }
    return result


def table(results: dict[str, Any]) -> str:
    """For reading."""
    lines = [f"{'':44}{'wall s':>9}{'CPU s':>9}{'ratio wall':>12}{'CPU':>7}"]
    for network, kinds in results.items():
        for kind, rows in kinds.items():
            lines.append(f"{network}: {kind}")
            lines += [
                f"    {name:40}{row['wall_s']:9.3f}{row['cpu_s']:9.3f}{row['ratio_wall']:12.2f}{row['ratio_cpu']:7.2f}"
                for name, row in rows.items()
            ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, help="write JSON here")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--checkpoint", type=Path, default=Path(os.environ.get("ALFW_TEST_CHECKPOINT", SHARED))
    )
    parser.add_argument("--networks", nargs="+", default=["small", "nequix-mp-1"])
    args = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "small" in args.networks:
            model = NequixModel(**SMALL)
            weights = [model.initialise(STATISTICS, k, folder / str(k)) for k in range(MEMBERS)]
            results["small"] = measured(cases(weights, folder / "small", 8000, 512), max(3, args.repeats))
        if "nequix-mp-1" in args.networks and args.checkpoint.is_file():
            large = cases([args.checkpoint] * MEMBERS, folder / "large", 60, 32)
            results["nequix-mp-1"] = measured(large, 3)
    heads = [f"energy σ of {k} heads" for k in HEADS]
    worst = {
        network: max(kinds[kind][h]["ratio_cpu"] for kind in kinds if kind.startswith("MD") for h in heads)
        for network, kinds in results.items()
    }
    result = {
        "benchmark": "spread",
        "machine": describe_machine(),
        "system": "ethanol, 9 atoms; small: 16x0e + 8x1o, 2 layers, cutoff 4 Å; nequix-mp-1: 707,658 parameters",
        "goal": f"MD with energy σ every step costs at most {GOAL} times the single model (CPU time)",
        "largest_ratio": worst,
        "reached": max(worst.values()) <= GOAL,
        "results": results,
    }
    print(table(results))
    print(json.dumps({key: result[key] for key in ("goal", "largest_ratio", "reached")}, ensure_ascii=False))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

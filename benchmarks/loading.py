"""Reading a training set of 100,000 frames of 20 atoms: a stacked shard, and extended XYZ with ASE.

Ours: from the bytes of the file to padded float32 arrays on the device (`Stacked.read`, `padded`, `device_put`); best
and median of repeats. ASE: extxyz of a twentieth of the frames, from text to numpy arrays, and its rate; the factor is
that of frames per second. The neighbour lists that a network needs are made by another part, and timed apart.

    python benchmarks/loading.py [-o FILE]

prints one JSON object and writes it to FILE.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ase.io import read
from machine import describe_machine, options, publish

from alfw.core.neighbours import neighbours
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.io.stacked import Stacked

FRAMES, ATOMS, REPEATS, SHARE = 100_000, 20, 7, 20
GOAL_S, CUTOFF_A, N_NEIGHBOURS = 0.5, 4.0, 2000
NUMBERS = np.array([6] * 6 + [8] * 2 + [1] * 12)


def shard(path: Path) -> Stacked:
    """A shard of random molecules, as a campaign stores it."""
    rng = np.random.default_rng(0)
    grid = 1.6 * np.stack(np.meshgrid(range(3), range(3), range(3)), -1).reshape(-1, 3)[:ATOMS]
    positions = np.round(grid + 0.1 * rng.normal(size=(FRAMES, ATOMS, 3)), 6)
    arrays = {
        "frame_offsets": np.arange(FRAMES + 1) * ATOMS,
        "frame_numbers": np.tile(NUMBERS.astype(np.int16), FRAMES),
        "frame_positions": positions.reshape(-1, 3),
        "frame_cell": np.zeros((FRAMES, 3, 3)),
        "frame_pbc": np.zeros((FRAMES, 3), bool),
        "frame_charge": np.zeros(FRAMES, np.int64),
        "frame_multiplicity": np.ones(FRAMES, np.int64),
        "energy": rng.normal(size=FRAMES),
        "atoms_forces": rng.normal(size=(FRAMES * ATOMS, 3)),
        "label_id": np.array([f"{i:064x}" for i in range(FRAMES)]),
    }
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return Stacked.read(path.read_bytes())


def seconds_stacked(path: Path) -> float:
    """From the file to arrays on the device."""
    began = time.perf_counter()
    padded = Stacked.read(path.read_bytes()).padded()
    jax.block_until_ready(jax.device_put(padded._replace(energy=padded.energy.astype(np.float32))))
    return time.perf_counter() - began


def seconds_ase(path: Path) -> float:
    """From the text to arrays."""
    began = time.perf_counter()
    images = read(path, index=":")
    np.array([atoms.positions for atoms in images], np.float32)
    np.array([atoms.get_forces() for atoms in images], np.float32)
    np.array([atoms.get_potential_energy() for atoms in images])
    return time.perf_counter() - began


def measure(folder: Path) -> dict[str, Any]:
    """Both sides in turn."""
    everything = shard(folder / "set.npz")
    few = everything[: FRAMES // SHARE]
    write_extxyz(folder / "set.extxyz", [Imported(item.frame, item.label) for item in few])
    ours, theirs = [], []
    for _ in range(REPEATS):
        ours.append(seconds_stacked(folder / "set.npz"))
    for _ in range(2):
        theirs.append(seconds_ase(folder / "set.extxyz"))
    frames = [item.frame for item in everything[:N_NEIGHBOURS]]
    began = time.perf_counter()
    for frame in frames:
        neighbours(frame, CUTOFF_A)
    pairs = (time.perf_counter() - began) / N_NEIGHBOURS
    median = statistics.median(ours)
    return {
        "stacked_s": {
            "median": round(median, 3),
            "best": round(min(ours), 3),
            "all": [round(x, 3) for x in ours],
        },
        "file_MB": round((folder / "set.npz").stat().st_size / 1e6, 1),
        "ase_extxyz_s": round(SHARE * min(theirs), 1),
        "ase_frames_read": FRAMES // SHARE,
        "times_faster": round(SHARE * min(theirs) / median),
        "neighbour_lists_us_per_frame": round(1e6 * pairs, 1),
        "goal_s": GOAL_S,
        "reached": median <= GOAL_S,
    }


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__)
    arguments = parser.parse_args()
    before = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "benchmark": "loading",
            "frames": FRAMES,
            "atoms": ATOMS,
            **measure(Path(folder)),
            "machine": before,
        }
    publish(result, arguments.output)


if __name__ == "__main__":
    main()

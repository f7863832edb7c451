"""PhysNet and DCMNet on water labelled here with PySCF: errors on frames that were held out, and training seconds.

Energies, forces, dipoles and potentials are of HF/6-31G*; one member is trained with the default options, or with
those given. The potential of the atomic charges is that of the same training: they are fitted to the dipole, as in the
seed system, and their sums are tied to the distributed charges.

    python benchmarks/physnet.py [-o FILE] [--model '{"physnet_features": 32}'] [--training '{"epochs": 50}']
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from machine import describe_machine, publish

from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Labeled, Resources, TrainingData
from alfw.core.units import HARTREE_eV
from alfw.labelers.pyscf import PySCFLabeler
from alfw.models.physnet import PhysNetModel

GOAL_S, GOAL_DIPOLE_eA = 180.0, 0.02
TEST = 30
BOND_A, ANGLE_deg = 0.96, 104.5
PROGRAMS = 2  # PySCF processes at once


def waters(number: int, seed: int) -> list[Frame]:
    """Water with bonds and angle as at some 1000 K; in every fourth one bond is stretched by up to 0.4 Å."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(number):
        one, two = BOND_A + 0.05 * rng.standard_normal(2) + [0.4 * rng.random() * (i % 4 == 0), 0.0]
        angle = np.deg2rad(ANGLE_deg + 10.0 * rng.standard_normal())
        flat = np.array([[0, 0, 0], [one, 0, 0], [two * np.cos(angle), two * np.sin(angle), 0]])
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        frames.append(Frame(numbers=[8, 1, 1], positions=flat @ turn))
    return frames


def labelled(frames: Sequence[Frame]) -> list[Labeled]:
    """The frames with energies, forces, dipoles and potentials."""
    labeler = PySCFLabeler(method="HF", basis="6-31G*", esp={})

    def one(frame: Frame) -> Labeled:
        with tempfile.TemporaryDirectory() as folder:
            return Labeled(frame, label(labeler, frame, Path(folder), Resources()))

    first = one(frames[0])  # imports what the threads then share
    with ThreadPoolExecutor(PROGRAMS) as pool:
        return [first, *pool.map(one, frames[1:])]


def rms(values: Any) -> float:
    """Root mean square of all numbers of these arrays."""
    return float(np.sqrt(np.mean(np.concatenate([np.ravel(x) for x in values]) ** 2)))


def errors(potential: Any, items: Sequence[Labeled]) -> dict[str, float]:
    """Root mean square errors of the first member; of dipoles per component."""
    frames = [item.frame for item in items]
    found = potential.predict(frames)
    energy = [(e - i.label.energy) / len(i.frame) for e, i in zip(found.energy[0], items, strict=True)]
    forces = [f[0] - i.label.forces for f, i in zip(found.forces, items, strict=True)]
    result = {"force_rmse_eV_per_A": rms(forces), "energy_rmse_eV_per_atom": rms(energy)}
    reference = np.array([item.label.dipole for item in items])
    potentials = [potential.esp(item.frame, item.label.esp_points) for item in items]
    for which, name in enumerate(("physnet", "dcmnet")):
        result[f"dipole_{name}_rmse_eA"] = rms([potential.dipoles(frames)[which][0] - reference])
        esp = rms([v[which][0] - i.label.esp for v, i in zip(potentials, items, strict=True)])
        result |= {f"esp_{name}_rmse_V": esp, f"esp_{name}_rmse_hartree_per_e": esp / HARTREE_eV}
    return {key: round(value, 6) for key, value in result.items()}


def trained(model: PhysNetModel, train: Sequence[Labeled], test: Sequence[Labeled]) -> dict[str, Any]:
    """Errors on `test` after training on `train`, and seconds of the training, with all compilation."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ALFW_CACHE"] = folder  # nothing compiled before
        began = time.perf_counter()
        weights = model.train(TrainingData(train), 0, None, Path(folder), Resources())
        seconds = time.perf_counter() - began
        found = errors(model.load([weights]), test)
    return {
        "n_train": len(train),
        "n_test": len(test),
        "training_s": round(seconds, 1),
        **found,
        "goal_training_s": GOAL_S,
        "goal_dipole_rmse_eA": GOAL_DIPOLE_eA,
        "reached": seconds <= GOAL_S
        and found["dipole_dcmnet_rmse_eA"] <= GOAL_DIPOLE_eA
        and found["esp_dcmnet_rmse_V"] < found["esp_physnet_rmse_V"],
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=lambda text: Path(text).resolve())
    parser.add_argument("--number", type=int, default=120, help=f"frames, {TEST} of them held out")
    parser.add_argument("--model", type=json.loads, default={}, help="options of the model (JSON)")
    parser.add_argument("--training", type=json.loads, default={}, help="options of its training (JSON)")
    arguments = parser.parse_args()
    began = time.perf_counter()
    items = labelled(waters(arguments.number, 0))
    labelling = time.perf_counter() - began
    model = PhysNetModel(**{"members": 1, "training": arguments.training, **arguments.model})
    result = {
        "benchmark": "physnet",
        "theory": "HF/6-31G*",
        "labelling_s": round(labelling, 1),
        **trained(model, items[TEST:], items[:TEST]),
        "options": {**arguments.model, "training": arguments.training},
        "machine": describe_machine(),
    }
    publish(result, arguments.output)


if __name__ == "__main__":
    main()

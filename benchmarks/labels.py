"""What a label costs besides the QM: of a program in a child process, and of 1,000 labels in one packed Firework."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from fireworks import LaunchPad
from label_campaigns import campaign, database, ethanols, label_fireworks, labelled
from machine import describe_machine, publish

from alfw.core.frame import Frame
from alfw.core.units import BOHR_A, HARTREE_eV, KB_eV_PER_K

GOAL_MS, GOAL_RATIO = 150.0, 0.6
# Stands for PySCF: reads its input, leaves a result of ethanol, and notes how long it took from first to last line.
PROGRAM = """#!{python} -S
import time; began = time.perf_counter()
import json
geometry = json.load(open("input.json"))
n = len(geometry["numbers"])
zero = [[0.0, 0.0, 0.0]] * n
numbers = {{"energy_hartree": -154.5, "gradient_hartree_per_bohr": zero, "dipole_e_bohr": [0, 0, 0], "version": "0"}}
json.dump(numbers, open("result.json", "w"))
print("scf cycle 1 energy -154.5\\n" * 2000)
open({log!r}, "a").write(f"{{time.perf_counter() - began}}\\n")
"""


def bare(frames: list[Frame]) -> float:
    """Seconds of a loop over the frames with nothing but tblite: energy, gradient, charges and dipole of each."""
    from tblite.interface import Calculator

    began = time.perf_counter()
    for frame in frames:
        calculator = Calculator("GFN2-xTB", frame.numbers, frame.positions / BOHR_A, charge=0.0, uhf=0)
        calculator.set("verbosity", 0)
        calculator.set("accuracy", 1.0)
        calculator.set("temperature", 300.0 * KB_eV_PER_K / HARTREE_eV)
        result = calculator.singlepoint()
        _ = [result.get(what) for what in ("energy", "gradient", "charges", "dipole")]
    return time.perf_counter() - began


def packed(pad: LaunchPad, folder: Path, number: int) -> dict[str, Any]:
    """Rates (labels/s) of a packed Firework and of the bare loop, one after the other, same frames."""
    frames = ethanols(number, seed=1)
    cfg = campaign(folder, "packed", frames, {"kind": "tblite", "frames_per_firework": number})
    bare(frames[:50])
    before = bare(frames)
    [seconds] = label_fireworks(pad, cfg)
    after = bare(frames)
    alone = (before + after) / 2  # whatever else the machine does, it did before and after
    ratio = alone / seconds
    return {
        "labels": labelled(pad, cfg, frames),
        "labels_per_s": round(number / seconds, 1),
        "bare_loop_per_s": round(number / alone, 1),
        "bare_loop_seconds": [round(before, 3), round(after, 3)],
        "ratio": round(ratio, 3),
        "goal_ratio": GOAL_RATIO,
        "reached": ratio >= GOAL_RATIO,
    }


def external(pad: LaunchPad, folder: Path, number: int) -> dict[str, Any]:
    """Milliseconds a label of a program costs besides the program: custodian, parser, store; one pack, external."""
    log, path = folder / "own_seconds", folder / "program"
    path.write_text(PROGRAM.format(python=sys.executable, log=str(log)))
    path.chmod(0o755)
    frames = ethanols(number, seed=2)
    label = {"kind": "pyscf", "method": "HF", "basis": "sto-3g", "command": str(path)}
    cfg = campaign(folder, "external", frames, label | {"frames_per_firework": number})
    [seconds] = label_fireworks(pad, cfg)
    own = [float(line) for line in log.read_text().split()]
    each = 1e3 * (seconds - sum(own)) / number
    return {
        "labels": labelled(pad, cfg, frames),
        "ms_per_label": round(1e3 * seconds / number, 2),
        "ms_of_the_program_median": round(1e3 * statistics.median(own), 2),
        "overhead_ms_per_label": round(each, 2),
        "goal_ms": GOAL_MS,
        "reached": each <= GOAL_MS,
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=lambda text: Path(text).resolve())
    parser.add_argument("--number", type=int, default=1000, help="labels of the packed Firework")
    parser.add_argument("--external", type=int, default=100, help="labels of the program")
    arguments = parser.parse_args()
    with database() as (pad, folder):
        result = {
            "benchmark": "labels",
            "packed_tblite_ethanol": packed(pad, folder, arguments.number),
            "external_program": external(pad, folder, arguments.external),
            "machine": describe_machine(),
        }
    publish(result, arguments.output)


if __name__ == "__main__":
    main()

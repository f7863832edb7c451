"""Seconds that `alfw demo` takes from nothing to its table, and what came out."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine, publish

GOAL_S = 360.0


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = [Path(sys.executable).parent / "alfw", "demo", "--dir", "demo", "--json"]
        done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
        wall = time.perf_counter() - began
    rounds = json.loads(done.stdout)["rounds"]
    errors = [row["force_rmse_eV_per_A"] for row in rounds]
    result = {
        "benchmark": "demo",
        "wall_s": round(wall, 1),
        "goal_s": GOAL_S,
        "rounds_after_start": len(rounds) - 1,
        "labels": sum(row["n_labeled"] for row in rounds),
        "sealed_test_force_rmse_eV_per_A": [round(error, 4) for error in errors],
        "audit_force_rmse_eV_per_A": [row["audit_force_rmse_eV_per_A"] for row in rounds],
        "cpu_hours": [row["cpu_hours"] for row in rounds],
        "reached": wall <= GOAL_S and errors[-1] < errors[0],
        "machine": machine,
    }
    publish(result, arguments.output)


if __name__ == "__main__":
    main()

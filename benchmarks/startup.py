"""Seconds that `alfw --help` and `alfw status` take, seen from a shell; database and campaign are real."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine, publish

BIN = Path(sys.executable).parent
GOALS = {"alfw --help": 0.5, "alfw status": 1.5}
REPEATS = 7


def seconds(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Median wall time of a command, after one warm-up."""
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        subprocess.run(
            [BIN / command[0], *command[1:]], cwd=folder, env=environment, check=True, capture_output=True
        )
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "work"
        environment = {**os.environ, "FW_CONFIG_FILE": str(folder / "FW_config.yaml")}
        for command in (["alfw", "init", str(folder)], ["alfw", "db", "start", "--dir", str(folder)]):
            subprocess.run([BIN / command[0], *command[1:]], check=True, capture_output=True)
        try:
            subprocess.run(
                [BIN / "lpad", "add", "campaign.yaml"],
                cwd=folder,
                env=environment,
                check=True,
                capture_output=True,
            )
            subprocess.run(
                [BIN / "rlaunch", "singleshot"], cwd=folder, env=environment, check=True, capture_output=True
            )
            measured = {
                " ".join(c): seconds(c, folder, environment) for c in (["alfw", "--help"], ["alfw", "status"])
            }
        finally:
            subprocess.run(
                [BIN / "alfw", "db", "stop", "--dir", str(folder)], check=True, capture_output=True
            )
    result = {
        "benchmark": "startup",
        "seconds": {name: round(value, 3) for name, value in measured.items()},
        "goal_seconds": GOALS,
        "reached": all(measured[name] < goal for name, goal in GOALS.items()),
        "machine": describe_machine(),
    }
    publish(result, arguments.output)


if __name__ == "__main__":
    main()

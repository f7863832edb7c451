"""What benchmarks have in common: their options, what they ran on, how their result is given out."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "alfw",
    "numpy",
    "ase",
    "jax",
    "jaxlib",
    "jax-md",
    "nequix",
    "fireworks",
    "pymongo",
    "pyscf",
    "tblite",
)


def options(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the first line of the benchmark's text, and the option that all have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    parser.add_argument("-o", "--output", type=Path, help="write the JSON there as well")
    return parser


def publish(result: Mapping[str, Any], path: Path | None) -> None:
    """Print a result as one JSON object, and write it to a file if one is given."""
    text = json.dumps(result, indent=1)
    print(text)
    if path is not None:
        path.write_text(text + "\n", encoding="utf-8")


def describe_machine() -> dict[str, Any]:
    """JSON data: processor, cores, memory, versions, load averages over 1, 5 and 15 minutes."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "load_average": [round(x, 2) for x in os.getloadavg()],
    }


def cpu_model() -> str:
    """The processor's name, as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

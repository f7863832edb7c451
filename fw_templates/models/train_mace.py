"""Train one MACE on labelled extxyz files: for the `train_command` of an external model, see mace.yaml.

Run by the interpreter that has mace-torch; alfw need not be there. What follows ``--`` goes to mace_run_train as it is
and wins over what is set here.

    python train_mace.py train.extxyz valid.extxyz weights.model --seed 1 --device gpu -- --max_num_epochs 300
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

NAME = "alfw"
PROPERTIES = ("energy", "forces", "stress")


def for_mace(source: Path, target: Path) -> dict[str, int]:
    """How many frames have energy, forces, stress; written with the keys that MACE reads: REF_energy and so on."""
    from ase.io import read, write

    frames = read(source, ":") if source.stat().st_size else []
    counts = dict.fromkeys(PROPERTIES, 0)
    for atoms in frames:
        results, atoms.calc = atoms.calc.results, None
        for name in PROPERTIES:
            if name in results:
                (atoms.arrays if name == "forces" else atoms.info)[f"REF_{name}"] = results[name]
                counts[name] += 1
    if frames:
        write(target, frames, format="extxyz")
    return counts


def command(args: argparse.Namespace, stress: bool, valid: bool) -> list[str]:
    """The command line of mace_run_train."""
    options: dict[str, object] = {
        "name": NAME,
        "model": "ScaleShiftMACE" if not args.start else None,
        "train_file": "train.xyz",
        "valid_file": "valid.xyz" if valid else "train.xyz",  # MACE keeps the best of its epochs on this file
        "E0s": args.E0s,
        "seed": args.seed % 2**32,  # NumPy takes no larger ones
        "device": {"gpu": "cuda"}.get(args.device, args.device),
        "default_dtype": "float64",  # MACE adds E0 inside: float32 would leave total energies no digits
        "energy_key": "REF_energy",
        "forces_key": "REF_forces",
        "stress_key": "REF_stress",
        "compute_stress": stress,
        "loss": "universal" if stress else "weighted",
        "foundation_model": args.start or None,
        "multiheads_finetuning": False if args.start else None,
        "model_dir": ".",
        "plot": False,
    }
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return [sys.executable, "-m", "mace.cli.run_train", *given, "--save_cpu"]


def main() -> int:
    """Exit status of mace_run_train; the trained model is at the path that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument(
        "valid", type=Path, help="may be empty: the best epoch is then chosen on the train file"
    )
    parser.add_argument("weights", type=Path, help="where the model is put")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, gpu or what torch calls it")
    parser.add_argument(
        "--start", default="", help="a MACE model to fine-tune: a file, or a name such as small"
    )
    parser.add_argument(
        "--E0s", default="average", help="average, or {1: -13.6, 8: -2041.8}: of isolated atoms, eV"
    )
    given = sys.argv[1:]
    at = given.index("--") if "--" in given else len(given)
    args, more = parser.parse_args(given[:at]), given[at + 1 :]
    counts = for_mace(args.train, Path("train.xyz"))
    valid = for_mace(args.valid, Path("valid.xyz"))
    if not counts["forces"]:
        sys.exit(f"{args.train}: no frames with forces to train on")
    stress = counts["stress"] == counts["energy"]
    status = subprocess.run([*command(args, stress, bool(valid["forces"])), *more], check=False).returncode
    if status == 0:
        shutil.copyfile(f"{NAME}.model", args.weights)
    return status


if __name__ == "__main__":
    sys.exit(main())

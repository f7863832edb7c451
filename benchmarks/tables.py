"""The measured tables of docs/models.md and docs/science.md, out of benchmarks/results/*.json.

    python benchmarks/tables.py

writes them between the marks ``<!-- table: NAME -->`` and ``<!-- end -->`` of the pages; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import science_tables as science
from tabular import markdown, result, yes

DOCS = Path(__file__).resolve().parents[1] / "docs"
MARKS = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def ensembles() -> str:
    """Four members in one process and in four."""
    r = result("ensembles")
    head = ["four members, 200 ethanol frames", "wall s", "CPU s", "force RMSE eV/Å (500 K / 1000 K)"]
    error = f"{r['force_rmse_eV_per_A']:.3f} / {r['force_rmse_1000K_eV_per_A']:.3f}"
    sides = {
        "one process": ("one_process", error),
        "four processes, one after the other": ("four_processes", "the same"),
        "the same, compilation cache warm": ("four_processes_warm_cache", "the same"),
    }
    return markdown(
        head, [[name, r[key]["wall_s"], r[key]["cpu_s"], text] for name, (key, text) in sides.items()]
    )


def finetuning() -> str:
    """Fine-tuning on ethanol and malonaldehyde."""
    r = result("finetuning")
    head = [
        "fine-tuned nequix-mp-1, one member",
        "force RMSE eV/Å",
        "worst region eV/Å",
        "seconds",
        "goal",
        "reached",
    ]
    rows: list[list[Any]] = [
        [
            f"ethanol, {r['ethanol']['frames']} frames, {run['steps']} steps",
            f"{run['force_rmse_eV_per_A']:.3f}",
            "–",
            f"{run['seconds']:.0f}",
            "0.08 in 60 s",
            yes(run["reached"]),
        ]
        for run in r["ethanol"]["runs"]
    ]
    for name, row in r["malonaldehyde"].items():
        if isinstance(row, dict):
            seconds = [run["seconds"] for run in row["runs"]]
            spread = " / ".join(f"{x:.3f}" for x in row["mean_by_seed"])
            rows.append(
                [
                    f"malonaldehyde, {r['malonaldehyde']['labels']} frames, {name}",
                    f"{row['mean_eV_per_A']:.3f} ({spread})",
                    f"{row['worst_region_eV_per_A']:.3f}",
                    f"{sum(seconds) / len(seconds):.0f}",
                    "0.049, worst 0.070",
                    yes(row["reached"]),
                ]
            )
    return markdown(head, rows)


def physnet() -> str:
    """PhysNet with DCMNet."""
    r = result("physnet")
    esp, dipole = "esp_{}_rmse_V", "dipole_{}_rmse_eA"
    head = [
        f"{r['n_train']} waters, {r['theory']}, {r['n_test']} held out",
        "atomic charges",
        "distributed charges",
    ]
    rows = [
        ["potential, RMSE V", *(f"{r[esp.format(name)]:.4f}" for name in ("physnet", "dcmnet"))],
        ["dipole, RMSE e·Å", *(f"{r[dipole.format(name)]:.4f}" for name in ("physnet", "dcmnet"))],
        ["force RMSE eV/Å", f"{r['force_rmse_eV_per_A']:.3f}", "–"],
        ["energy RMSE eV/atom", f"{r['energy_rmse_eV_per_atom']:.4f}", "–"],
        ["training, s", f"{r['training_s']:.0f}", "(both together)"],
    ]
    return markdown(head, rows)


def spread() -> str:
    """What an uncertainty costs in MD."""
    rows = []
    for network, kinds in result("spread")["results"].items():
        for kind, cases in kinds.items():
            if kind.startswith("MD"):
                rows += [[network, kind, name, f"{row['ratio_cpu']:.2f}"] for name, row in cases.items()]
    return markdown(["network", "", "every step", "CPU time / that of one model"], rows)


def compiling() -> str:
    """Compilations of rounds and processes."""
    head = ["train, predict, features, MD", "programs compiled", "seconds", "read from the cache", "seconds"]
    keys = ("compiled", "compile_s", "retrieved", "retrieve_s")
    rows = [
        [f"{kind}: {name}", *(row[key] for key in keys)]
        for kind, cases in result("compiling")["results"].items()
        for name, row in cases.items()
    ]
    return markdown(head, rows)


def loading() -> str:
    """Reading a training set."""
    r = result("loading")
    what = f"{r['frames']:,} frames of {r['atoms']} atoms"
    return markdown(
        [what, "seconds"],
        [
            ["stacked shard to arrays on the device (median)", r["stacked_s"]["median"]],
            [f"extended XYZ with ASE (of {r['ase_frames_read']:,} frames, scaled)", r["ase_extxyz_s"]],
        ],
    )


Tables = Mapping[str, Callable[[], str]]
MODELS: Tables = {f.__name__: f for f in (ensembles, finetuning, physnet, spread, compiling, loading)}
SCIENCE: Tables = {
    f.__name__: f
    for f in (
        science.goals,
        science.label_efficiency,
        science.paired,
        science.closed_loop,
        science.fewer_labels,
        science.conformal,
        science.selecting,
        science.biased,
    )
}
PAGES: Mapping[str, Tables] = {"models.md": MODELS, "science.md": SCIENCE}


def filled(text: str, tables: Tables) -> str:
    """A page with its tables as the results have them."""
    return MARKS.sub(lambda found: found[1] + tables[found[2]]() + found[3], text)


if __name__ == "__main__":
    for name, tables in PAGES.items():
        page = DOCS / name
        page.write_text(filled(page.read_text(encoding="utf-8"), tables), encoding="utf-8")

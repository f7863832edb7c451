"""The pictures of docs/science.md, out of benchmarks/results/*.json.

    python benchmarks/plots.py

writes label_efficiency.svg and closed_loop.svg to docs/images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from science_tables import ARM
from tabular import RESULTS, result

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
COLOURS = {"random": "#999999", "farthest": "#56b4e9", "environments": "#d55e00"}
LINES = ("#0072b2", "#d55e00", "#e69f00", "#009e73", "#999999")
STYLE = {"svg.hashsalt": "alfw", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def label_efficiency() -> Any:
    """Bars of the errors by region, one panel a tier; dots are the seeds' means over regions."""
    tiers = result("label_efficiency")["tiers"]
    columns = 3
    figure, axes = plt.subplots(
        -(-len(tiers) // columns), columns, figsize=(10, 2.7 * -(-len(tiers) // columns)), squeeze=False
    )
    for axis, (name, tier) in zip(axes.flat, tiers.items(), strict=False):
        for k, (arm, row) in enumerate(tier["arms_meV_per_A"].items()):
            regions = list(row["regions"])
            place = np.arange(len(regions) + 1) + 0.27 * (k - 1)
            axis.bar(place, [*row["regions"].values(), row["mean"]], 0.25, color=COLOURS[arm], label=ARM[arm])
            seeds = row["mean_by_seed"]
            axis.plot(np.full(len(seeds), place[-1]), seeds, ".", color="black", markersize=3)
        axis.set_xticks(
            range(len(regions) + 1), [*(x.replace(" ", "\n") for x in regions), "mean"], fontsize=7
        )
        axis.set_title(f"{name}, {tier['labels']} labels", fontsize=9)
    for axis in axes[:, 0]:
        axis.set_ylabel("force RMSE, meV/Å")
    for axis in list(axes.flat)[len(tiers) :]:
        axis.axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", frameon=False)
    return figure


def closed_loop() -> Any:
    """Errors of the exploring model as labels come in, one panel a region; lines are means over seeds."""
    r = result("closed_loop")
    regions = list(r["goal_meV_per_A"])
    figure, axes = plt.subplots(1, len(regions), figsize=(10, 3), sharex=True)
    for axis, region in zip(axes, regions, strict=True):
        for colour, (arm, found) in zip(LINES, r["arms"].items(), strict=True):
            curves = np.array([[each["regions"][region] for each in seed] for seed in found["rounds"]])
            labels = [each["labels"] for each in found["rounds"][0]]
            for curve in curves:
                axis.plot(labels, curve, color=colour, linewidth=0.5, alpha=0.5)
            axis.plot(labels, curves.mean(0), "o-", color=colour, markersize=3, label=arm)
            ends = [found[f"after {n} labels"]["regions"][region] for n in (100, 120)]
            axis.plot([100, 120], ends, "s", color=colour, markersize=5, markerfacecolor="none")
        axis.axhline(r["goal_meV_per_A"][region], color="black", linestyle=":", linewidth=1)
        axis.set_title(region, fontsize=9)
        axis.set_xlabel("labels")
        axis.set_yscale("log")
    axes[0].set_ylabel("force RMSE, meV/Å")
    axes[-1].legend(frameon=False, fontsize=6)
    return figure


def main() -> None:
    """Those that there is a result of."""
    IMAGES.mkdir(exist_ok=True)
    with plt.rc_context(STYLE):
        for draw in (label_efficiency, closed_loop):
            if not (RESULTS / f"{draw.__name__}.json").is_file():
                print(f"{draw.__name__}: no result to draw")
                continue
            figure = draw()
            figure.tight_layout()
            figure.savefig(IMAGES / f"{draw.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

"""The measured tables of docs/science.md; see tables.py, which writes them."""

from __future__ import annotations

from typing import Any

from tabular import markdown, result, yes

ARM = {"random": "random", "farthest": "farthest point", "environments": "environments"}


def per_seed(values: list[float]) -> str:
    """One number for each seed."""
    return " / ".join(f"{x:.1f}" for x in values)


def with_margin(row: dict[str, Any], key: str, sign: str = "") -> str:
    """A mean over seeds and half of its 95 % interval."""
    margin = row[f"{key}_95"]
    return f"{row[key]:{sign}.1f}" if margin is None else f"{row[key]:{sign}.1f} ± {margin:.1f}"


def label_efficiency() -> str:
    """Errors of the three ways to choose, tier by tier."""
    head = [
        "tier",
        "labels",
        "chosen by",
        "mean of the regions",
        "by seed",
        "worst region",
        "regions",
        "of the rare regions",
    ]
    rows: list[list[Any]] = []
    for name, tier in result("label_efficiency")["tiers"].items():
        for arm, row in tier["arms_meV_per_A"].items():
            regions = ", ".join(f"{region} {value:.0f}" for region, value in row["regions"].items())
            rare = per_count(row["rare_frames"])
            cells = [
                with_margin(row, "mean"),
                per_seed(row["mean_by_seed"]),
                with_margin(row, "worst"),
                regions,
                rare,
            ]
            rows.append([name, tier["labels"], ARM[arm], *cells])
    return markdown(head, rows)


def per_count(counts: list[int]) -> str:
    """The range of what was chosen."""
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)}–{max(counts)}"


def paired() -> str:
    """Environments against the two others, seed by seed."""
    head = [
        "tier",
        "environments against",
        "difference of the means",
        "by seed",
        "better in",
        "by 5 % or more in",
    ]
    rows = []
    for name, tier in result("label_efficiency")["tiers"].items():
        for what, row in tier["paired"].items():
            other = ARM[what.removeprefix("environments - ")]
            differences = " / ".join(f"{x:+.1f}" for x in row["by_seed"])
            better = [f"{row[key]} of {row['of']}" for key in ("better", "better_by_5_percent")]
            rows.append([name, other, with_margin(row, "mean", "+"), differences, *better])
    return markdown(head, rows)


def goals() -> str:
    """The goals that were set before, and what came out."""
    tiers = result("label_efficiency")["tiers"]
    rows: list[list[Any]] = []
    for name in ("T1", "T1, 3 members", "T1, l = 2"):
        row, base = (
            tiers[name]["paired"]["environments - farthest"],
            tiers[name]["arms_meV_per_A"]["farthest"],
        )
        wins = row["better_by_5_percent"]
        found = f"{wins} (better in {row['better']}; {row['mean'] / base['mean']:+.1%} on average)"
        rows.append([f"{name}: 5 % better than farthest point in 4 of 5 seeds", "≥ 4", found, yes(wins >= 4)])
    for name in ("T1", "T1, l = 2", "T2"):
        row = tiers[name]["paired"]["environments - random"]
        all_of = row["better"] == row["of"]
        rows.append([f"{name}: better than random in all seeds", row["of"], row["better"], yes(all_of)])
    for name, mean, worst in (("T1 fine-tuned 30", 49.0, 70.0), ("T1 fine-tuned 15", 46.0, 82.0)):
        row = tiers[name]["arms_meV_per_A"]["environments"]
        found, reached = f"{row['mean']} / {row['worst']}", row["mean"] <= mean and row["worst"] <= worst
        rows.append([f"{name}: mean / worst region", f"≤ {mean:g} / {worst:g}", found, yes(reached)])
    row = result("fewer_labels")["ways_meV_per_A"]["cheap labels first"]
    what = "the same, tuned on labels of a cheap method first"
    rows.append([what, "≤ 46 / 82", f"{row['mean']} / {row['worst']}", yes(row["reached"])])
    for arm, found in result("closed_loop")["arms"].items():
        row, limits = found["after 120 labels"], result("closed_loop")["goal_meV_per_A"]
        there = sum(row["regions"][region] <= limit for region, limit in limits.items())
        what = f"T3, {arm}: T1's error in every region within 120 labels"
        rows.append([what, f"{len(limits)} regions", there, yes(there == len(limits))])
    runs = result("conformal")["runs"]
    holds = sum(run["regions"][result("conformal")["same_law"]]["holds"] for run in runs)
    rows.append(["90 % bound holds in 4 of 5 seeds", "≥ 4", holds, yes(holds >= 4)])
    return markdown(["goal", "wanted", "measured", "reached"], rows)


def closed_loop() -> str:
    """What each way to explore comes to."""
    r = result("closed_loop")
    regions = list(r["goal_meV_per_A"])
    head = ["explored by", "labels", *regions, "in every region (seeds)", "explosions a round"]
    rows: list[list[Any]] = [["*goal*", 100, *(f"{r['goal_meV_per_A'][x]:.0f}" for x in regions), "", ""]]
    for arm, found in r["arms"].items():
        explosions = [each["explosions"] for seed in found["rounds"] for each in seed]
        for count in (100, 120):
            row = found[f"after {count} labels"]
            errors = [f"{row['regions'][x]:.0f}" for x in regions]
            reached = (
                f"{yes(row['reached'])} ({sum(row['reached_by_seed'])} of {len(row['reached_by_seed'])})"
            )
            rows.append([arm, per_count(row["labels"]), *errors, reached, per_count(explosions)])
    return markdown(head, rows)


def fewer_labels() -> str:
    """What labels of a cheap method do for those of the costly one."""
    r = result("fewer_labels")
    ways = r["ways_meV_per_A"]
    regions = list(r["cheap_labels_only_meV_per_A"])
    head = ["fine-tuned nequix-mp-1", "GFN2 labels", "GFN1 labels", "mean of the regions", *regions]
    alone = {
        "cheap labels only": r["cheap_labels_only_meV_per_A"],
        "no network, GFN1-xTB itself": r["GFN1_against_GFN2_meV_per_A"],
    }
    rows: list[list[Any]] = [
        [name, r["labels"], cheap, with_margin(ways[name], "mean"), *_rounded(ways[name]["regions"])]
        for name, cheap in (("costly labels only", 0), ("cheap labels first", r["cheap_labels"]))
    ]
    for name, row in alone.items():
        count = r["cheap_labels"] if name == "cheap labels only" else "–"
        rows.append([name, 0, count, f"{sum(row.values()) / len(row):.1f}", *_rounded(row)])
    return markdown(head, rows)


def _rounded(regions: dict[str, float]) -> list[str]:
    return [f"{value:.0f}" for value in regions.values()]


def conformal() -> str:
    """Coverage of the 90 % bound, by region."""
    r = result("conformal")
    regions = list(r["runs"][0]["regions"])
    head = ["seed", "factor", *(x if x == r["same_law"] else f"{x} *" for x in regions)]
    rows = []
    for run in r["runs"]:
        cells = []
        for region in regions:
            row = run["regions"][region]
            low, high = row["interval_95"]
            text = f"{row['coverage']:.2f} ({low:.2f}–{high:.2f})"
            cells.append(text if row["holds"] else f"**{text}**")
        rows.append([run["seed"], run["factor"], *cells])
    return markdown(head, rows)


def selecting() -> str:
    """Seconds and memory of selection."""
    cases = result("selecting")["cases"]
    env, two, far, dup = (cases[k] for k in ("environments_manifold", "two_stages", "farthest", "duplicates"))
    loss = cases["two_stages_loss_manifold"]["left_uncovered"]
    lost = loss["two stages, 10 parts"]["radius"] / loss["exact"]["radius"] - 1
    pool = f"{env['frames']:,} frames × 10 atoms × 128 features"
    parts = f"two stages (covering radius {lost:+.0%}, on 100,000)"
    rows = [
        [f"environments, {env['picks']} of {pool}", _s(env), _GB(env), "≤ 20 s, ≤ 4 GB"],
        [f"environments, {two['picks']} of {two['frames']:,} frames, {parts}", _s(two), _GB(two), ""],
        [
            f"farthest point, {far['picks']} of {far['points']:,} × {far['dimensions']}",
            f"{far['ratio']:.2f} × the bare matrix products",
            _GB(far),
            "≤ 1.2 ×",
        ],
        [
            f"duplicates of {dup['rows']:,} rows, {dup['planted']:,} planted",
            f"{_s(dup)}, recall {dup['recall']:.4f}, {dup['wrong']} wrong",
            _GB(dup),
            "≤ 10 s, ≥ 0.999, ≤ 1.5 GB",
        ],
    ]
    return markdown(["one thread; features are there", "measured", "memory", "goal"], rows)


def _s(case: dict[str, Any]) -> str:
    return f"{case['seconds']:.1f} s"


def _GB(case: dict[str, Any]) -> str:
    return f"{case['memory_GB']:.1f} GB"


def biased() -> str:
    """What a bias finds in equal steps, and what it costs."""
    r = result("biased")
    head = [
        "malonaldehyde, after 100 labels at 300 K",
        "frames",
        "unphysical",
        "explosions",
        "frames beyond the 99 % σ",
        "largest σ meV",
        "force RMSE",
    ]
    keys = ("frames", "unphysical", "explosions")
    rows = [
        [
            name,
            *(f"{row[key]:.0f}" for key in keys),
            f"{row['share_beyond']:.0%}",
            f"{row['sigma_largest_meV']:.0f}",
            f"{row['force_rmse_meV_per_A']:.0f}",
        ]
        for name, row in r["gain"]["means"].items()
    ]
    cost = r["cost"]["16 walkers"]
    price = ", ".join(f"{name} {row['ratio_cpu']:.2f} ×" for name, row in cost.items())
    return markdown(head, rows) + f"\nCPU time of a step, 16 walkers of ethanol: {price}.\n"

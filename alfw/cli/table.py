"""The table of `alfw status`."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

COLUMNS = (
    ("round", "round", "d"),
    ("pool", "n_pool", "d"),
    ("sel.", "n_selected", "d"),
    ("lab.", "n_labeled", "d"),
    ("fail", "n_failed", "d"),
    ("train", "n_train", "d"),
    ("F test", "force_rmse_eV_per_A", ".3f"),
    ("F audit", "audit_force_rmse_eV_per_A", ".3f"),
    ("E test", "energy_rmse_eV_per_atom", ".4f"),
    ("expl.", "n_explosions", "d"),
)
LEGEND = (
    "frames in the pool, selected, labelled, failed, on the train side; F, E: RMSE of forces (eV/Å), energies "
    "(eV/atom); test: sealed; audit: random frames, by the ensemble before; expl.: walkers that exploded"
)


def failure_lines(summary: dict[str, Any]) -> list[str]:
    """How many calculations failed, by class: for good, tried again, put back by the user; and what to do with them."""
    words = {"final": "for good", "retried": "tried again", "reopened": "put back"}
    lines = []
    for name, counts in summary["failures"].items():
        numbers = ", ".join(f"{counts[key]} {word}" for key, word in words.items() if counts[key])
        lines.append(f"failed: {name} {numbers} (alfw show {counts['newest'][:12]})")
    if any(counts["final"] for counts in summary["failures"].values()):
        lines.append(
            f"to try those again that failed for good: alfw qm retry {summary['campaign']} [--class CLASS]"
        )
    changed = [row["n_changed_surface"] for row in summary["rounds"] if row["n_changed_surface"]]
    if changed:
        lines.append(f"{changed[-1]} labels are of a theory that an allowed remedy changed")
    return lines


def stop_lines(summary: dict[str, Any]) -> list[str]:
    """The stop rules by the newest decision, what the next labels are predicted to gain, notes and the alarm."""
    stop = summary["stop"] or {"rules": []}
    lines = []
    if stop["rules"]:
        lines.append(
            f"stop rules after round {stop['round']} (a budget ends by itself, rules of quality together):"
        )
        for rule in stop["rules"]:
            mark = "met " if rule["met"] else "open"
            lines.append(f"  {mark} {rule['rule']} {rule['limit']:g} ({rule['kind']}): {rule['text']}")
    if stop.get("learning_curve"):
        lines.append(gain_line(stop["learning_curve"]["gain"]))
    if summary["rounds"]:
        lines.append(cost_line(summary["costs"]))
        last = summary["rounds"][-1]
        lines += [f"round {last['round']}: {note}" for note in last["notes"]]
    if summary["alarm"]:
        lines.append(f"alarm: {summary['alarm']}")
    return lines


def cost_line(costs: dict[str, Any]) -> str:
    """CPU- and GPU-hours so far, and CPU-hours per label."""
    gpu = f", {costs['gpu_hours']:.4g} GPU-hours" if costs["gpu_hours"] else ""
    per_label = costs["labels"]["campaign_cpu_hours_per_label"]
    each = f", {per_label:.3g} CPU-hours per label, all included" if per_label else ""
    failed = costs["failed_labels"]
    lost = f"; {failed['cpu_hours']:.3g} of them on {failed['n']} failed calculations" if failed["n"] else ""
    return f"cost: {costs['cpu_hours']:.4g} CPU-hours{gpu}{each}{lost}"


def gain_line(gain: dict[str, Any]) -> str:
    """What the next labels are predicted to gain, in words."""
    return (
        f"learning curve of the sealed test set: the next {gain['labels']} labels are predicted to gain "
        f"{gain['percent']:.1f} % ({gain['low']:.1f} to {gain['high']:.1f} %, {100 * gain['level']:.0f} % interval)"
    )


def campaign_table(summary: dict[str, Any]) -> Group:
    """Title, one row a round, then what is stuck; force RMSE in eV/Å, energy RMSE in eV/atom."""
    reason = f": {summary['stop_reason']}" if summary["stop_reason"] else ""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading, _, _ in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("CPU h", justify="right", no_wrap=True)
    for row in summary["rounds"]:
        cells = ["–" if row[key] is None else format(row[key], spec) for _, key, spec in COLUMNS]
        table.add_row(*cells, f"{sum(row['cpu_hours'].values()):.3f}")
    title = Text(f"{summary['campaign']} ({summary['state']}{reason})", style="bold")
    parts: list[Any] = [title, table, Text(LEGEND, style="dim")] if summary["rounds"] else [title]
    if summary["state"] == "added" and not summary["stuck"]:
        parts.append(Text("waits for a worker: rlaunch rapidfire --nlaunches infinite"))
    parts += [Text(told) for told in stop_lines(summary) + failure_lines(summary)]
    if summary["fireworks"] and summary["state"] == "running":
        states = ", ".join(f"{number} {name}" for name, number in summary["fireworks"].items())
        parts.append(Text(f"Fireworks: {states}"))
    if summary["state"] == "paused":
        parts.append(Text(f"to go on: alfw resume {summary['campaign']}"))
    for stuck in summary["stuck"]:
        parts.append(
            Text(f"stuck: {stuck['name']}: {stuck['why']}; free it: lpad rerun_fws -i {stuck['fw_id']}")
        )
    return Group(*parts)

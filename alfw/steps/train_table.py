"""What is told of a training: now and then how far it is, in the end how good its members are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

WIDTH = 11
EVERY_S = 30.0  # between two lines of progress
COLUMNS = (
    ("F RMSE", "force_rmse_eV_per_A", 1.0),
    ("F MAE", "force_mae_eV_per_A", 1.0),
    ("E RMSE", "energy_rmse_eV_per_atom", 1000.0),
    ("E MAE", "energy_mae_eV_per_atom", 1000.0),
)
# What some kinds of models know of their own errors, and its unit.
MORE = {"dipole_physnet": "e·Å", "dipole_dcmnet": "e·Å", "esp_physnet": "V", "esp_dcmnet": "V"}


def table(report: Mapping[str, Any]) -> list[str]:
    """Lines of a table of the errors in what `train_files` reports."""
    side, errors = report["errors"]["side"], report["errors"]
    count = len(report["members"])
    lines = [
        f"{report['folder']}: {count} {'member' if count == 1 else 'members'} of {report['kind']}, trained on"
        f" {report['n_train']} frames, {report['n_valid']} to validate",
        f"errors on the {side} side: F eV/Å, E meV/atom",
        " " * 10 + "".join(f"{title:>{WIDTH}}" for title, _, _ in COLUMNS),
    ]
    if len(errors["members"]) == count > 1:
        lines += [_row(f"member {k}", row) for k, row in enumerate(errors["members"])]
    lines.append(_row("mean of K" if count > 1 else "member 0", errors["mean"]))
    return lines + list(_more(report, side))


def _row(name: str, errors: Mapping[str, Any]) -> str:
    values = [errors[key] for _, key, _ in COLUMNS]
    texts = ["–" if v is None else f"{v * f:.4g}" for v, (_, _, f) in zip(values, COLUMNS, strict=True)]
    return f"{name:<10}" + "".join(f"{text:>{WIDTH}}" for text in texts)


def _more(report: Mapping[str, Any], side: str) -> Iterator[str]:
    """RMSE of dipoles and potentials, a member each."""
    for name, unit in MORE.items():
        values = [(entry["metrics"] or {}).get(f"{side}_{name}_rmse") for entry in report["members"]]
        if all(value is not None for value in values):
            what, source = name.split("_")
            whose = "atomic" if source == "physnet" else "distributed"
            yield f"{what} RMSE of {whose} charges, {unit}: " + ", ".join(f"{value:.4g}" for value in values)


def now_and_then(say: Callable[[str], None]) -> Callable[[str], None]:
    """Says a line in `EVERY_S`, and those that end a member; the others are dropped."""
    last = time.monotonic()

    def tell(text: str) -> None:
        nonlocal last
        if text.endswith(": trained") or time.monotonic() - last > EVERY_S:
            last = time.monotonic()
            say(text)

    return tell


def spread_note(model: Any) -> list[str]:
    """What to know of an ensemble of one."""
    if model.members > 1 or getattr(model, "heads", 0):
        return []
    return ["one member has no spread: force_std and uncertainties need --members 2 or more (4 are usual)"]

"""What labels cost: the law learnt from finished ones, and a budget that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import step_toys
from ase.build import molecule
from step_toys import SCRIPTS, Stages, kept, shaken

from alfw.config import CampaignConfig
from alfw.core.errors import ConfigError
from alfw.core.frame import Frame
from alfw.steps.label_cost import LabelCost, Purse
from alfw.store import Store

HELIUM = [Frame(numbers=[2] * n, positions=3.0 * np.eye(n, 3) * np.arange(n)[:, None]) for n in range(1, 12)]


def law(frames: list[Frame], power: float, noise: float, seed: int = 0) -> np.ndarray:
    """CPU-hours of a law of their size, with a spread."""
    size = np.array([len(frame) for frame in frames])
    return 0.02 * size**power * np.exp(noise * np.random.default_rng(seed).standard_normal(len(frames)))


def test_the_exponent_is_found_in_spite_of_slow_nodes() -> None:
    frames = 20 * HELIUM[1:]
    hours = law(frames, 3.0, 0.1)
    hours[::12] *= 30  # restarted, or on a node that was shared
    cost = LabelCost.fit(frames, hours)
    assert cost is not None and cost.n_labels == 200
    assert cost.by_atoms == pytest.approx(3.0, abs=0.1) and cost.by_electrons_per_atom == 0
    assert 1.05 < cost.spread < 1.3
    assert cost.hours(frames).sum() == pytest.approx(hours.sum(), rel=0.25), "a budget counts slow ones, too"


def test_electrons_tell_atoms_apart() -> None:
    names = [z for z in (1, 6, 9, 14, 17) for _ in range(4)]
    frames = [Frame(numbers=[z] * n, positions=np.eye(n, 3)) for z in names for n in (1, 2, 3)]
    electrons = np.array([frame.numbers.sum() for frame in frames])
    cost = LabelCost.fit(frames, 0.1 * electrons**2.0)
    assert cost is not None
    assert (cost.by_atoms, cost.by_electrons_per_atom) == pytest.approx((2.0, 2.0), abs=1e-3)
    assert cost.hours(frames) == pytest.approx(0.1 * electrons**2.0, rel=1e-3)


def test_of_one_size_all_cost_the_mean() -> None:
    frames = shaken(40, seed=0)
    hours = law(frames, 1.0, 0.5)
    cost = LabelCost.fit(frames, hours)
    assert cost is not None and (cost.by_atoms, cost.by_electrons_per_atom) == (0.0, 0.0)
    assert cost.hours(frames) == pytest.approx([hours.mean()] * 40)
    larger = Frame.from_atoms(molecule("C6H6"))
    assert cost.hours([larger])[0] == pytest.approx(hours.mean()), "nothing is known of other sizes"


@pytest.mark.parametrize("hours", [[], [0.0, -1.0, np.nan]])
def test_without_times_there_is_no_law(hours: list[float]) -> None:
    assert LabelCost.fit(shaken(len(hours), seed=0), np.array(hours)) is None


def test_an_outlier_cannot_make_an_absurd_exponent() -> None:
    cost = LabelCost.fit([HELIUM[1], HELIUM[2]], np.array([0.001, 50.0]))
    assert cost is not None and cost.by_atoms == 6.0
    assert cost.hours([]).shape == (0,)


def test_a_purse_pays_audit_frames_their_share() -> None:
    open_ = np.array([True, True, False, True])
    cost = np.array([1.0, 2.0, 100.0, 3.0])  # mean of those open: 2
    assert Purse(None, cost).audit_frames(10, 40, open_) == 10
    assert Purse(1000.0, cost).audit_frames(10, 40, open_) == 10
    assert Purse(50.0, cost).audit_frames(10, 40, open_) == 5, "half of the 100 h that all would cost"
    assert Purse(4.0, cost).audit_frames(10, 40, open_) == 1
    assert Purse(1.0, cost).audit_frames(10, 40, open_) == 0
    assert Purse(0.0, None).audit_frames(10, 40, open_) == 0
    assert Purse(5.0, None).audit_frames(10, 40, open_) == 10, "nothing is known of costs"


# --- in a campaign


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    step_toys.register(monkeypatch)
    SCRIPTS["pool"] = lambda starts: kept(shaken(40, seed=2))


def test_a_budget_is_kept_and_the_prediction_recorded(store: Store, tmp_path: Path) -> None:
    stages = Stages(store, tmp_path, select={"max_frames": 8, "audit_frames": 2, "budget_cpu_hours": 20.0})
    result = stages.select(1)
    rows = stages.candidates(1)
    assert [row["audit"] for row in rows] == [True] + 5 * [False], "6 waters at 3 h each"
    assert [row["cost_h"] for row in rows] == pytest.approx([3.0] * 6)
    stages.finish(1)
    predicted = result["metrics"]["label_cpu_s_predicted"]
    assert predicted == pytest.approx(stages.ctx(1).result("merge")["metrics"]["label_cpu_s"])
    assert result["metrics"]["label_cost"]["n_labels"] == 8


def test_without_a_budget_the_law_is_told_all_the_same(store: Store, tmp_path: Path) -> None:
    result = Stages(store, tmp_path).select(1)
    assert result["counts"]["n_selected"] == 3
    assert result["metrics"]["label_cpu_s_predicted"] == pytest.approx(3 * 3.0 * 3600)


def test_a_budget_of_nothing_selects_nothing_and_says_so(store: Store, tmp_path: Path) -> None:
    stages = Stages(store, tmp_path, select={"audit_frames": 5, "budget_cpu_hours": 0})
    result = stages.select(1)
    assert stages.candidates(1) == []
    assert result["metrics"]["notes"] == ["budget_cpu_hours 0: nothing is selected"]
    stages.finish(1)


def test_audit_frames_may_use_a_budget_up(store: Store, tmp_path: Path) -> None:
    stages = Stages(store, tmp_path, select={"max_frames": 1, "audit_frames": 9, "budget_cpu_hours": 3.0})
    result = stages.select(1)
    assert [row["audit"] for row in stages.candidates(1)] == [True]
    assert result["metrics"]["notes"] == ["budget_cpu_hours 3: audit frames use it up"]


def test_a_budget_without_known_costs_is_said_to_limit_nothing(store: Store, tmp_path: Path) -> None:
    stages = Stages(store, tmp_path, label={"hours_per_atom": 0.0}, select={"budget_cpu_hours": 1.0})
    result = stages.select(1)
    assert result["counts"]["n_selected"] == 3
    assert result["metrics"]["notes"] == [
        "budget_cpu_hours limits nothing yet: no finished label tells what one costs"
    ]
    assert result["metrics"]["label_cpu_s_predicted"] is None


def test_a_negative_budget_is_refused(store: Store, tmp_path: Path) -> None:
    stages = Stages(store, tmp_path)
    raw: dict[str, Any] = dict(stages.ctx(0).config.raw)
    raw["select"] = {**raw["select"], "budget_cpu_hours": -1}
    with pytest.raises(ConfigError, match=r"^select\.budget_cpu_hours: .*greater than or equal to 0"):
        CampaignConfig(raw)

"""select, step by step on toys: what is offered to the selector, what is said, and what can never happen."""

from __future__ import annotations

from pathlib import Path

import pytest
import step_toys
from step_toys import SCRIPTS, Stages, kept, shaken

from alfw.steps import select
from alfw.store import Store


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    step_toys.register(monkeypatch)


def test_a_round_is_selected_once(store: Store, tmp_path: Path) -> None:
    SCRIPTS["pool"] = lambda starts: kept(shaken(20, seed=2))
    stages = Stages(store, tmp_path, select={"audit_frames": 2})
    result = stages.select(1)
    rows = stages.candidates(1)
    assert [row["audit"] for row in rows] == [True, True, False, False, False]
    assert result["counts"] == {
        "n_pool": 20,
        "n_candidates": 18,
        "n_selected": 5,
        "n_audit": 2,
        "n_retry": 0,
        "n_known": 0,
        "n_not_labelable": 0,
    }
    assert select.run(stages.ctx(1)) == result
    assert len(store.get_candidates("toy", 1)) == 5

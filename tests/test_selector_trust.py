"""How far from what is labelled `environments` believes frames that dynamics on the model made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from selector_pools import OPEN, indices, pool_of, rattled, selector

from alfw.core.exploration import Pool
from alfw.core.frame import Frame
from alfw.core.scaling import ElementScale
from alfw.selectors._coverage import UNSEEN, apart_from_others

LABELLED = rattled("CH3CH2OH", 20, 0.03, 1)
NEAR, FAR = rattled("CH3CH2OH", 15, 0.05, 2), rattled("CH3CH2OH", 5, 0.6, 3)


def explored(labelled: list[Frame] = LABELLED, driven: bool = True) -> Pool:
    """15 frames as near as the labelled ones are to each other, and 5 torn apart."""
    pool = pool_of(NEAR + FAR, labelled=labelled, reasons=())
    return replace(pool, driven=[driven] * 20)


def test_what_is_torn_apart_is_not_believed() -> None:
    selection = selector("environments", **OPEN).select(explored(), 20, 0)
    assert set(indices(selection)) == set(range(15)) and selection.rejected == {"too_far": 5}


@pytest.mark.parametrize(
    ("pool", "options"),
    [
        (explored(driven=False), {}),
        (replace(explored(), driven=()), {}),
        (explored(), {"trust": None}),
        (explored(LABELLED[:9]), {}),  # too few to know what is far
    ],
)
def test_others_are_chosen_wherever_they_are(pool: Pool, options: dict) -> None:
    selection = selector("environments", **OPEN, **options).select(pool, 5, 0)
    assert set(indices(selection)) == set(range(15, 20)) and "too_far" not in selection.rejected


def test_only_frames_of_the_model_are_judged() -> None:
    pool = replace(explored(), driven=[True] * 15 + [False, True] * 2 + [False])
    selection = selector("environments", **OPEN).select(pool, 3, 0)
    assert set(indices(selection)) == {15, 17, 19} and selection.rejected == {"too_far": 2}


def test_each_round_reaches_farther() -> None:
    """What was labelled since makes frames believable that were not before."""
    between = rattled("CH3CH2OH", 10, 0.3, 4)
    before = selector("environments", **OPEN).select(explored(), 20, 0)
    after = selector("environments", **OPEN).select(explored(LABELLED + between), 20, 0)
    assert before.rejected["too_far"] > after.rejected.get("too_far", 0)


@pytest.mark.parametrize("exact_up_to", [10**6, 30])
def test_where_all_is_far_the_nearest_frames_lead_on(exact_up_to: int) -> None:
    """20 labelled frames that are nearly one say nothing of what is usual."""
    alike = rattled("CH3CH2OH", 20, 1e-4, 1)
    selection = selector("environments", **OPEN, exact_up_to=exact_up_to).select(explored(alike), 5, 0)
    assert len(selection.chosen) == 5 and set(indices(selection)) <= set(range(15))
    assert selection.rejected["too_far"] == 15


def test_in_parts_as_in_one() -> None:
    whole = selector("environments", **OPEN).select(explored(), 20, 0)
    parts = selector("environments", **OPEN, exact_up_to=30).select(explored(), 20, 0)
    assert set(indices(whole)) == set(indices(parts)) and whole.rejected == parts.rejected


def test_how_far_frames_are_apart_is_what_it_says() -> None:
    rng = np.random.default_rng(0)
    numbers = [np.array([6, 1, 1]), np.array([1, 6]), np.array([1, 1, 6, 8])]
    z = [rng.standard_normal((len(n), 5)).astype(np.float32) for n in numbers]
    unit = np.ones(5, np.float32)
    scale = ElementScale({e: 0 * unit for e in (1, 6, 8)}, {e: unit for e in (1, 6, 8)})
    expected = []
    for i in range(3):
        nearest = []
        for atom, element in zip(z[i], numbers[i], strict=True):
            others = [z[j][numbers[j] == element] for j in range(3) if j != i]
            distances = np.linalg.norm(np.concatenate(others) - atom, axis=1)
            nearest.append(min(distances.min(initial=UNSEEN), UNSEEN))
        expected.append(np.mean(nearest))
    np.testing.assert_allclose(apart_from_others(scale, numbers, z), expected, rtol=1e-5)

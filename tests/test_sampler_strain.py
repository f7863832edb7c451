"""StrainSampler: symmetric, within bounds, the same in all orientations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from numpy_toys import NeverAsked, closest_of, explore
from pydantic import ValidationError

from alfw.core.errors import SamplingError
from alfw.core.frame import Frame
from alfw.core.protocols import NeedsStress
from alfw.core.registry import plugin_class
from alfw.samplers.strain import StrainSampler

COPPER = Frame.from_atoms(bulk("Cu", "fcc", a=3.6))  # a primitive cell: skew
ANY = NeverAsked(1, 8, 29)


def strains(frames: list[Frame]) -> np.ndarray:
    return np.array([np.linalg.solve(COPPER.cell, frame.cell) - np.eye(3) for frame in frames])


def test_strains_are_symmetric_bounded_and_isotropic() -> None:
    pool = explore("strain", ANY, [COPPER], count=1500, max_strain=0.08)
    e = strains(pool.frames)
    assert np.abs(e - e.swapaxes(1, 2)).max() < 2e-6
    hydrostatic = np.trace(e, axis1=1, axis2=2) / 3
    assert np.abs(hydrostatic).max() <= 0.08 + 1e-5 and hydrostatic.std() == pytest.approx(
        0.08 / np.sqrt(3), rel=0.05
    )
    shear = e - hydrostatic[:, None, None] * np.eye(3)
    largest = np.abs(np.linalg.eigvalsh(shear)).max(1)
    assert largest.max() <= 0.08 + 1e-5 and largest.mean() == pytest.approx(0.04, rel=0.05)
    # For an isotropic law of traceless tensors <e_xy²> = <(e_xx − e_yy)²> / 4, for all pairs of axes.
    pairs = ((0, 1), (1, 2), (2, 0))
    off = np.array([(shear[:, i, j] ** 2).mean() for i, j in pairs])
    diagonal = np.array([((shear[:, i, i] - shear[:, j, j]) ** 2).mean() / 4 for i, j in pairs])
    assert np.concatenate([off, diagonal]) == pytest.approx(off.mean(), rel=0.12)
    assert not pool.unbiased and pool.counters["n_frames"] == 1500 and np.isnan(pool.temperature_K).all()


def test_atoms_go_along_with_the_cell() -> None:
    start = Frame.from_atoms(bulk("NaCl", "rocksalt", a=5.6))
    for frame in explore("strain", NeverAsked(11, 17), [start], count=5).frames:
        fractions = [np.linalg.solve(f.cell.T, f.positions.T).T for f in (frame, start)]
        assert fractions[0] == pytest.approx(fractions[1], abs=1e-6)
        assert frame.positions[1] != pytest.approx(start.positions[1], abs=1e-4)


def test_parts_can_be_had_alone() -> None:
    volume = lambda frame: abs(np.linalg.det(frame.cell))  # noqa: E731
    breathing = explore("strain", ANY, [COPPER], count=50, max_strain=0.1, shear=False).frames
    e = strains(breathing)
    assert np.abs(e - np.einsum("bii->b", e)[:, None, None] / 3 * np.eye(3)).max() < 2e-6
    assert {volume(f) > volume(COPPER) for f in breathing} == {True, False}
    sheared = explore("strain", ANY, [COPPER], count=50, max_strain=0.02, hydrostatic=False).frames
    assert np.abs(np.einsum("bii->b", strains(sheared))).max() < 5e-6
    assert max(abs(volume(f) / volume(COPPER) - 1) for f in sheared) < 2 * 0.02**2


def test_rattle_comes_on_top_and_nothing_is_too_close() -> None:
    start = Frame.from_atoms(bulk("Cu", "fcc", a=3.6, cubic=True))
    pool = explore("strain", ANY, [start], count=40, max_strain=0.01, rattle_std_A=0.05)
    moved = [f.positions - start.positions @ np.linalg.solve(start.cell, f.cell) for f in pool.frames]
    assert np.std(moved) == pytest.approx(0.05, rel=0.1)
    tight = explore("strain", ANY, [start], count=60, max_strain=0.3, min_distance_fraction=0.9)
    assert len(tight.frames) == 60 and min(map(closest_of, tight.frames)) >= 0.9
    loose = explore("strain", ANY, [start], count=60, max_strain=0.3, min_distance_fraction=0)
    assert min(map(closest_of, loose.frames)) < 0.9
    with pytest.raises(
        SamplingError, match="atoms are closer than min_distance_fraction 0.99 in all 3 frames"
    ):
        packed = start.moved(start.positions * 0.6, start.cell * 0.6)
        explore("strain", ANY, [packed], count=3, min_distance_fraction=0.99, tries=5)


def test_same_seed_same_frames() -> None:
    ids = [[f.id for f in explore("strain", ANY, [COPPER], seed=s, count=5).frames] for s in (1, 1, 2)]
    assert ids[0] == ids[1] and not set(ids[0]) & set(ids[2])


def test_it_says_that_it_needs_stress() -> None:
    sampler = StrainSampler(count=1)
    assert isinstance(sampler, NeedsStress) and tuple(sampler.stress_needs()) == ("kind",)
    assert plugin_class("alfw.samplers", "strain") is StrainSampler


@pytest.mark.parametrize(
    "options",
    [
        {"max_strain": 0},
        {"max_strain": 0.5},
        {"hydrostatic": False, "shear": False},
        {"count": 0},
        {"strain": 1},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        explore("strain", ANY, [COPPER], **{"count": 5} | options)


def test_what_has_no_cell_is_refused_in_one_line() -> None:
    water, slab = Frame.from_atoms(molecule("H2O")), Frame.from_atoms(fcc111("Cu", (1, 1, 2), vacuum=6.0))
    for words, starts in (
        ("no frame to start from", []),
        (r"\(H2O\) is not periodic in all directions", [COPPER, water]),
        ("is not periodic in all directions", [slab]),
        (r"does not know the elements Z = \[47\]", [Frame.from_atoms(bulk("Ag"))]),
    ):
        with pytest.raises(SamplingError, match=words) as caught:
            explore("strain", ANY, starts, count=4)
        assert "\n" not in str(caught.value)

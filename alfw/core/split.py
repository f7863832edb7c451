"""Sides: which frames train, which validate, which test; correlated frames never sit on two sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from alfw.core.errors import DataError
from alfw.core.ids import derive_seed
from alfw.core.records import Side

# Below this many frames without trajectory ids a side is one short block, at the mercy of where it lies.
FEW_FRAMES = 50
MAX_BLOCKS = 5


def split_sides(
    trajectories: Sequence[str | None],
    valid: float,
    test: float,
    seed: int,
    given: Sequence[Side | None] | None = None,
) -> list[Side]:
    """The side of each of M frames; `split_note` says where the split is a weak one.

    Frames with a trajectory id go to a side by whole trajectories; frames without one, and those of too few
    trajectories to fill the sides asked for, by contiguous blocks. Never leaves the train side empty.

    Parameters
    ----------
    trajectories : sequence of M str or None
        In the order of the file.
    valid, test : float
        Shares in [0, 1); 0 leaves the side empty, others get at least one frame where there are enough.
    seed : int
    given : sequence of M sides or None
        Sides that the files state; they are kept, and hold for their whole trajectory. The shares are those
        of the other frames.

    Raises
    ------
    DataError
        Shares out of range, or all frames are stated to be on the valid or test side.
    """
    if min(valid, test) < 0 or valid + test >= 1:
        raise DataError(
            f"split: shares must be >= 0 and leave something to train, not valid={valid}, test={test}"
        )
    sides = _stated(trajectories, given or [None] * len(trajectories))
    rng = np.random.default_rng(seed)
    named = [i for i, side in enumerate(sides) if side is None and trajectories[i] is not None]
    if len({trajectories[i] for i in named}) >= _needed(valid, test):
        side_of = _by_trajectory(Counter(str(trajectories[i]) for i in named), valid, test, rng)
        for i in named:
            sides[i] = side_of[str(trajectories[i])]
    loose = [i for i, side in enumerate(sides) if side is None]
    for i, side in zip(loose, contiguous_blocks(len(loose), valid, test, rng), strict=True):
        sides[i] = side
    if sides and "train" not in sides:
        raise DataError("split: the files leave no frame to train; state fewer of them as valid or test")
    return [side or "train" for side in sides]


def _needed(valid: float, test: float) -> int:
    """Number of sides that must not be empty."""
    return 1 + (valid > 0) + (test > 0)


def split_note(trajectories: Sequence[str | None], valid: float, test: float) -> str | None:
    """One line for the user where `split_sides` gives a weak split of these frames, else None."""
    named = [t for t in trajectories if t is not None]
    loose, needed = len(trajectories) - len(named), _needed(valid, test)
    better = "a test set" if test > 0 else "trajectory ids"
    advice = f"split by contiguous blocks, whose ends have near twins on another side: better give {better}"
    if needed > 1 and 0 < len(set(named)) < needed:
        return f"{len(named)} frames of too few trajectories ({len(set(named))}) were {advice}"
    if needed > 1 and 0 < loose < FEW_FRAMES:
        return f"{loose} frames without trajectory ids, fewer than {FEW_FRAMES}, were {advice}"
    return None


def _stated(trajectories: Sequence[str | None], given: Sequence[Side | None]) -> list[Side | None]:
    """The sides that the files state, spread over the rest of their trajectories."""
    known = {
        t: side for t, side in zip(trajectories, given, strict=True) if t is not None and side is not None
    }
    return [
        side or (None if t is None else known.get(t)) for t, side in zip(trajectories, given, strict=True)
    ]


def _by_trajectory(
    sizes: Counter[str], valid: float, test: float, rng: np.random.Generator
) -> dict[str, Side]:
    """The side of each trajectory: whole ones in random order, up to closest to the shares asked for."""
    order = [sorted(sizes)[i] for i in rng.permutation(len(sizes))]
    side_of: dict[str, Side] = {}
    shares: tuple[tuple[Side, float], ...] = (("test", test), ("valid", valid))
    for side, share in shares:
        left = [t for t in order if t not in side_of]
        if share == 0:
            continue
        target, taken = share * sizes.total(), 0
        for trajectory in left[: -1 - (side == "test" and valid > 0)]:  # keep one for each side still to come
            if taken + sizes[trajectory] / 2 <= target:
                side_of[trajectory] = side
                taken += sizes[trajectory]
        if taken == 0:
            side_of[min(left, key=lambda t: sizes[t])] = side
    return {t: side_of.get(t, "train") for t in order}


def contiguous_blocks(n: int, valid: float, test: float, rng: np.random.Generator) -> list[Side]:
    """Sides of n frames in their order, without trajectory ids.

    The frames are cut into up to `MAX_BLOCKS` stretches of at least `FEW_FRAMES`; each gives one block of
    neighbours to test and one beside it to valid, at a random place. So every part of the file is on every
    side, and only the frames at the ends of a block have a near twin across.
    """
    sides: list[Side] = []
    for part in np.array_split(np.arange(n), min(max(n // FEW_FRAMES, 1), MAX_BLOCKS)):
        size = len(part)
        n_test = min(_share(size, test), max(size - 1, 0))
        n_valid = min(_share(size, valid), max(size - 1 - n_test, 0))
        before = int(rng.integers(0, size - n_test - n_valid + 1))
        block: list[Side] = ["train"] * size
        block[before : before + n_test] = ["test"] * n_test
        block[before + n_test : before + n_test + n_valid] = ["valid"] * n_valid
        sides += block
    return sides


def _share(n: int, share: float) -> int:
    """Number of frames of a share: at least one unless the share is 0."""
    return max(1, round(share * n)) if share > 0 else 0


def side_of_trajectory(trajectory: str, valid: float, seed: int) -> Side:
    """The side, train or valid, of a trajectory met later in a campaign: for good, on every machine.

    The name of the trajectory starts with that of its campaign, so campaigns of one seed differ.
    """
    return "valid" if derive_seed(seed, "side", trajectory) < valid * 2**31 else "train"

"""Labelled data sets for tests: random ones with everything that can come along, and water molecules."""

from __future__ import annotations

import io
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shell import Shell, Typed

from alfw.compat._shell import leave
from alfw.core.frame import Frame
from alfw.core.records import Label
from alfw.io.datasets import write_dataset
from alfw.io.frames import read_frames
from alfw.io.imported import Imported

numbers_like = st.floats(-1e4, 1e4, allow_subnormal=False)
texts = st.one_of(
    st.sampled_from(
        ["007", "T", "1e3", "a b", 'say "hi"', "two\nlines", "back\\slash", "_JSON x", "=", ",", "{1 2}", "é"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=12),
)
WATER = np.array([[0, 0, 0.119262], [0, 0.763239, -0.477047], [0, -0.763239, -0.477047]])


@st.composite
def imported(draw: st.DrawFn, esp: bool = True) -> Imported:
    """A labelled frame with everything that can come along."""
    n, g = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    vectors = arrays(np.float64, (n, 3), elements=numbers_like)
    scalars = arrays(np.float64, (n,), elements=st.floats(0, 9))
    periodic = draw(st.booleans())
    stress = draw(arrays(np.float64, (3, 3), elements=numbers_like))
    frame = Frame(
        numbers=np.array(draw(st.lists(st.integers(1, 92), min_size=n, max_size=n))),
        positions=draw(vectors),
        cell=np.array([[9.1, 0, 0], [-2.5, 8.3, 0], [0.3, 1.7, 7.7]]) * periodic,
        pbc=np.full(3, periodic),
        charge=draw(st.integers(-2, 2)),
        multiplicity=draw(st.integers(1, 3)),
        fixed=draw(scalars) > 4,
        moments=draw(st.none() | scalars),
        masses=draw(st.none() | scalars.map(lambda m: m + 1)),
    )
    grid = {}
    if esp and draw(st.booleans()):
        grid["esp"] = draw(arrays(np.float64, (g,), elements=numbers_like))
        grid["esp_points"] = draw(arrays(np.float64, (g, 3), elements=numbers_like))
    label = Label(
        energy=draw(numbers_like),
        forces=draw(vectors),
        stress=stress + stress.T if periodic and draw(st.booleans()) else None,
        dipole=None if periodic else draw(st.none() | arrays(np.float64, (3,), elements=numbers_like)),
        charges=draw(st.none() | arrays(np.float64, (n,), elements=numbers_like)),
        version=draw(st.just("") | texts),
        **grid,
    )
    side = draw(st.sampled_from([None, "train", "valid", "test"]))
    return Imported(frame, label, draw(st.none() | texts), side, draw(st.none() | texts))


def assert_same(a: Imported, b: Imported, esp: bool = True) -> None:
    """All of two frames is equal to the last bit."""
    assert a.frame.id == b.frame.id
    assert np.array_equal(a.frame.masses, b.frame.masses)
    assert (a.trajectory, a.side, a.theory) == (b.trajectory, b.side, b.theory)
    assert (a.label is None) == (b.label is None)
    if a.label is None or b.label is None:
        return
    assert a.label.version == b.label.version
    names = ("energy", "forces", "stress", "dipole", "charges", *(("esp", "esp_points") if esp else ()))
    for name in names:
        x, y = getattr(a.label, name), getattr(b.label, name)
        assert (x is None) == (y is None), name
        assert x is None or (np.shape(x) == np.shape(y) and np.array_equal(x, y)), name


def waters(n: int, seed: int = 0, **more: Any) -> list[Imported]:
    """n distorted water molecules with invented labels around the true energy, potentials included."""
    rng = np.random.default_rng(seed)
    more = {"theory": "orca 6: PBE", "trajectory": f"md{seed}"} | more
    items = []
    for _ in range(n):
        label = Label(
            energy=-2079.0 + rng.normal() * 0.1,
            forces=rng.normal(size=(3, 3)),
            dipole=rng.normal(size=3),
            charges=rng.normal(size=3),
            esp=rng.normal(size=12),
            esp_points=rng.normal(size=(12, 3)) * 2,
            version="orca 6.0.1",
        )
        frame = Frame(numbers=[8, 1, 1], positions=WATER + rng.normal(size=(3, 3)) * 0.02)
        items.append(Imported(frame, label, **more))
    return items


def plain_npz(path: Path, items: list[Imported], **changed: Any) -> None:
    """The file of others: R, Z, E, F, Dxyz, and nothing that says how it is meant; None leaves a key out."""
    content = {
        "R": np.array([item.frame.positions for item in items]),
        "Z": np.array([item.frame.numbers for item in items]),
        "E": np.array([item.label.energy for item in items]),
        "F": np.array([item.label.forces for item in items]),
        "Dxyz": np.array([item.label.dipole for item in items]),
    }
    np.savez(path, **{key: value for key, value in (content | changed).items() if value is not None})


@dataclass
class Desk(Shell):
    """A shell, and what tests of data sets do in it."""

    def write(self, **sets: list[Imported]) -> None:
        """Files by name: a_npz -> a.npz."""
        for name, items in sets.items():
            write_dataset(self.folder / ".".join(name.rsplit("_", 1)), items)

    def merged(self, *arguments: Any) -> tuple[dict, list[Imported]]:
        """What `alfw data merge --json` says, and the frames written."""
        report = self.json("data", "merge", *arguments)
        return report, read_frames(self.folder / report["file"])

    def compat_here(self, script: str, *arguments: Any, code: int = 0) -> Typed:
        """`python -m alfw.compat.<script>` without a process of its own, which takes a second less."""
        module = import_module(f"alfw.compat.{script}")
        out, err = io.StringIO(), io.StringIO()
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(err):
            with patch("sys.argv", [script, *map(str, arguments)]), pytest.raises(SystemExit) as left:
                leave(module.parser(), module.work)
        assert left.value.code == code, (left.value.code, out.getvalue(), err.getvalue())
        return Typed(out.getvalue(), err.getvalue())


def with_label(item: Imported, **changed: Any) -> Imported:
    """The frame with another label."""
    return replace(item, label=replace(item.label, **changed))

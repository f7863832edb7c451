"""Event files: written from toy dynamics, read back, and those of the older system in either unit of time."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_toys import ABOUT, FALLING, exploded, older_file, thermal
from sampler_toys import Toy

from alfw.core.errors import DataError
from alfw.core.exploration import Event
from alfw.core.frame import Frame
from alfw.core.records import Resources
from alfw.io.event_files import UNITS, read_event
from alfw.io.frames import read_frames
from alfw.io.multi_copy import self_contained
from alfw.io.velocity_units import AmbiguousUnitError
from alfw.samplers.files import FilesSampler
from alfw.samplers.jaxmd import JaxMDSampler
from alfw.steps.events import save_events

NAME = re.compile(r"(unstable|high_force)_\d{8}_\d{6}_step\d+_w\d+_[0-9a-f]{8}\.npz")
SEED_KEYS = {
    *("positions", "velocities", "forces", "atomic_numbers", "energy", "step", "time_fs", "max_force"),
    *("max_velocity", "max_position", "temperature", "ensemble", "timestep", "reason", "instability_type"),
}
CALM = Frame([1, 1], [[0, 0, 0], [0.74, 0, 0]], charge=1, multiplicity=2)


def event(reason: str, bad: Frame | None = None, **more: Any) -> Event:
    options = {"walker": 3, "step": 40, "time_fs": 20.0, "temperature_K": 300.0, "value": 1.0} | more
    return Event(reason=reason, good=CALM, bad=bad, **options)


def saved(folder: Path, *events: Event) -> list[Path]:
    return save_events(folder / "active_learning", events, FALLING, ABOUT)


# --- written


@pytest.mark.slow
def test_explosions_of_real_dynamics_keep_their_last_good_frame(tmp_path: Path) -> None:
    events = exploded()
    assert len(events) == 2 and all(e.explosion for e in events)
    files = saved(tmp_path, *events)
    assert all(NAME.fullmatch(path.name) for path in files) and len({path.name for path in files}) == 2
    assert sorted(files) == sorted((tmp_path / "active_learning").iterdir())
    for path, e in zip(files, events, strict=True):
        with np.load(path, allow_pickle=False) as file:
            data = {key: file[key] for key in file.files}
        assert data.keys() >= SEED_KEYS - {"velocities"}
        forces = [FALLING.predict([frame]).forces[0].mean(0) for frame in (e.bad, e.good)]
        np.testing.assert_allclose(data["forces"], forces[0], rtol=1e-5)
        np.testing.assert_allclose(data["good_forces"], forces[1], rtol=1e-5)
        assert data["max_force"] == pytest.approx(np.abs(forces[0]).max())
        assert data["good_max_force"] == pytest.approx(np.abs(forces[1]).max())
        assert (
            data["max_force"] > 15 > data["good_max_force"] and data["force_std"] > data["good_force_std"] > 0
        )
        assert np.array_equal(data["positions"], e.bad.positions)
        assert data["max_position"] == np.abs(e.bad.positions).max()
        assert data["positions"].dtype == np.float64 and data["step"].dtype.kind == "i"
        assert (str(data["reason"]), str(data["instability_type"])) == ("explosion", "force")
        assert (int(data["step"]), float(data["time_fs"])) == (e.step, pytest.approx(0.25 * e.step))
        assert json.loads(str(data["units"]))["velocities"] == "A/fs"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    velocities = thermal([1, 1], 300.0, 1)
    bad = CALM.moved(CALM.positions * 3)
    kinds = {
        "speed": "velocity",
        "growth": "position",
        "distance": "distance",
        "force": "force",
        "nan": "nan",
    }
    for reason, kind in kinds.items():
        [path] = saved(tmp_path, event(reason, bad=None if reason == "nan" else bad, velocities=velocities))
        read = read_event(path)
        assert path.name.startswith("unstable_") and (read.reason, read.instability_type) == (
            "explosion",
            kind,
        )
        assert read.good.frame.id == read.offered.frame.id == CALM.id
        assert read.shown.frame.id == (CALM.id if reason == "nan" else bad.id)  # nan: the last finite one
        assert (read.walker, read.step, read.time_fs, read.timestep_fs) == (3, 40, 20.0, 0.25)
        assert (read.model, read.ensemble, read.temperature_K) == ("f" * 64, "nvt", 300.0)
        assert read.velocity_unit == "A/fs" and not read.unknown
        np.testing.assert_array_equal(read.velocities, velocities)
        assert read.max_velocity == np.abs(velocities).max() and read.uuid[:8] in path.name


def test_events_that_are_no_explosion(tmp_path: Path) -> None:
    high, unsure = saved(
        tmp_path, event("high_force"), event("uncertain", bad=CALM.moved(CALM.positions * 1.5))
    )
    assert high.name.startswith("high_force_") and unsure.name.startswith("unstable_")
    read = read_event(high)
    assert (read.reason, read.instability_type, read.good) == ("high_force", "warning", None)
    read = read_event(unsure)
    assert (read.reason, read.instability_type, read.explosion) == ("uncertain", "uncertain", False)


def test_atoms_that_are_lost_and_targets_that_are_none(tmp_path: Path) -> None:
    [path] = saved(
        tmp_path, event("growth", bad=CALM.moved(CALM.positions * 1e6), temperature_K=float("nan"))
    )
    read = read_event(path)
    assert np.isnan(read.shown.max_force) and np.isnan(read.temperature_K) and read.good.max_force > 0
    with np.load(path) as data:
        assert "temperature" not in data.files and "velocities" not in data.files


def test_walkers_of_one_second_do_not_overwrite_each_other(tmp_path: Path) -> None:
    files = saved(tmp_path, *(event("high_force", walker=w) for w in range(3)))
    assert len(set(files)) == len(list((tmp_path / "active_learning").iterdir())) == 3
    again = saved(tmp_path, event("high_force", walker=0))
    assert read_event(again[0]).uuid == read_event(files[0]).uuid  # of the content


@pytest.mark.slow
def test_a_run_that_turns_nan_leaves_the_frame_before(tmp_path: Path) -> None:
    nan = Toy("nan", [[0.02, 1.5]], 5.0, (1,))
    sampler = JaxMDSampler(
        temperatures_K=[1.0], walkers=1, n_steps=20, keep_every=2, limits={"max_force_eV_per_A": 1e9}
    )
    found = sampler.run(nan, [CALM.moved(np.array([[0, 0, 0], [1.499, 0, 0]]))], 4, Path(), Resources())
    [path] = save_events(tmp_path, found.events, nan, {})
    read = read_event(path)
    assert (read.instability_type, read.step) == ("nan", found.events[0].step)
    assert np.isfinite(read.shown.frame.positions).all() and np.isfinite(read.offered.forces).all()


# --- the two units of time


def test_both_units_are_told_apart(tmp_path: Path) -> None:
    for seed in range(20):
        old = read_event(older_file(tmp_path / "old.npz", seed))
        true = read_event(older_file(tmp_path / "true.npz", seed, mmml=False))
        assert (old.velocity_unit, true.velocity_unit) == ("mmml", "A/fs")
        np.testing.assert_allclose(old.velocities, true.velocities, rtol=1e-6)
        assert old.max_velocity == pytest.approx(true.max_velocity) and old.max_velocity < 0.02
        assert (old.time_fs, old.timestep_fs) == (true.time_fs, true.timestep_fs) == (5700.0, 50.0)


def test_what_is_ambiguous_is_refused_unless_it_is_said(tmp_path: Path) -> None:
    path = older_file(tmp_path / "a.npz", velocities=thermal([6, 8, 8], 300.0, 0) * 10)
    with pytest.raises(AmbiguousUnitError, match=r"a\.npz: ambiguous.*300 K.*--velocity-unit A/fs or mmml"):
        read_event(path)
    assert read_event(path, "mmml").time_fs == 5700.0 and read_event(path, "A/fs").time_fs == 57.0
    stated = older_file(tmp_path / "b.npz", units=json.dumps(UNITS))
    assert read_event(stated, "mmml").time_fs == 57.0  # what the file says wins


def test_without_a_target_or_velocities(tmp_path: Path) -> None:
    assert read_event(older_file(tmp_path / "a.npz", temperature=None)).velocity_unit == "mmml"
    assert read_event(older_file(tmp_path / "b.npz", temperature=None, mmml=False)).velocity_unit == "A/fs"
    for nothing in (None, np.zeros((3, 3)), np.full((3, 3), np.nan)):
        read = read_event(older_file(tmp_path / "c.npz", velocities=nothing))
        assert read.velocity_unit == "" and read.time_fs == 57.0


# --- other people's files


@pytest.mark.parametrize(
    "missing",
    [
        *("velocities", "dipole_physnet", "dipole_dcmnet", "temperature", "ensemble", "timestep", "reason"),
        *(
            "instability_type",
            "energy",
            "forces",
            "step",
            "time_fs",
            "max_velocity",
            "max_position",
            "max_force",
        ),
    ],
)
def test_keys_may_be_missing(tmp_path: Path, missing: str) -> None:
    read = read_event(older_file(tmp_path / "a.npz", **{missing: None}))
    assert len(read.shown.frame) == 3 and read.good is None
    assert read.shown.max_force == pytest.approx(6.0)  # of what is left
    if missing in ("reason", "instability_type", "ensemble"):
        assert getattr(read, missing) == "unknown"


def test_unknown_keys_are_ignored_and_known(tmp_path: Path) -> None:
    assert read_event(older_file(tmp_path / "a.npz", colour="red", more=np.eye(2))).unknown == (
        "colour",
        "more",
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"forces": np.zeros((2, 3))}, r"forces has the shape \(2, 3\), and should have \(3, 3\)"),
        ({"positions": np.zeros((1, 3, 3))}, r"positions has the shape \(1, 3, 3\)"),
        ({"atomic_numbers": np.array([[6, 8, 8]])}, r"atomic_numbers has the shape"),
        ({"atomic_numbers": np.array([6, 8, 200])}, "atomic_numbers are not those of elements"),
        ({"atomic_numbers": np.array(["C", "O", "O"])}, "atomic_numbers is no number"),
        ({"max_force": np.ones(2)}, "max_force has the shape"),
        ({"max_force": "high"}, "max_force is no number"),
        ({"positions": np.full((3, 3), np.nan)}, "finite numbers"),
        ({"positions": None}, "no key positions, so it is no event file"),
        ({"dipole_physnet": np.array(None)}, "dipole_physnet is a pickled object, which alfw never reads"),
        ({"units": "Bohr"}, "`units` is no JSON mapping"),
        ({"units": '{"positions": "Bohr"}'}, "its positions are in 'Bohr'"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    path = older_file(tmp_path / "odd.npz", **changed)
    with pytest.raises(DataError, match=rf"odd\.npz: .*{words}") as refused:
        read_event(path)
    assert "\n" not in str(refused.value)


def test_damaged_files_and_bare_pickles_are_refused(tmp_path: Path) -> None:
    whole = older_file(tmp_path / "a.npz").read_bytes()
    for data in (b"", b"PK nonsense", whole[:400], pickle.dumps({"positions": 1}), whole[:-200]):
        (tmp_path / "b.npz").write_bytes(data)
        with pytest.raises(DataError, match=r"b\.npz: "):
            read_event(tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("positions.npy", b"\x93NUMPY")
    with (tmp_path / "d.npz").open("wb") as file:
        np.save(file, np.eye(3))
    for name in ("c", "d", "nowhere"):
        with pytest.raises(DataError, match=rf"{name}\.npz: "):
            read_event(tmp_path / f"{name}.npz")


def test_they_are_frames_for_everything_that_reads_frames(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = CALM.moved(CALM.positions * 3)
    saved(tmp_path, event("force", bad), event("high_force", walker=4))
    older_file(tmp_path / "active_learning" / "x.npz", velocities=np.full((3, 3), 3.0))  # of no matter here
    positions = np.random.default_rng(0).normal(size=(4, 2, 3, 3))
    positions[3, 1] = 0  # stopped early
    np.savez(tmp_path / "multi_copy_traj_2x.npz", positions=positions)
    np.savez(
        tmp_path / "multi_copy_metadata.npz",
        atomic_numbers=[6, 8, 8],
        masses=[12.0, 16.0, 16.0],
        num_replicas=2,
    )
    np.savez(
        tmp_path / "trajectory.npz", trajectory=np.concatenate([positions[:, 0], np.zeros((2, 3, 3))]),
        times=np.zeros(6), atomic_numbers=[6, 8, 8],
    )  # fmt: skip
    sampler = FilesSampler(paths=(str(tmp_path), str(tmp_path / "active_learning")))
    frames = sampler.run(None, [], 0, tmp_path, Resources()).frames
    assert len(frames) == 2 + 1 + 7 + 4 and [frame.id for frame in frames].count(CALM.id) == 2
    copies = read_frames(tmp_path / "multi_copy_traj_2x.npz")
    assert len({item.trajectory for item in copies}) == 2
    (tmp_path / "worker").mkdir()  # where the other file is not
    alone = tmp_path / "worker" / "0000_multi_copy_traj_2x.npz"
    alone.write_bytes(self_contained(tmp_path / "multi_copy_traj_2x.npz"))
    assert [item.frame.id for item in read_frames(alone)] == [item.frame.id for item in copies]
    assert self_contained(tmp_path / "trajectory.npz") is None and self_contained(alone) is None
    assert "2 rows of copy 0 hold no frame and are left out" in caplog.text

"""How stable a run was, and two runs compared, from what samplers and trajectories say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import poisson
from shell import Shell

from alfw.core.errors import DataError
from alfw.core.exploration import Event, Exploration
from alfw.core.frame import Frame
from alfw.core.metrics import as_json
from alfw.core.spectrum import Spectrum
from alfw.core.units import AMU_A2_PER_FS2_eV, KB_eV_PER_K
from alfw.io.trajectory_npz import Track
from alfw.steps.md_compare import compare, rate_p_value
from alfw.steps.md_report import energy_drift, lives, stability
from alfw.steps.md_spectrum import Infrared, save_spectra
from alfw.steps.md_table import lines

PAIR = Frame([1, 1], [[0, 0, 0], [0, 0, 0.74]])


def seen(n_walkers: int, stops: dict[int, tuple[str, float]], **more: Any) -> Exploration:
    """A run of 10 ps of these walkers, some of which stopped for a reason at a time (fs)."""
    events = [
        Event(reason, w, int(time), time, 300.0, PAIR, PAIR, 1.0) for w, (reason, time) in stops.items()
    ]
    none = np.zeros(0)
    counters = {"n_walkers": n_walkers, "max_force_eV_per_A": 7.0}
    return Exploration([], none.astype(int), none.astype(int), none, none, events, counters, **more)


def track(velocities: np.ndarray, potential: np.ndarray, frame: Frame = PAIR) -> Track:
    """A trajectory of one frame a picosecond that stands still."""
    n = len(velocities)
    positions = np.repeat(frame.positions[None], n, 0)
    time = 1000.0 * np.arange(n)
    return Track(
        frame, 0, 1.0, time.astype(int), time, positions, None, potential, np.full(n, 2.0), velocities
    )


def summary_of(found: Exploration, **more: Any) -> dict[str, Any]:
    sampler = {"kind": "jaxmd", "ensemble": "nve", "dt_fs": 1.0, "temperatures_K": [300.0], "limits": {}}
    about = {"n_events": len(found.events), "formulas": ["H2"], "sampler": sampler, **more}
    return as_json({**about, **stability(found, [], 10000, 1.0)})


def folder(path: Path, summary: dict[str, Any], spectrum: Spectrum | None = None) -> Path:
    path.mkdir()
    (path / "summary.json").write_text(json.dumps(summary))
    if spectrum is not None:
        save_spectra(path, {"physnet": spectrum}, Infrared(), 300.0)
    return path


def test_a_walker_that_is_uncertain_is_no_explosion_and_one_with_a_high_force_goes_on():
    found = seen(4, {0: ("force", 2000.0), 1: ("uncertain", 4000.0), 2: ("high_force", 1000.0)})
    assert [(stop.time_fs, stop.cause) for stop in lives(found, 1e4)] == [
        *((2000.0, "force"), (4000.0, None), (10000.0, None), (10000.0, None))
    ]
    said = stability(found, [], 10000, 1.0)
    assert said["simulated_ns"] == pytest.approx(0.026)
    assert (said["n_explosions"], said["n_uncertain"], said["n_high_force"]) == (1, 1, 1)
    assert said["explosions_per_ns"] == pytest.approx(1 / 0.026)
    # the bounds are those rates at which one explosion or fewer (or more) has a probability of 5 %
    assert poisson.cdf(1, said["explosions_per_ns_upper"] * 0.026) == pytest.approx(0.05)
    assert poisson.sf(0, said["explosions_per_ns_lower"] * 0.026) == pytest.approx(0.05)
    assert said["max_force_eV_per_A"] == 7.0


def test_a_walker_that_began_again_lives_once_more():
    found = seen(1, {0: ("nan", 3000.0), 1: ("speed", 500.0)}, life_fs={0: 3000.0, 1: 500.0, 2: 6500.0})
    said = stability(found, [], 10000, 1.0)
    assert said["simulated_ns"] == pytest.approx(0.01)
    assert said["causes"] == {"nan": 1, "speed": 1} and said["median_ps"] == 3.0


def test_temperature_is_that_of_the_motion_about_the_centre_of_mass():
    rng = np.random.default_rng(0)
    sigma = np.sqrt(KB_eV_PER_K * 400.0 / AMU_A2_PER_FS2_eV / np.asarray(PAIR.masses))
    v = (rng.standard_normal((20000, 2, 3)) * sigma[:, None]).astype(np.float32)
    assert track(v, np.zeros(20000)).temperature_K.mean() == pytest.approx(400.0, rel=0.02)
    drifting = track(v + np.float32(0.01), np.zeros(20000)).temperature_K
    assert drifting == pytest.approx(track(v, np.zeros(20000)).temperature_K, rel=1e-2, abs=0.5)
    held = Frame([1, 1], PAIR.positions, fixed=[True, False])
    v[:, 0] = 0
    assert track(v, np.zeros(20000), held).temperature_K.mean() == pytest.approx(400.0, rel=0.02)


def test_the_energy_drift_is_a_slope_per_atom():
    still, n = np.zeros((11, 2, 3), np.float32), 11
    wave = 0.004 * (-1.0) ** np.arange(n)
    said = energy_drift([track(still, 0.02 * np.arange(n)), track(still, wave - wave.mean())])
    assert said["energy_drift_largest_eV_per_atom_per_ps"] == pytest.approx(0.01)
    assert said["energy_drift_eV_per_atom_per_ps"] == pytest.approx(0.005)
    assert said["energy_fluctuation_eV_per_atom"] == pytest.approx(0.002 / np.sqrt(2), rel=0.01)


def test_lines_for_people():
    text = "\n".join(lines(Path("md"), summary_of(seen(8, {i: ("force", 2000.0 + i) for i in range(6)}))))
    assert "explosions: 6 (force 6)" in text and "per ns (90%: " in text
    assert "stable for (median): 2 ps (95%: 2 ps to " in text
    calm = "\n".join(lines(Path("md"), summary_of(seen(8, {}))))
    assert "fewer than 37.4 per ns (95%)" in calm and "stable for (median): > 10 ps" in calm


def test_counts_in_unequal_times_are_compared_exactly():
    assert rate_p_value(0, 1.0, 0, 2.0) == 1.0
    assert rate_p_value(5, 1.0, 5, 1.0) == 1.0
    assert rate_p_value(10, 1.0, 0, 1.0) == pytest.approx(2 / 2**10)
    assert rate_p_value(0, 1.0, 3, 3.0) > 0.5


def bands(*places: float) -> Spectrum:
    x = np.linspace(0, 4000, 2001)
    return Spectrum(x, sum(np.exp(-(((x - p) / 20) ** 2)) for p in places), 10.0, 8000.0)


def test_two_runs_are_compared(tmp_path):
    before = summary_of(seen(10, {i: ("force", 1000.0 + i) for i in range(9)}))
    after = summary_of(seen(10, {0: ("speed", 9000.0)}))
    a = folder(tmp_path / "a", before, bands(1200.0, 2300.0))
    b = folder(tmp_path / "b", after, bands(1200.0, 2000.0))
    found = compare(a, b)
    assert found["rate_p_value"] < 0.001 and found["notes"] == []
    assert found["findings"][0].startswith("the second run explodes less often than the first one")
    assert found["spectrum_overlap"]["physnet"] == pytest.approx(0.5, abs=0.01)
    assert found["runs"]["first"]["n_explosions"] == 9
    assert found["runs"]["first"]["median_ps"] == pytest.approx(1.004)
    assert compare(b, a)["findings"][0].startswith("the first run explodes less often")
    assert "no difference in the rate" in compare(a, a)["findings"][0]
    shell = Shell(tmp_path)
    typed = shell.here("compare-md", "a", "b")
    assert "explosions per ns" in typed.out and "overlap of the infrared spectra, physnet: 0.500" in typed.out
    assert shell.json("compare-md", "a", "b")["rate_p_value"] == found["rate_p_value"]


def test_runs_that_cannot_be_compared_say_why(tmp_path):
    hot = summary_of(seen(2, {}))
    hot["sampler"]["temperatures_K"] = [600.0]
    a, b = folder(tmp_path / "a", summary_of(seen(2, {}))), folder(tmp_path / "b", hot)
    assert compare(a, b)["notes"] == ["not alike: temperatures [300.0] and [600.0]"]
    assert compare(a, b)["spectrum_overlap"] == {}
    shell = Shell(tmp_path)
    assert "no run there" in shell.here("compare-md", "a", "nowhere", code=1).line
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "summary.json").write_text('{"n_frames": 3}')
    with pytest.raises(DataError, match="not the summary of a run of molecular dynamics"):
        compare(a, tmp_path / "c")

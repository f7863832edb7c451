"""`alfw screen` and `alfw select`, as typed: what an ensemble says of frames in files, and which are worth a label."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from shell import Shell

from alfw.core.records import Resources, TrainingData
from alfw.models.ase import ASEModel
from alfw.models.ensemble import write_ensemble
from alfw.steps import screened

OPTIONS = {
    "kind": "ase",
    "members": 2,
    "calculator": "ase.calculators.lj:LennardJones",
    "kwargs": {"sigma": 2.3, "rc": 6.0, "smooth": True},
    "member_kwargs": [{"epsilon": 0.40}, {"epsilon": 0.44}],
}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Two members that differ by 10 % in all they say, and shaken crystals of copper and of nickel in two files."""
    folder = tmp_path_factory.mktemp("choose")
    model = ASEModel.model_validate(OPTIONS)
    weights = [model.train(TrainingData(()), k, None, folder / f"train_{k}", Resources()) for k in range(2)]
    write_ensemble(folder / "model", weights, model=OPTIONS)
    write_ensemble(folder / "one", weights[:1], model={**OPTIONS, "members": 1, "member_kwargs": []})
    (folder / "s").mkdir()
    rng = np.random.default_rng(0)
    for element, a in (("Cu", 3.6), ("Ni", 3.5)):
        images = [bulk(element, "fcc", a, cubic=True) for _ in range(6)]
        for i, atoms in enumerate(images):
            atoms.positions += 0.05 * (1 + i) * rng.standard_normal(atoms.positions.shape)
        ase.io.write(folder / "s" / f"{element}.extxyz", images)
    return Shell(folder)


def reference(shell: Shell) -> list[dict[str, float]]:
    """Energies and forces from ASE alone."""
    found = []
    for name in ("Cu", "Ni"):
        for atoms in ase.io.read(shell.folder / "s" / f"{name}.extxyz", ":"):
            both = []
            for epsilon in (0.40, 0.44):
                atoms.calc = LennardJones(sigma=2.3, rc=6.0, smooth=True, epsilon=epsilon)
                both.append((atoms.get_potential_energy(), atoms.get_forces()))
            energy, forces = (np.array(x) for x in zip(*both, strict=True))
            found.append({"E_mean": energy.mean(), "E_var": energy.var(), "F_var": forces.var(0).mean()})
            found[-1]["std"] = np.sqrt(((forces - forces.mean(0)) ** 2).sum(-1).mean(0)).max()
    return found


def test_screen_says_what_the_members_say(shell):
    rows = shell.json("screen", "model", "--structures", "s")
    assert [(Path(row["source"]).name, row["frame"]) for row in rows] == [
        (f"{name}.extxyz", i) for name in ("Cu", "Ni") for i in range(6)
    ]
    for row, expected in zip(rows, reference(shell), strict=True):
        assert row["E_mean"] == pytest.approx(expected["E_mean"], rel=1e-4, abs=1e-3)
        assert row["E_var"] == pytest.approx(expected["E_var"], rel=1e-3)
        assert row["F_var"] == pytest.approx(expected["F_var"], rel=1e-3)
        assert row["force_std_max"] == pytest.approx(expected["std"], rel=1e-3)
        assert row["units"]["force_std"] == "eV/A" and row["members"] == 2


def test_a_shard_holds_all_that_was_screened(shell):
    said = shell.here("screen", "model", "--structures", "s/Cu.extxyz", "-o", "cu.npz")
    assert "6 frames, 2 members" in said.out and "Cu.extxyz frame 5" in said.out
    found = screened.load(shell.folder / "cu.npz")
    rows = shell.json("screen", "model", "--structures", "s/Cu.extxyz")
    again = screened.as_rows(found)
    assert [row["id"] for row in again] == [row["id"] for row in rows]
    np.testing.assert_allclose([r["force_std_max"] for r in again], [r["force_std_max"] for r in rows])


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_select_from_a_screening(shell, suffix):
    shell.here("screen", "model", "--structures", "s", "-o", f"all.{suffix}")
    arguments = ("--kind", "force-std", "--max-frames", 3, "--set", "band_eV_per_A=[null, null]")
    loose = ("--set", "physical.min_distance_fraction=null")
    said = shell.here("select", f"all.{suffix}", *arguments, *loose, "-o", f"{suffix}.extxyz")
    assert "3 of 12 frames" in said.out and "alfw qm write" in said.out
    report = json.loads((shell.folder / f"{suffix}.json").read_text())
    std = np.array([row["std"] for row in reference(shell)])
    assert [row["index"] for row in report["chosen"]] == list(np.argsort(-std)[:3])
    assert [row["force_std"] for row in report["chosen"]] == pytest.approx(sorted(std)[::-1][:3], rel=1e-3)
    written = ase.io.read(shell.folder / f"{suffix}.extxyz", ":")
    assert len(written) == 3


def test_select_without_a_model_covers_geometric_environments(shell):
    said = shell.here("select", "s", "--max-frames", 4, "-o", "bare.extxyz")
    assert "4 of 12 frames" in said.out
    symbols = {atoms.get_chemical_symbols()[0] for atoms in ase.io.read(shell.folder / "bare.extxyz", ":")}
    assert symbols == {"Cu", "Ni"}


def test_what_is_labelled_is_not_chosen_again(shell):
    first = shell.json("select", "s", "--max-frames", 4, "-o", "first.extxyz")
    more = shell.json("select", "s", "--max-frames", 12, "--labelled", "first.extxyz", "-o", "more.extxyz")
    taken = {row["id"] for row in first["chosen"]}
    assert taken and not taken & {row["id"] for row in more["chosen"]}
    everything = shell.here("select", "s", "--labelled", "s", "-o", "none.extxyz", code=2)
    assert "0 of 12" in everything.out and "repeat what is labelled" in everything.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("select", "s", "--kind", "force-std", "-o", "x.extxyz"), "screen with an ensemble: --model"),
        (("select", "s", "--kind", "farthist", "-o", "x.extxyz"), "unknown selector 'farthist'"),
        (("select", "s", "--set", "dedupe=1", "-o", "x.extxyz"), "dedupe"),
        (("select", "nothing", "-o", "x.extxyz"), "nothing: no such file"),
        (("select", "s", "-o", "x.json"), "has to end in .extxyz"),
        (("screen", "model", "--structures", "s", "-o", "x.txt"), "has to end in .json or .npz"),
        (("screen", "nowhere", "--structures", "s"), "nowhere"),
    ],
)
def test_mistakes_are_told_in_a_line(shell, arguments, message):
    said = shell.here(*arguments, code=1)
    assert message in said.line
    assert not (shell.folder / "x.extxyz").exists()


def test_a_file_that_has_changed_since(shell, tmp_path):
    ase.io.write(tmp_path / "a.extxyz", bulk("Cu", cubic=True))
    shell.here("screen", "model", "--structures", tmp_path / "a.extxyz", "-o", tmp_path / "a.json")
    ase.io.write(tmp_path / "a.extxyz", bulk("Cu", cubic=True, a=3.7))
    said = shell.here("select", tmp_path / "a.json", "-o", tmp_path / "b.extxyz", code=1)
    assert "a.extxyz frame 0 has changed since it was screened" in said.line


def test_a_pickle_is_never_loaded(shell, tmp_path):
    np.savez(tmp_path / "bad.npz", source=np.array([{}], object), frame_offsets=np.array([0]))
    said = shell.here("select", tmp_path / "bad.npz", "-o", tmp_path / "b.extxyz", code=1)
    assert "bad.npz" in said.line and "not a shard" in said.line


def test_one_member_has_no_spread(shell):
    said = shell.here("screen", "one", "--structures", "s")
    assert "force_std needs two members" in said.out
    row = shell.json("screen", "one", "--structures", "s")[0]
    assert row["force_std_max"] is None and row["energy_std_per_atom"] is None and row["E_var"] == 0.0

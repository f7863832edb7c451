"""What a user gets for a mistake: one line that says what and where, exit code 1, and nothing written anywhere."""

from __future__ import annotations

import copy
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from fireworks import LaunchPad
from fireworks.scripts.lpad_run import lpad
from pymongo import MongoClient
from ruamel.yaml import YAML

from alfw.cli.app import _run
from alfw.core import registry
from alfw.core.errors import AlfwError
from alfw.store import Store

WATER = Atoms("OH2", [(0.0, 0.0, 0.12), (0.0, 0.76, -0.48), (0.0, -0.76, -0.48)])
CAMPAIGN: dict[str, Any] = {
    "schema_version": 1,
    "name": "water",
    "data": {"initial": [{"path": "initial.extxyz", "theory": "ignore"}]},
    "model": {"kind": "nequix", "members": 2},
    "sample": [{"kind": "jaxmd", "temperatures_K": [300], "walkers": 1, "n_steps": 10, "keep_every": 5}],
    "select": {"kind": "random"},
    "label": {"kind": "tblite"},
}
PLUGINS = """
from typing import ClassVar, Literal
from alfw.models.nequix import NequixModel
class Hydrogen(NequixModel):
    kind: Literal["hydrogen"] = "hydrogen"
    def known_species(self):
        return frozenset({1})
"""


def waters(n: int = 10, **changes: Any) -> list[Atoms]:
    """Distorted water molecules."""
    rng = np.random.default_rng(1)
    frames = []
    for _ in range(n):
        atoms = WATER.copy()
        atoms.positions += 0.03 * rng.normal(size=(3, 3))
        atoms.info.update(changes)
        frames.append(atoms)
    return frames


def labelled(**info: Any) -> list[Atoms]:
    frames = waters(**info)
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((3, 3)))
    return frames


def boxed(pbc: Any) -> list[Atoms]:
    frames = waters()
    for atoms in frames:
        atoms.cell, atoms.pbc = 8.0 * np.eye(3), pbc
    return frames


@pytest.fixture(scope="module", autouse=True)
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two plug-ins of a package of the user's own: one that knows hydrogen only, one whose package is missing."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "alfw_test_plugins.py").write_text(PLUGINS)
    (folder / "alfw_test_broken.py").write_text("import not_installed_anywhere\n")
    info = folder / "alfw_test_plugins-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: alfw-test-plugins\nVersion: 0.0\n")
    entries = "hydrogen = alfw_test_plugins:Hydrogen\nbroken = alfw_test_broken:Broken\n"
    (info / "entry_points.txt").write_text(f"[alfw.models]\n{entries}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        registry.known.cache_clear()
        yield
    registry.known.cache_clear()


Change = Callable[[dict[str, Any], Path], object]
CASES: dict[str, tuple[Change, tuple[str, ...]]] = {}


def frames(what: list[Atoms]) -> Change:
    return lambda campaign, folder: write(folder / "initial.extxyz", what)


def setting(section: str | None, **values: Any) -> Change:
    def change(campaign: dict[str, Any], folder: Path) -> None:
        part = campaign if section is None else campaign.setdefault(section, {})
        (part[0] if isinstance(part, list) else part).update(values)

    return change


def mistake(name: str, change: Change, *needed: str) -> None:
    """Register what a user may do, and the words that the message must have."""
    CASES[name] = change, needed


mistake("misspelt key", setting(None, lable={}), "lable: unknown key")
mistake("misspelt key of a section", setting("stop", max_round=3), "stop.max_round: unknown key")
mistake("misspelt key of a plug-in", setting("sample", walker=3), "sample.0.walker: unknown key")
mistake(
    "misspelt key of a plug-in's part",
    setting("sample", limits={"max_force": 3}),
    "sample.0.limits.max_force: unknown",
)
mistake("missing section", lambda c, f: c.pop("label"), "label: missing")
mistake("section of the wrong type", lambda c, f: c.update(model="nequix"), "model: ", "'nequix'")
mistake("sample not a list", lambda c, f: c.update(sample=c["sample"][0]), "sample: ")
mistake("data not a mapping", lambda c, f: c.update(data="initial.extxyz"), "data: ")
mistake("unknown kind", setting("model", kind="nequip"), "model.kind: ", "'nequip'", "nequix")
mistake("unknown labeler", setting("label", kind="orcca"), "label.kind: ", "'orcca'", "orca", "tblite")
mistake("labeler without method", setting("label", kind="orca"), "label.method: ", "missing")
mistake("unknown sampler", setting("sample", kind="shake"), "sample.0.kind: ", "'shake'", "rattle", "jaxmd")
mistake(
    "package missing", setting("model", kind="broken"), "model.kind: ", "not_installed_anywhere", "install"
)
mistake("no kind", lambda c, f: c["select"].pop("kind"), "select.kind: missing")
mistake("no checkpoint", setting("model", start_from="mp-1.nqx"), "model: start_from: ", "is not there")
mistake("negative budget", setting("stop", cpu_hours=-10), "stop.cpu_hours: ", "-10")
mistake("no label allowed", setting("stop", max_labels=0), "stop.max_labels: ", "0")
mistake("gain in vain", setting("stop", min_gain_percent=0), "stop.min_gain_percent: ", "0")
mistake("coverage of all", setting("calibration", coverage=1), "calibration.coverage: ", "1")
mistake(
    "two bands",
    setting("select", kind="force-std", band_eV_per_A=[0.1, None], band_error_eV_per_A=[0.1, None]),
    "select.band_error_eV_per_A: give either",
)
mistake(
    "band of errors, one member",
    lambda c, f: (c["model"].update(members=1), c["select"].update(band_error_eV_per_A=[0.1, None])),
    "select.band_error_eV_per_A: ",
    "model.members",
)
mistake(
    "band of errors, no audit",
    setting("select", kind="force-std", audit_frames=0, band_error_eV_per_A=[0.1, None]),
    "select.band_error_eV_per_A: ",
    "audit_frames",
)
mistake(
    "from_campaign",
    lambda c, f: c["data"].update(initial=[{"from_campaign": "a@1"}]),
    "not available in this version",
)
mistake("other schema", setting(None, schema_version=2), "schema_version: ", "2")
mistake("capitals in the name", setting(None, name="Water"), "name: ", "'Water'", "a-z")
mistake(
    "min_rounds above max_rounds",
    setting("stop", min_rounds=3, max_rounds=2),
    "stop: ",
    "min_rounds 3",
    "max_rounds 2",
)
mistake("negative steps", setting("sample", n_steps=-5), "sample.0.n_steps: ", "-5")
mistake(
    "band upside down",
    setting("select", kind="force-std", band_eV_per_A=[2.0, 1.0]),
    "select.band_eV_per_A: ",
    "2.0",
    "1.0",
)
mistake(
    "walltime",
    lambda c, f: c.update(resources={"label": {"walltime": "4h"}}),
    "resources.label.walltime: ",
    "4h",
    "HH:MM:SS",
)
mistake("unknown ensemble", setting("sample", ensemble="nph"), "sample.0.ensemble: ", "nph", "not available")
mistake("no pressure", setting("sample", ensemble="npt"), "sample.0: pressure_GPa: ", "needs it")
mistake(
    "missing file",
    lambda c, f: (f / "initial.extxyz").unlink(),
    "data.initial.0.path: ",
    "initial.extxyz",
    "no such file",
)
mistake(
    "unreadable file",
    lambda c, f: (f / "initial.extxyz").write_text("3\n\nO 0 0\n"),
    "initial.extxyz",
    "cannot be read",
)
mistake(
    "binary file",
    lambda c, f: (f / "initial.extxyz").write_bytes(bytes(range(256))),
    "initial.extxyz",
    "cannot be read",
)
mistake("empty file", lambda c, f: (f / "initial.extxyz").write_text(""), "initial.extxyz")
mistake(
    "missing test file",
    lambda c, f: c["data"].update(test={"hot": "hot.extxyz"}),
    "data.test.hot.path: ",
    "no such file",
)
mistake(
    "element the model does not know",
    setting("model", kind="hydrogen"),
    "data.initial.0: ",
    "frame 0",
    "the model does not know O",
)
mistake(
    "element the labeler does not know",
    frames([Atoms("UH", [(0, 0, 0), (0, 0, 2)])] * 5),
    "frame 0",
    "no parameters for U",
)
mistake("charge", setting("system", charge=1), "frame 0", "multiplicity 1", "9 electrons")
mistake("multiplicity", frames(waters(multiplicity=2)), "frame 0", "multiplicity 2", "10 electrons")
mistake("charge of a part", frames(waters(charge=0.5)), "frame 0", "charge 0.5 is not an integer")
mistake("NaN", frames([Atoms("H2", [(0, 0, 0), (0, 0, np.nan)])]), "frame 0", "finite")
mistake("infinite", frames([*waters(2), Atoms("H2", [(0, 0, 0), (0, 0, np.inf)])]), "frame 2", "finite")
mistake("partly periodic", frames(boxed([True, True, False])), "frame 0", "partial_pbc: vacuum")
mistake("no cell", frames([Atoms("H2", [(0, 0, 0), (0, 0, 0.7)], pbc=True)]), "frame 0", "zero volume")
mistake(
    "unstated theory",
    lambda c, f: (c["data"]["initial"][0].pop("theory"), frames(labelled())(c, f)),
    "unstated theory",
    "theory: ignore",
    "theory: same",
)
mistake(
    "another stated theory",
    lambda c, f: (c["data"]["initial"][0].update(theory="same"), frames(labelled(theory="f" * 64))(c, f)),
    "ffffffffffff",
    "theory: ignore",
)
mistake(
    "molecules only",
    lambda c, f: (
        c.update(label={"kind": "pyscf", "method": "HF", "basis": "sto-3g"}),
        frames(boxed(True))(c, f),
    ),
    "frame 0",
    "'pyscf'",
    "molecules",
)
mistake(
    "test equals initial",
    lambda c, f: c["data"].update(test={"all": "initial.extxyz"}),
    "data.initial: ",
    "data.test",
)


def campaign_file(folder: Path, campaign: dict[str, Any]) -> Path:
    """campaign.yaml as `lpad add` takes it."""
    task = {"_fw_name": "{{alfw.firetasks.StartCampaign}}", "campaign": campaign}
    path = folder / "campaign.yaml"
    with path.open("w") as file:
        YAML(typ="safe").dump({"name": "x", "spec": {"_category": "control", "_tasks": [task]}}, file)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, where the commands run."""
    folder = tmp_path / "work"
    folder.mkdir()
    write(folder / "initial.extxyz", waters())
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def pad(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LaunchPad, Path]]:
    """A LaunchPad that stays empty through all of these tests, and its file."""
    path, name = tmp_path_factory.mktemp("pad") / "my_launchpad.yaml", f"alfw_test_{uuid.uuid4().hex[:12]}"
    path.write_text(f"host: {mongodb_uri}\nname: {name}\nuri_mode: true\nlogdir: null\nstrm_lvl: WARNING\n")
    launchpad = LaunchPad.from_file(str(path))
    launchpad.reset("", require_password=False)
    Store.from_launchpad(launchpad).ensure_indexes()
    yield launchpad, path
    launchpad.connection.drop_database(name)
    launchpad.connection.close()


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


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def one_line(text: str) -> str:
    """The message: one line, with alfw's name before it."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("alfw: ")
    return lines[0]


VERBS = ["check", "lpad add"]
# What `run` and `amend` read, they read as `check` does; here that they do it before anything is written.
ALL_VERBS = ["run", "amend"]
FEW = ["misspelt key", "missing file", "charge", "unknown labeler"]


@pytest.mark.parametrize(
    ("verb", "name"), [(v, n) for v in VERBS for n in CASES] + [(v, n) for v in ALL_VERBS for n in FEW]
)
def test_a_mistake_costs_one_line(
    verb: str, name: str, folder: Path, pad: tuple[LaunchPad, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    change, needed = CASES[name]
    campaign = copy.deepcopy(CAMPAIGN)
    change(campaign, folder)
    file = campaign_file(folder, campaign)
    launchpad, launchpad_file = pad
    before, records = contents(folder), launchpad.db.list_collection_names()
    if verb == "lpad add":
        with pytest.raises(AlfwError) as caught:
            lpad(["-l", str(launchpad_file), "add", str(file)])
        message = str(caught.value)
        assert "\n" not in message
    else:
        option = [] if verb == "check" else ["-l", str(launchpad_file)]
        assert _run([verb, str(file), *option]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        message = one_line(captured.err)
    for word in needed:
        assert word in message
    assert len(message) < 400
    assert contents(folder) == before
    assert launchpad.fireworks.count_documents({}) == 0
    assert sorted(launchpad.db.list_collection_names()) == sorted(records)


FILES = {
    "not YAML": ("a: [1, 2", "not YAML"),
    "not text": (b"\xff\xfe\x00\x01", "not YAML"),
    "the same key twice": ("name: a\nname: b\n", "duplicate key"),
    "not a campaign": (
        "name: a\nspec: {_tasks: [{_fw_name: ScriptTask, script: echo}]}\n",
        "no campaign in it",
    ),
    "a list": ("- 1\n", "no campaign in it"),
    "empty": ("", "no campaign in it"),
    "campaign without content": (
        "spec: {_tasks: [{_fw_name: '{{alfw.firetasks.StartCampaign}}', campaign: null}]}\n",
        "no campaign in it",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_campaign(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, needed = FILES[name]
    file = folder / "campaign.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert _run(["check", str(file)]) == 1
    assert needed in one_line(capsys.readouterr().err)


def test_no_such_file(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("check", "run", "amend"):
        assert _run([verb, "nowhere.yaml"]) == 1
        assert "nowhere.yaml: No such file" in one_line(capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["alfw check", "alfw run", "lpad add", "lpad add, optimised"])
def test_as_a_process(command: str, folder: Path, pad: tuple[LaunchPad, Path]) -> None:
    """The exact commands, with `python -O` too: no check may hang on an assert."""
    campaign = copy.deepcopy(CAMPAIGN)
    campaign["label"]["kind"] = "orcca"
    file = campaign_file(folder, campaign)
    before = contents(folder)
    scripts = Path(sys.executable).parent
    launchpad, launchpad_file = pad
    line = {
        "alfw check": [scripts / "alfw", "check", file],
        "alfw run": [scripts / "alfw", "run", file, "-l", launchpad_file],
        "lpad add": [scripts / "lpad", "-l", launchpad_file, "add", file],
        "lpad add, optimised": [sys.executable, "-O", scripts / "lpad", "-l", launchpad_file, "add", file],
    }[command]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert "label.kind: unknown labeler 'orcca'" in lines[-1]
    if command.startswith("alfw"):
        assert len(lines) == 1
        assert done.stdout == ""
    else:
        assert lines[-1].startswith("alfw.core.errors.ConfigError: ")
    assert contents(folder) == before
    assert launchpad.fireworks.count_documents({}) == 0

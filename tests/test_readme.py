"""The README, taken at its word: its commands run, its plug-in works, its links and names exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alfw.core import registry
from alfw.core.exploration import Pool
from alfw.core.frame import Frame
from alfw.store.mongod import find_mongod

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Commands that are not run here, and why.
ELSEWHERE = {
    "make demo": "takes minutes; benchmarks/demo.py measures it",
    "make test": "is what runs this test",
    "rlaunch -w my_fworker_control.yaml rapidfire --nlaunches infinite &": "tests/test_slurm.py",
    "qlaunch -r -w my_fworker_qm.yaml rapidfire --nlaunches infinite": "needs a queue: tests/test_slurm.py",
    "pip install '.[nequix,xtb,pyscf]'": "installs; `make setup` does the same",
    "pip install --no-deps nequix==0.4.5": "installs; `make setup` does the same",
    "pip install -U 'jax[cuda12]'": "needs a GPU",
    "alfw qm write structures --labeler orca --method PBE0 --basis def2-TZVP -o inputs": "tests/test_qm_verbs.py",
    "alfw qm run inputs --jobs 4": "needs ORCA: tests/test_qm_verbs.py runs one that replays",
    "alfw qm read inputs/*.out -o labels.npz": "needs ORCA's outputs: tests/test_qm_read.py",
    "alfw train --model nequix --train dataset.extxyz -o model": "takes minutes: tests/test_train_verb.py",
}
# What is to be seen after a command.
SEEN = {
    "alfw init work": "work/campaign.yaml",
    "alfw db start": "mongod runs on 127.0.0.1",
    "alfw check campaign.yaml --dry-run": "explored_frames",
    "alfw pause ethanol": "ethanol: paused",
    "alfw resume ethanol": "ethanol: running",
    "alfw qm retry ethanol": "ethanol: put back: nothing new",
    "alfw run campaign.yaml": "ethanol ended: max_rounds 1 reached",
    "alfw status ethanol": "ethanol (ended: max_rounds 1 reached)",
    "alfw export dataset ethanol -o dataset.extxyz": "labels 163",
    "alfw export ensemble ethanol -o ensemble": "members 2",
    "alfw export candidates ethanol -o candidates.extxyz": "candidates 3",
    "alfw data info dataset.extxyz": "163",
    "alfw validate ensemble --testset dataset.extxyz --html report.html": "force RMSE by element",
    "alfw report ethanol -o why.html": "why.html",
    "alfw sample ensemble --structures candidates.extxyz --sampler rattle --set count=20 -o explored": "20",
    "alfw screen ensemble --structures explored/pool.extxyz -o screened.npz": "20 frames, 2 members",
    "alfw select screened.npz --labelled dataset.extxyz --max-frames 5 -o chosen.extxyz": "of 20 frames",
    "alfw frames list explored": "20",
    "alfw db stop": "mongod is stopped",
}
FIRST = "rlaunch rapidfire --nlaunches infinite"
SMALLER = [
    ("members: 3", "members: 2\n    hidden_irreps: 2x0e + 1x1o\n    radial_mlp_size: 4\n    n_layers: 1"),
    ("steps: 3000", "steps: 2, batch_size: 2"),
    ("walkers: 12 ", "walkers: 2 "),
    ("n_steps: 4000", "n_steps: 20"),
    ("keep_every: 40", "keep_every: 5"),
    ("max_frames: 30", "max_frames: 2"),
    ("audit_frames: 10 ", "audit_frames: 1 "),
    ("frames_per_firework: 10 ", "frames_per_firework: 200 "),
    ("min_rounds: 2, max_rounds: 2", "min_rounds: 1, max_rounds: 1"),
]


def blocks(language: str) -> list[list[str]]:
    """The lines of the code blocks in this language, without comments."""
    found = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return [
        [re.sub(r"\s+#.*", "", line).strip() for line in block.splitlines() if line.strip()]
        for block in found
    ]


def commands() -> list[str]:
    """The shell commands of the README in the order in which they are run: recovery while the campaign is on."""
    lines = [line for block in blocks("bash") for line in block if line not in ELSEWHERE]
    verbs = (["alfw", "pause"], ["alfw", "resume"], ["alfw", "qm"], ["alfw", "reconcile"])
    recovery = [line for line in lines if line.split()[:2] in verbs]
    rest = [line for line in lines if line not in recovery]
    where = rest.index(FIRST)
    return [*rest[:where], "rlaunch singleshot", *recovery, *rest[where:]]


def shrink(path: Path) -> None:
    text = path.read_text()
    for old, new in SMALLER:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


class Shell:
    """One bash for all commands, so that `cd` lasts; workers leave when nothing is left to do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        leaves = 'rlaunch() { if [ "$1" = singleshot ]; then command rlaunch "$@"; '
        leaves += 'else command rlaunch "$@" --max_loops 1 --sleep 1; fi; }\n'
        self._head = "set -e\n" + leaves
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._env = {k: v for k, v in os.environ.items() if k != "FW_CONFIG_FILE"} | {"PATH": path}

    def run(self, command: str) -> str:
        """What the command printed; it has to succeed."""
        if command.startswith("cd "):
            self._folder /= command.removeprefix("cd ")
            return ""
        done = subprocess.run(
            ["bash", "-c", self._head + command],
            cwd=self._folder,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout


def test_every_command_is_run_or_excused() -> None:
    written = {line for block in blocks("bash") for line in block}
    assert set(ELSEWHERE) <= written
    assert written - set(ELSEWHERE) == set(commands()) - {"rlaunch singleshot"}
    assert set(SEEN) <= set(commands())


@pytest.mark.slow
def test_commands(tmp_path: Path) -> None:
    find_mongod()
    shell = Shell(tmp_path)
    try:
        for command in commands():
            printed = shell.run(command)
            assert SEEN.get(command, "") in printed, command
            if command == "alfw init work":
                shrink(tmp_path / "work" / "campaign.yaml")
    finally:
        if (tmp_path / "work" / "alfw_db").exists():
            Shell(tmp_path / "work").run("alfw db stop")
    made = {path.name for path in (tmp_path / "work").iterdir()}
    assert {"dataset.extxyz", "ensemble", "candidates.extxyz", "report.html"} <= made


def test_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example, installed as its entry point says, does what it says."""
    [python] = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    [toml] = re.findall(r"^```toml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    [(group, entries)] = tomllib.loads(toml)["project"]["entry-points"].items()
    [(kind, target)] = entries.items()
    (tmp_path / f"{target.partition(':')[0]}.py").write_text(python)
    info = tmp_path / "readme_plugin-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: readme-plugin\nVersion: 0.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{kind} = {target}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.known.cache_clear()
    try:
        selector: Any = registry.plugin_class(group, kind)(below_eV_per_A=15)
    finally:
        registry.known.cache_clear()
    frames = [Frame(np.array([1]), np.array([[0.0, 0.0, x]])) for x in range(4)]
    pool = Pool(frames, np.zeros(4), np.array([3.0, 20.0, 14.0, np.nan]))
    assert [choice.index for choice in selector.select(pool, 5, 1).chosen] == [2, 0]


def test_names_and_links_exist() -> None:
    from alfw.cli.app import app

    verbs = {command.name for command in app.registered_commands} | {
        group.name for group in app.registered_groups
    }
    assert set(re.findall(r"\balfw ([a-z-]+) ?(?:[A-Za-z.-]+)?`", README)) <= verbs
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("part", ["model", "sampler", "selector", "labeler"])
def test_table_of_kinds(part: str) -> None:
    [row] = re.findall(rf"^\| {part} \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    here, planned = (set(re.findall(r"`([a-z0-9-]+)`", cell)) for cell in row)
    group = f"alfw.{part}s"
    assert here == {kind for kind, entry in registry.known(group).items() if entry.value.startswith("alfw.")}
    assert planned - here <= registry.PLANNED.get(group, frozenset())

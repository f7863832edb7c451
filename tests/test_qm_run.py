"""`alfw qm run`, typed in a shell: restarts, failures, kills."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from shell import Shell, molecules, write_toy

from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Resources
from alfw.io.frames import read_frames
from alfw.labelers.tblite import TBLiteLabeler


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """With a folder `s` of three molecules, one of which has a JSON file beside it, and a script."""
    return molecules(tmp_path)


def test_what_runs_in_process_gives_the_labels_of_the_labeler(shell: Shell) -> None:
    shell.here("qm", "write", "s", "--labeler", "tblite", "-o", "in")
    report = shell.json("qm", "run", "in", "--jobs", "2")
    assert report == {
        **{"folder": "in", "n_frames": 3, "n_skipped": 0, "n_good": 3, "n_failed": 0, "failed": []}
    }
    shell.here("qm", "read", "in", "-o", "data.npz")
    shell.here("qm", "read", "in", "-o", "data.extxyz")
    for name in ("data.npz", "data.extxyz"):
        for item, source in zip(
            read_frames(shell.folder / name), sorted(shell.folder.glob("s/*.xyz")), strict=True
        ):
            wanted = label(TBLiteLabeler(), read_frames(source)[0].frame, shell.folder, Resources())
            assert item.frame.id == read_frames(source)[0].frame.id
            assert item.theory == TBLiteLabeler().theory().id
            assert item.label is not None and item.label.version.startswith("tblite ")
            assert item.label.energy == pytest.approx(wanted.energy, abs=1e-8)
            for key in ("forces", "dipole", "charges"):
                assert getattr(item.label, key) == pytest.approx(getattr(wanted, key), abs=1e-6), key


@pytest.mark.slow
def test_failures_are_listed_and_only_they_are_run_again(shell: Shell) -> None:
    write_toy(shell)
    typed = shell.alfw("qm", "run", "in", code=2)
    assert "in: 2 good, 1 failed" in typed.out
    assert re.search(r"structure_0001: MISSING_OUTPUT: .*this one is difficult", typed.out)
    assert len(list(shell.folder.glob("start*"))) == 3
    record = json.loads((shell.folder / "in" / "structure_0001.run" / "run.json").read_text())
    assert record["verdict"] == "failed" and record["failure"]["signature"] == "this one is difficult"
    log = shell.folder / "in" / "structure_0001.run" / "output.log.gz"
    assert gzip.decompress(log.read_bytes()) == b"this one is difficult\n"
    assert (shell.folder / "in" / "structure_0001.out").read_bytes() == b"this one is difficult\n"
    partly = shell.json("qm", "read", "in", "-o", "data.npz", code=2)
    assert (partly["n_labels"], partly["n_refused"]) == (2, 1)
    assert partly["refused"][0] == {
        "output": "in/structure_0001",
        "class": "MISSING_OUTPUT",
        "signature": "this one is difficult",
        "message": partly["refused"][0]["message"],
    }
    (shell.folder / "cured").touch()
    assert shell.json("qm", "run", "in")["n_skipped"] == 2
    assert len(list(shell.folder.glob("start*"))) == 4
    assert shell.json("qm", "read", "in", "-o", "data.npz")["n_labels"] == 3


def test_edited_inputs_are_refused(shell: Shell) -> None:
    write_toy(shell)
    path = shell.folder / "in" / "structure_0000" / "structure.extxyz"
    text = path.read_text()
    path.write_text(text.replace("O ", "S "))
    assert re.search(
        r"structure\.extxyz was edited.*edit the deck", shell.here("qm", "run", "in", code=1).line
    )
    path.unlink()
    assert "missing" in shell.here("qm", "run", "in", code=1).line
    path.write_text(text)
    frames = shell.folder / "in" / "qm.extxyz"
    frames.write_text(frames.read_text().replace("0.119262", "0.219262"))
    assert "not the frames of qm.json" in shell.here("qm", "run", "in", code=1).line
    assert list(shell.folder.glob("start*")) == []


@pytest.mark.parametrize("content", [None, "", "[]", '{"labeler": {}}', "{"])
def test_a_folder_that_write_did_not_make_is_refused(shell: Shell, content: str | None) -> None:
    if content is not None:
        (shell.folder / "s" / "qm.json").write_text(content)
    assert "qm.json" in shell.here("qm", "run", "s", code=1).line
    assert "qm.json" in shell.here("qm", "run", "nowhere", code=1).line


@pytest.mark.slow
def test_a_missing_program_stops_everything_in_one_line(shell: Shell) -> None:
    write_toy(shell, command="no_such_program x")
    line = shell.alfw("qm", "run", "in", "--jobs", "2", code=3).line
    assert re.search(r"structure_000\d: cannot start 'no_such_program' on .*looked in PATH", line)
    report = shell.json("qm", "run", "in", "--command", f"{sys.executable} job.py {shell.folder}", code=2)
    assert report["n_good"] == 2  # the command is no part of the theory
    assert "name is part of the theory" in shell.here("qm", "run", "in", "--set", "name=other", code=1).line
    assert "unknown key" in shell.here("qm", "run", "in", "--set", "colour=red", code=1).line


def test_a_worker_that_is_killed_costs_its_frame_only(shell: Shell) -> None:
    (shell.folder / "kill").touch()
    (shell.folder / "cured").touch()
    write_toy(shell)
    report = shell.json("qm", "run", "in", code=2)
    assert (report["n_good"], report["n_failed"]) == (2, 1)
    assert report["failed"][0]["frame"] == "structure_0002" and report["failed"][0]["class"] == "NODE_LOST"
    assert shell.json("qm", "run", "in")["n_good"] == 1


SLEEPER = """
import os, pathlib, subprocess, sys
child = subprocess.Popen(["sleep", "300"])
home = pathlib.Path(sys.argv[1])
(home / f"part.{os.getpid()}").write_text(str(child.pid))
os.rename(home / f"part.{os.getpid()}", home / f"pid.{os.getpid()}")
child.wait()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGKILL"])
def test_a_stop_leaves_no_orphan_and_nothing_half_written(shell: Shell, how: str) -> None:
    (shell.folder / "job.py").write_text(SLEEPER)
    write_toy(shell)
    before = sorted(path.name for path in (shell.folder / "in").iterdir())
    running = shell.start("qm", "run", "in", "--jobs", "2")
    wait_for(lambda: len(list(shell.folder.glob("pid.*"))) == 2)
    pids = [int(path.read_text()) for path in shell.folder.glob("pid.*")]
    if how == "Ctrl-C":
        os.killpg(running.pid, signal.SIGINT)
    else:
        os.kill(running.pid, signal.SIGKILL if how == "SIGKILL" else signal.SIGTERM)
    out, err = running.communicate(timeout=60)
    if how != "SIGKILL":
        assert running.returncode == 130 and out == ""
        assert err == "in: stopped; the same command continues\n"
    wait_for(lambda: not any(alive(pid) for pid in pids))
    wait_for(lambda: sorted(path.name for path in (shell.folder / "in").iterdir()) == before)


def wait_for(condition, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_frames_that_only_charge_tells_apart_do_not_mix(shell: Shell) -> None:
    """`--force` with other frames of the same names: what was run before is not taken for theirs."""
    shell.here("qm", "write", "s", "--labeler", "tblite", "-o", "in")
    shell.here("qm", "run", "in")
    first = shell.json("qm", "read", "in", "-o", "a.npz")
    shell.here("qm", "write", "s", "--labeler", "tblite", "--charge", "2", "-o", "in", "--force")
    assert shell.json("qm", "read", "in", "-o", "b.npz", code=2)["n_labels"] == 0
    assert shell.json("qm", "run", "in")["n_good"] == 3
    shell.here("qm", "read", "in", "-o", "b.npz")
    one, two = (read_frames(shell.folder / name) for name in ("a.npz", "b.npz"))
    assert first["n_labels"] == 3 and not {i.frame.id for i in one} & {i.frame.id for i in two}
    assert {item.frame.charge for item in two} == {2}
    assert not np.isclose(one[0].label.energy, two[0].label.energy)


def test_frames_keep_what_their_file_says(shell: Shell) -> None:
    (shell.folder / "one.xyz").write_text("1\nsplit=val trajectory=md1\nHe 0 0 0\n")
    shell.here("qm", "write", "one.xyz", "--labeler", "tblite", "-o", "in")
    shell.here("qm", "run", "in")
    shell.here("qm", "read", "in", "-o", "data.npz")
    [item] = read_frames(shell.folder / "data.npz")
    assert (item.side, item.trajectory) == ("valid", "md1")
    assert item.frame.id == Frame(numbers=[2], positions=[[0, 0, 0]]).id

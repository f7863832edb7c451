"""Calculations under custodian: remedies, process groups, time limits, threads, disks."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from alfw.core.errors import ExecutableError, OutOfDiskError, WalltimeError
from alfw.core.records import Resources
from alfw.labelers._handlers import Ladder, printed
from alfw.labelers._run import run_child, run_here

LADDER = Ladder(
    "SCF_NOT_CONVERGED", printed("out.txt", "not converged"), ({"cycles": 2}, {"cycles": 3}, {"shift": 0.3})
)
# Grandchild in the background: what mpirun and shell scripts look like from outside.
SLEEPER = ["bash", "-c", "sleep 300 & echo $! > pid.part; mv pid.part pid; wait"]


def render(settings):
    return {"input.json": json.dumps(settings).encode()}


def program(text):
    return [sys.executable, "-c", f"import json; s = json.load(open('input.json')); {text}"]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def child(command, tmp_path, settings=None, ladders=(), outputs=("out.txt",), **resources):
    return run_child(command, render, outputs, settings or {}, ladders, tmp_path, Resources(**resources))


def test_the_first_remedy_that_helps_is_the_last_one_tried(tmp_path):
    text = "print('fine' if s['cycles'] == 3 else 'not converged', file=open('out.txt', 'w'))"
    run = child(program(text), tmp_path, {"cycles": 1}, [LADDER])
    assert run.files["out.txt"] == b"fine\n"
    assert run.corrections == [
        {"errors": ["SCF_NOT_CONVERGED"], "actions": [{"cycles": 2}]},
        {"errors": ["SCF_NOT_CONVERGED"], "actions": [{"cycles": 3}]},
    ]
    assert json.loads(run.files["input.json"]) == {"cycles": 3}
    assert list(tmp_path.iterdir()) == []


def test_every_remedy_is_run_and_then_the_ladder_ends(tmp_path):
    seen = []

    def compute(settings):
        seen.append(dict(settings))
        return {"out.txt": b"not converged"}

    run = run_here(compute, {"cycles": 1}, [LADDER], tmp_path)
    assert seen == [{"cycles": 1}, {"cycles": 2}, {"cycles": 3}, {"cycles": 3, "shift": 0.3}]
    assert [c["actions"] for c in run.corrections] == [
        [{"cycles": 2}],
        [{"cycles": 3}],
        [{"shift": 0.3}],
        None,
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["custodian.json"]


def test_a_calculation_that_needs_no_remedy_is_run_once_and_without_custodian(tmp_path):
    seen = []

    def compute(settings):
        seen.append(dict(settings))
        return {"out.txt": b"fine"}

    assert run_here(compute, {"cycles": 1}, [LADDER], tmp_path).corrections == []
    assert seen == [{"cycles": 1}]
    assert list(tmp_path.iterdir()) == []


def test_two_calculations_do_not_share_their_rungs(tmp_path):
    def compute(settings):
        return {"out.txt": b"fine" if settings["cycles"] > 1 else b"not converged"}

    first, second = (run_here(compute, {"cycles": 1}, [LADDER], tmp_path) for _ in range(2))
    assert first.corrections == second.corrections and len(first.corrections) == 1


def test_output_of_an_earlier_attempt_does_not_survive(tmp_path):
    text = "open('out.txt', 'w').write('not converged') if s['cycles'] == 1 else None"
    run = child(program(text), tmp_path, {"cycles": 1}, [LADDER])
    assert "out.txt" not in run.files and len(run.corrections) == 1


def test_a_crash_is_a_run_with_its_log_and_return_code(tmp_path):
    run = child(program("raise SystemExit('no licence today')"), tmp_path)
    assert run.files["returncode"] == b"1" and b"no licence today" in run.files["output.log"]


def test_threads_are_pinned(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    run = child(["sh", "-c", "env > out.txt"], tmp_path, threads=3)
    lines = run.files["out.txt"].decode().splitlines()
    assert {"OMP_NUM_THREADS=3", "MKL_NUM_THREADS=3", "OPENBLAS_NUM_THREADS=3"} <= set(lines)
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_the_time_limit_kills_grandchildren_too(tmp_path):
    with pytest.raises(WalltimeError, match=r"limit of 0\.5 s"):
        child(SLEEPER, tmp_path, walltime_s=0.5)
    (pid,) = tmp_path.glob("label-*/pid")  # the folder stays for a look at it
    wait_for(lambda: not alive(int(pid.read_text())))


def test_a_program_that_ends_in_time_is_not_stopped(tmp_path):
    run = child(program("open('out.txt', 'w').write('fine')"), tmp_path, walltime_s=60.0)
    assert run.files["out.txt"] == b"fine" and run.corrections == []


def test_sigterm_kills_the_process_group_and_says_so(tmp_path):
    script = f"""
from pathlib import Path
from alfw.core.errors import WalltimeError
from alfw.core.records import Resources
from alfw.labelers._run import run_child
try:
    run_child({SLEEPER!r}, lambda s: {{}}, ["pid"], {{}}, [], Path({str(tmp_path)!r}), Resources())
except WalltimeError as error:
    raise SystemExit(f"caught: {{error}}; left: {{error.partial.files['pid'].decode().strip()}}")
"""
    worker = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    wait_for(lambda: list(tmp_path.glob("label-*/pid")))
    (pid,) = tmp_path.glob("label-*/pid")
    grandchild = int(pid.read_text())
    assert alive(grandchild)
    worker.send_signal(signal.SIGTERM)
    _, stderr = worker.communicate(timeout=20)
    assert stderr.startswith(b"caught: SIGTERM")
    assert f"left: {grandchild}" in stderr.decode()
    wait_for(lambda: not alive(grandchild))


def test_the_callers_own_sigterm_handler_comes_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    child(["true"], tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_missing_program_is_the_workers_fault(tmp_path):
    with pytest.raises(ExecutableError, match="no-such-program"):
        child(["no-such-program"], tmp_path)


def test_scratch_is_used_and_left_clean(tmp_path):
    scratch, workdir = tmp_path / "scratch", tmp_path / "work"
    run = child(["sh", "-c", "pwd > out.txt"], workdir, scratch=scratch)
    assert run.files["out.txt"].decode().startswith(str(scratch))
    with pytest.raises(WalltimeError):
        child(["sleep", "60"], workdir, scratch=scratch, walltime_s=0.2)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below", "missing", "/proc/alfw"])
def test_a_scratch_folder_that_cannot_be_written_to_pauses(tmp_path, place):
    (tmp_path / "file").write_text("")
    if place == "missing":
        if os.geteuid() == 0:
            pytest.skip("nothing is forbidden to root")
        (tmp_path / "missing").mkdir(mode=0o500)
    with pytest.raises(ExecutableError, match="cannot write to .*; set `scratch`"):
        child(["true"], tmp_path, scratch=tmp_path / place)


def test_a_full_disk_is_the_workers_fault(tmp_path):
    def compute(settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutOfDiskError, match="No space left"):
        run_here(compute, {}, [], tmp_path)


def test_custodian_reports_nowhere_and_logs_nothing(tmp_path):
    code = f"""
from pathlib import Path
from alfw.labelers._handlers import Ladder, printed
from alfw.labelers._run import run_here
run_here(lambda s: {{"f": b"bad"}}, {{}}, [Ladder("E", printed("f", "bad"), ({{"a": 1}},))], Path({str(tmp_path)!r}))
"""
    # With a DSN custodian would import sentry_sdk at once, and connect.
    env = {**os.environ, "SENTRY_DSN": "https://key@localhost/1", "CUSTODIAN_REPORTING_OPT_IN": "true"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr == ""

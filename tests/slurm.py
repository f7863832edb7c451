"""A one-node SLURM for tests, with a configuration of its own: nothing of the machine's is touched."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = ("slurmctld", "slurmd", "sbatch", "squeue", "munged")
INSTALL = "apt-get install -y --no-install-recommends slurm-wlm munge"


def missing() -> str | None:
    """Why SLURM cannot run here, or None."""
    absent = [name for name in NEEDED if shutil.which(name) is None and not Path("/usr/sbin", name).exists()]
    if absent:
        return f"no {absent[0]}: {INSTALL}"
    return None if os.geteuid() == 0 else "starting SLURM's daemons needs root"


@contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which sbatch and squeue talk to this SLURM; its daemons end with the block."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    environment["PATH"] += ":/usr/sbin:/sbin"
    ports = _free_ports(2)
    daemons: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    try:
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        files = {
            "socket": "munge.socket",
            "pid-file": "munge.pid",
            "log-file": "munged.log",
            "seed-file": "seed",
        }
        options = [f"--{option}={folder / name}" for option, name in files.items()]
        # --force: the folder's parents may be writable by others, which munged would refuse.
        start("munged", "--foreground", "--force", f"--key-file={folder / 'munge.key'}", *options)
        (folder / "slurm.conf").write_text(_configuration(folder, ports, environment))
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        start("slurmctld", "-D")
        start("slurmd", "-D")
        _wait_idle(environment, folder)
        yield environment
    finally:
        subprocess.run(
            ["scancel", "-u", "root"], env=environment, capture_output=True, timeout=20, check=False
        )
        time.sleep(1.0)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _configuration(folder: Path, ports: list[int], environment: dict[str, str]) -> str:
    """slurm.conf: one node, this host's cores, no cgroups, no accounting."""
    host = socket.gethostname().split(".")[0]
    described = subprocess.run(["slurmd", "-C"], env=environment, capture_output=True, text=True, check=False)
    match = re.search(r"CPUs=.*", described.stdout)
    hardware = match[0].replace("Boards=1 ", "") if match else f"CPUs={os.cpu_count()}"
    return "\n".join(
        [
            "ClusterName=test",
            f"SlurmctldHost={host}(127.0.0.1)",
            "SlurmUser=root",
            "AuthType=auth/munge",
            f"AuthInfo=socket={folder / 'munge.socket'}",
            f"SlurmctldPort={ports[0]}",
            f"SlurmdPort={ports[1]}",
            f"StateSaveLocation={folder / 'state'}",
            f"SlurmdSpoolDir={folder / 'spool'}",
            f"SlurmctldPidFile={folder / 'slurmctld.pid'}",
            f"SlurmdPidFile={folder / 'slurmd.pid'}",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "SwitchType=switch/none",
            "MpiDefault=none",
            "JobAcctGatherType=jobacct_gather/none",
            "AccountingStorageType=accounting_storage/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core",
            "SchedulerType=sched/builtin",
            "SchedulerParameters=sched_interval=1,batch_sched_delay=0",
            "ReturnToService=2",
            "KillWait=5",
            "InactiveLimit=0",
            f"NodeName={host} NodeAddr=127.0.0.1 {hardware} State=UNKNOWN",
            f"PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP",
            "",
        ]
    )


def _wait_idle(environment: dict[str, str], folder: Path) -> None:
    for _ in range(100):
        done = subprocess.run(
            ["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True, check=False
        )
        if done.stdout.strip() in ("idle", "mix", "alloc"):
            return
        time.sleep(0.2)
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
    raise RuntimeError(f"SLURM does not come up: {done.stdout} {done.stderr}\n{logs}")


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports

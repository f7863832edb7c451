"""`launch_dft DIR [NPROC]`: VASP for each structure in a folder, with the INCAR, KPOINTS and POTCAR that lie here.

Jobs are in ``dft_runs/NAME``, results of those that ended well in ``data/dft_results`` as ``NAME_OUTCAR``,
``NAME_CONTCAR``, ``NAME_vasprun.xml`` and ``NAME_log``; what is there already is not computed again.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from argparse import Namespace
from pathlib import Path

from ase.data import chemical_symbols

from alfw.compat._shell import CHECK_FAILED, OK, Parser, leave, say, show, show_refused
from alfw.core.errors import BasisError, ConfigError, LabelError
from alfw.core.frame import Frame
from alfw.core.records import Resources
from alfw.core.registry import private
from alfw.io.files import write_file
from alfw.io.frames import read_frames
from alfw.labelers._exchange import structure_file
from alfw.labelers._judge import LOG
from alfw.labelers._output import step_of
from alfw.labelers.outputs import read_output, reader
from alfw.steps.qm_folder import Refused

INPUTS = ("INCAR", "KPOINTS", "POTCAR")
OUTPUTS = ("OUTCAR", "CONTCAR", "vasprun.xml")
RESULTS = {"OUTCAR": "OUTCAR", "CONTCAR": "CONTCAR", "vasprun.xml": "vasprun.xml", "vasp.out": "log"}
TITLE = re.compile(rb"^\s*TITEL\s*=\s*\S+\s+([A-Z][a-z]?)", re.MULTILINE)


def parser() -> Parser:
    """The flags."""
    parser = Parser("launch_dft", "VASP for each *.vasp and *.extxyz in a folder.")
    parser.add_argument("structures", type=Path, metavar="STRUCT_DIR")
    parser.add_argument("nproc", type=int, nargs="?", default=16, metavar="NPROC", help="MPI processes")
    parser.epilog = "VASP_COMMAND replaces `mpirun -np NPROC vasp_std`; {threads} in it stands for NPROC."
    return parser


def work(arguments: Namespace) -> int:
    """Run what has no good result; the exit code."""
    jobs = _structures(arguments.structures)
    inputs = {name: _input(name) for name in INPUTS}
    command = os.environ.get("VASP_COMMAND") or "mpirun -np {threads} vasp_std"
    command = command.replace("{threads}", str(arguments.nproc))
    refused: list[Refused] = []
    for number, (name, (frame, poscar)) in enumerate(jobs.items(), 1):
        try:
            files = {"POSCAR": poscar, **inputs, "POTCAR": potcar(inputs["POTCAR"], poscar)}
            if _is_done(name, frame, files):
                say(f"{number}/{len(jobs)} {name}: done before")
                continue
            say(f"{number}/{len(jobs)} {name}: {command}")
            _run(name, frame, files, shlex.split(command), arguments.nproc)
        except LabelError as error:
            if error.policy == "pause" and not isinstance(error, BasisError):
                raise
            refused.append(Refused.of(name, error))
    show(f"data/dft_results: {len(jobs) - len(refused)} of {len(jobs)} structures")
    show_refused(refused)
    return CHECK_FAILED if refused else OK


def _structures(folder: Path) -> dict[str, tuple[Frame, bytes]]:
    """Frames and POSCARs by name; a POSCAR of the user stays as it is."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    found: dict[str, tuple[Frame, bytes]] = {}
    for path in sorted(folder.glob("*.vasp")):
        found[path.stem] = (read_frames(path)[0].frame, path.read_bytes())
    for path in sorted(folder.glob("*.extxyz")):
        items = read_frames(path)
        for index, item in enumerate(items):
            name = f"{path.stem}_{index:04d}" if len(items) > 1 else path.stem
            if name not in found:  # the same structure in the other format
                found[name] = (item.frame, _poscar(path, item.frame))
    if not found:
        raise ConfigError(f"{folder}: no *.vasp or *.extxyz in it")
    return found


def _poscar(path: Path, frame: Frame) -> bytes:
    """POSCAR of a frame."""
    if not frame.pbc.all():
        raise ConfigError(f"{path}: not periodic; VASP needs a cell")
    return structure_file(frame, "POSCAR")


def _input(name: str) -> bytes:
    """An input file of the working folder, else of its templates."""
    for path in (Path(name), Path("templates") / name):
        if path.is_file():
            return path.read_bytes()
    raise ConfigError(f"no {name} here, and none in templates/: put it in {Path.cwd()}")


def potcar(datasets: bytes, poscar: bytes) -> bytes:
    """The datasets in the order of the POSCAR's species, whatever their own order; one for each block of atoms.

    Raises
    ------
    BasisError
        An element has none, or more than one.
    """
    species = poscar.splitlines()[5].decode(errors="replace").split() if poscar.count(b"\n") > 5 else []
    if not species or any(name not in chemical_symbols for name in species):
        raise ConfigError(f"POSCAR: line 6 has to name the elements, not {' '.join(species) or 'nothing'!r}")
    parts = re.split(rb"(?<=End of Dataset\n)", datasets)
    known: dict[str, list[bytes]] = {}
    for part in parts:
        title = TITLE.search(part)
        if title:
            known.setdefault(title[1].decode(), []).append(part)
    for name in dict.fromkeys(species):
        if len(known.get(name, [])) != 1:
            count = len(known.get(name, []))
            what = f"POTCAR: {count or 'no'} datasets of {name}; it has {', '.join(known) or 'none'}"
            raise BasisError(f"{what}; put one of each element into it", what)
    return b"".join(known[name][0] for name in species)


def _is_done(name: str, frame: Frame, files: dict[str, bytes]) -> bool:
    """Whether these inputs were run already, and well."""
    job = Path("dft_runs") / name
    if any(not (job / file).is_file() or (job / file).read_bytes() != data for file, data in files.items()):
        return False
    if not (Path("data/dft_results") / f"{name}_OUTCAR").is_file():
        return False
    try:
        step_of(frame, read_output(job, "vasp"))
    except LabelError:
        return False
    return True


def _run(name: str, frame: Frame, files: dict[str, bytes], command: list[str], nproc: int) -> None:
    """Run one job, keep all of it, and copy the results of a good one.

    Raises
    ------
    LabelError
        What is wrong with the output.
    """
    job, results = Path("dft_runs") / name, Path("data/dft_results")
    for file, short in RESULTS.items():  # nothing of an earlier attempt may pass for a result of this one
        (job / file).unlink(missing_ok=True)
        (results / f"{name}_{short}").unlink(missing_ok=True)
    for left_over in job.glob("label-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    engine = private("alfw.labelers._run", "vasp")
    run = engine.run_child(
        command, lambda _: files, OUTPUTS, {}, [], job, Resources(threads=nproc), threads=1
    )
    left = {name: data for name, data in run.files.items() if name in OUTPUTS} | {"vasp.out": run.files[LOG]}
    for file, data in {**files, **left}.items():
        write_file(job / file, data)
    step_of(frame, reader("vasp").output(run.files))
    for file, short in RESULTS.items():
        if file in left:
            write_file(results / f"{name}_{short}", left[file])


if __name__ == "__main__":
    leave(parser(), work)

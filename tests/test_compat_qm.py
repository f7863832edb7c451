"""The command lines of the two older systems, as their documents have them, typed in a shell."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from labelling import fixture
from shell import Shell

from alfw.core.errors import BasisError
from alfw.io.frames import read_frames
from alfw.labelers.outputs import read_output
from alfw.testing import FakeProgram, Replay, fake_program

ORCA, SI2 = "orca/orca6_dvb_gopt.out", "vasp/OUTCAR"
PREPARE = (
    "--xyz-dir ./qm_candidates --qm-software orca --method PBE0 --basis def2-TZVP --output ./orca_inputs"
)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """With two candidates, as active_learning_manager exports them, that ORCA's recorded output has results of."""
    (tmp_path / "recorded.out").write_bytes(fixture(ORCA))
    folder = tmp_path / "qm_candidates"
    folder.mkdir()
    for index, step in enumerate(read_output(tmp_path / "recorded.out").steps[:2]):
        ase.io.write(folder / f"structure_{index:04d}.xyz", Atoms(step.numbers, step.positions))
        (folder / f"structure_{index:04d}.json").write_text(json.dumps({"max_force": 6.0 + index}))
    return Shell(tmp_path)


# ------------------------------------------------------------------------------------------ PhysNet's document


def test_the_lines_of_the_document(shell: Shell) -> None:
    good = fixture(ORCA)
    program = fake_program(shell.folder, "orca", Replay(good), Replay(good[:-3000]))
    shell.path(shell.folder)
    typed = shell.compat("prepare_qm_inputs", *PREPARE.split())
    assert "orca_inputs: 2 inputs for orca" in typed.out
    names = {path.name for path in (shell.folder / "orca_inputs").iterdir()}
    assert names >= {f"structure_000{i}.{suffix}" for i in (0, 1) for suffix in ("inp", "json")}
    shell.bash("cd orca_inputs; for inp in *.inp; do orca $inp > ${inp%.inp}.out; done")
    assert program.starts == 2 and "! PBE0 def2-TZVP" in program.saw(0, "structure_0000.inp")
    line = "--orca-outputs ./orca_inputs/*.out --output ./qm_training_data.npz"
    typed = shell.bash(f"{sys.executable} -m alfw.compat.convert_qm_to_npz {line}", code=2)
    assert "E eV, F eV/Å, D and Dxyz e·Å, esp Hartree/e" in typed.out
    assert re.search(r"orca_inputs/structure_0001\.out: [A-Z_]+: ", typed.out)
    with np.load(shell.folder / "qm_training_data.npz") as data:
        assert {"R", "Z", "N", "E", "F", "id", "units"} <= set(data.files)
        assert data["E"].shape == (3,) and data["F"].shape == (3, 20, 3)
        assert json.loads(str(data["units"]))["esp"] == "Hartree/e"
        candidate = read_frames(shell.folder / "qm_candidates" / "structure_0000.xyz")[0].frame
        assert data["id"][0] == candidate.id
        assert data["E"][0] == pytest.approx(read_output(shell.folder / "recorded.out").steps[0].energy)


@pytest.mark.parametrize(
    ("software", "suffix", "words"),
    [
        ("orca", ".inp", "! PBE0 6-311G**"),
        ("gaussian", ".com", "PBE1PBE/6-311G**"),
        ("qchem", ".in", "6-311G**"),
        ("psi4", ".dat", "6-311G**"),
    ],
)
def test_every_program_has_its_suffix(shell: Shell, software: str, suffix: str, words: str) -> None:
    """`--basis 6-311G**` arrives as it was typed where no file matches."""
    flags = (
        f"--xyz-dir ./qm_candidates --qm-software {software} --method PBE0 --basis 6-311G** --output ./inputs"
    )
    shell.bash(f"{sys.executable} -m alfw.compat.prepare_qm_inputs {flags}")
    [first, second] = sorted((shell.folder / "inputs").glob(f"structure_*{suffix}"))
    assert words.lower() in first.read_text().lower()
    numbers = re.findall(r"-?\d+\.\d{8,}", second.read_text())
    wanted = ase.io.read(shell.folder / "qm_candidates" / "structure_0001.xyz").positions
    np.testing.assert_allclose(np.array(numbers, float)[-60:].reshape(20, 3), wanted, atol=1e-8)


@pytest.mark.slow
def test_the_potential_where_it_can_be_had(shell: Shell) -> None:
    def said(*flags: str) -> str:
        return shell.compat("prepare_qm_inputs", *PREPARE.split(), *flags, "--force").err

    def labeler() -> dict:
        return json.loads((shell.folder / "orca_inputs" / "qm.json").read_text())["labeler"]

    assert "note: these inputs give no ESP; --calc-esp does" in said()
    assert "ESP" not in said("--no-calc-esp", "--no-calc-dipole") and "esp" not in labeler()
    assert "next: alfw qm run ./orca_inputs" in said("--calc-esp", "--calc-dipole").replace(
        " orca", " ./orca"
    )
    assert labeler()["esp"] == {}
    gaussian = PREPARE.replace("orca ", "gaussian ").replace("orca_inputs", "gaussian_inputs")
    assert "nor can gaussian here" in shell.compat("prepare_qm_inputs", *gaussian.split(), "--calc-esp").err


def test_charge_and_multiplicity_are_checked(shell: Shell) -> None:
    typed = shell.compat("prepare_qm_inputs", *PREPARE.split(), "--charge", "1", code=2)
    assert typed.out.count("CHARGE_MULT") == 2 and not (shell.folder / "orca_inputs").exists()
    shell.compat("prepare_qm_inputs", *PREPARE.split(), "--charge", "1", "--multiplicity", "2")
    assert "* xyz 1 2" in (shell.folder / "orca_inputs" / "structure_0000.inp").read_text()


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("prepare_qm_inputs", "--xyz-dir s --qm-software molpro", "invalid choice: 'molpro'"),
        ("prepare_qm_inputs", "--qm-software orca", "--xyz-dir"),
        ("prepare_qm_inputs", "--xyz-dir nowhere --qm-software orca", "nowhere: no such file"),
        ("prepare_qm_inputs", "--xyz-dir qm_candidates --qm-software orca --method", "expected one argument"),
        ("convert_qm_to_npz", "--output a.npz", "one of --orca-outputs, --gaussian-outputs"),
        ("convert_qm_to_npz", "--orca-outputs recorded.out --output a.txt", "has to end in .npz"),
        ("convert_qm_to_npz", "--orca-outputs x/*.out --output a.npz", "x/*.out: no such file"),
        (
            "convert_qm_to_npz",
            "--orca-outputs recorded.out --gaussian-outputs b.log --output a.npz",
            "a data set is of one theory",
        ),
        ("launch_dft", "nowhere", "nowhere: no such folder"),
        ("launch_dft", "qm_candidates", "no *.vasp or *.extxyz"),
        ("launch_dft", "qm_candidates many", "invalid int value: 'many'"),
    ],
)
def test_mistakes_cost_one_line(shell: Shell, script: str, arguments: str, words: str) -> None:
    assert words in shell.compat(script, *arguments.split(), code=1).line


def test_nothing_is_overwritten(shell: Shell) -> None:
    shell.compat("prepare_qm_inputs", *PREPARE.split())
    other = PREPARE.replace("PBE0", "B3LYP").split()
    assert "other content" in shell.compat("prepare_qm_inputs", *other, code=1).line
    shell.compat("prepare_qm_inputs", *other, "--force")


# ------------------------------------------------------------------------------------------ Nequix's document

POTCAR = "".join(
    f" PAW_PBE {name} 05Jan2001\n   TITEL  = PAW_PBE {name} 05Jan2001\n data of {name}\n End of Dataset\n"
    for name in ("O", "Si", "Cu_pv")
)


@pytest.fixture
def dft(tmp_path: Path) -> tuple[Shell, FakeProgram]:
    """With two selected structures and an `mpirun`: the first one ends well, the second one does not."""
    (tmp_path / "OUTCAR").write_bytes(fixture(SI2))
    shell = Shell(tmp_path)
    step = read_output(tmp_path / "OUTCAR").steps[0]
    silicon = Atoms(step.numbers, step.positions, cell=step.cell, pbc=True)
    selected = tmp_path / "selected_structures"
    selected.mkdir()
    ase.io.write(selected / "frame_3.vasp", silicon, format="vasp")
    ase.io.write(selected / "frame_3.extxyz", silicon)
    silicon.positions[0, 0] += 0.01
    ase.io.write(selected / "frame_7.extxyz", silicon)
    for name, text in (("INCAR", "ENCUT = 520\n"), ("KPOINTS", "k\n0\nGamma\n4 4 4\n"), ("POTCAR", POTCAR)):
        (tmp_path / name).write_text(text)
    (tmp_path / "bin").mkdir()
    good = fixture(SI2)
    replays = (
        Replay(b" vasp.6.4.2 runs\n", {"OUTCAR": good, "CONTCAR": b"Si\n"}),
        Replay(b" vasp.6.4.2 runs\n", {"OUTCAR": good[: len(good) // 2]}),
    )
    program = fake_program(tmp_path / "bin", "mpirun", *replays)
    shell.path(tmp_path / "bin")
    return shell, program


def test_launch_dft(dft: tuple[Shell, FakeProgram]) -> None:
    shell, program = dft
    typed = shell.compat("launch_dft", "selected_structures/", code=2)
    assert "1 of 2 structures" in typed.out and re.search(r"frame_7: [A-Z_]+: ", typed.out)
    assert program.starts == 2 and program.saw(0, "argv") == "-np 16 vasp_std"
    assert program.saw(0, "POSCAR") == (shell.folder / "selected_structures" / "frame_3.vasp").read_text()
    assert program.saw(1, "POTCAR").count("TITEL") == 1 and "data of Si\n" in program.saw(1, "POTCAR")
    results = {path.name for path in (shell.folder / "data" / "dft_results").iterdir()}
    assert results == {"frame_3_OUTCAR", "frame_3_CONTCAR", "frame_3_log"}
    assert (shell.folder / "data" / "dft_results" / "frame_3_log").read_bytes() == b" vasp.6.4.2 runs\n"
    job = {path.name for path in (shell.folder / "dft_runs" / "frame_7").iterdir()}
    assert job == {"POSCAR", "INCAR", "KPOINTS", "POTCAR", "OUTCAR", "vasp.out"}
    report = shell.json("qm", "read", "data/dft_results", "-o", "data.extxyz")
    assert (report["n_outputs"], report["n_labels"]) == (1, 3)


@pytest.mark.slow
def test_launch_dft_goes_on_where_it_was(dft: tuple[Shell, FakeProgram]) -> None:
    shell, program = dft
    shell.compat("launch_dft", "selected_structures/", "4", code=2)
    assert program.saw(0, "argv") == "-np 4 vasp_std"
    shell.compat("launch_dft", "selected_structures/", code=2)
    assert program.starts == 3  # the good one is not run again
    (shell.folder / "INCAR").write_text("ENCUT = 400\n")
    shell.compat("launch_dft", "selected_structures/", code=2)
    assert program.starts == 5  # other inputs, other results: both now get the half of an OUTCAR
    assert list((shell.folder / "data" / "dft_results").iterdir()) == []


@pytest.mark.slow
def test_launch_dft_with_a_command_of_the_site_and_templates(dft: tuple[Shell, FakeProgram]) -> None:
    shell, program = dft
    (shell.folder / "templates").mkdir()
    for name in ("INCAR", "KPOINTS", "POTCAR"):
        (shell.folder / name).rename(shell.folder / "templates" / name)
    shell.env["VASP_COMMAND"] = "mpirun --bind-to core -np {threads} vasp_gam"
    shell.compat("launch_dft", "selected_structures", "8", code=2)
    assert program.saw(0, "argv") == "--bind-to core -np 8 vasp_gam"
    shell.env["VASP_COMMAND"] = "no_such_vasp"
    assert "cannot start 'no_such_vasp'" in shell.compat("launch_dft", "selected_structures", code=3).err
    (shell.folder / "templates" / "INCAR").unlink()
    assert "no INCAR here" in shell.compat("launch_dft", "selected_structures", code=1).line


def test_the_potcar_follows_the_poscar() -> None:
    from alfw.compat.launch_dft import potcar

    def poscar(line: str) -> bytes:
        return f"x\n1\n1 0 0\n0 1 0\n0 0 1\n{line}\n1 1\nDirect\n".encode()

    names = lambda text: re.findall(r"data of (\S+)", text.decode())  # noqa: E731
    assert names(potcar(POTCAR.encode(), poscar("Si O"))) == ["Si", "O"]
    assert names(potcar(POTCAR.encode(), poscar("O Si O"))) == ["O", "Si", "O"]
    assert names(potcar(POTCAR.encode(), poscar("Cu"))) == ["Cu_pv"]
    for line, words in (("C", "no datasets of C; it has O, Si, Cu"), ("Si", "2 datasets of Si")):
        datasets = POTCAR + (POTCAR if "2" in words else "")
        with pytest.raises(BasisError, match=words):
            potcar(datasets.encode(), poscar(line))


def test_launch_dft_wants_crystals(dft: tuple[Shell, FakeProgram]) -> None:
    shell, program = dft
    ase.io.write(shell.folder / "selected_structures" / "water.extxyz", molecule("H2O"))
    assert "water.extxyz: not periodic" in shell.compat("launch_dft", "selected_structures", code=1).line
    assert program.starts == 0

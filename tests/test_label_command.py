"""The labeler `command`: a script of the user, judged by what it leaves and by nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from labelling import fixture
from pydantic import ValidationError

from alfw.core.errors import (
    DataError,
    DeckError,
    DivergedError,
    ExecutableError,
    GeometryError,
    GradientMissingError,
    InputError,
    MissingOutputError,
    OutOfDiskError,
    StructureError,
    UnknownLabelError,
)
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Resources, Run
from alfw.io.frames import read_frames
from alfw.labelers.command import CommandLabeler

WATER = Frame.from_atoms(molecule("H2O"))
ION = Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]], charge=-1)
COPPER = Frame.from_atoms(bulk("Cu", cubic=True))
SLAB = Frame(numbers=[6, 6], positions=[[0, 0, 0], [1.42, 0, 0]], cell=np.eye(3) * 4, pbc=[True, True, False])

# What a user's script does, without a second of imports: E = sum of z, F = (0, 0, -1), in extended XYZ.
SCRIPT = """
import sys
lines = open("structure.extxyz").read().splitlines()
n = int(lines[0])
rows = [line.split()[:4] for line in lines[2:2 + n]]
energy = sum(float(row[3]) for row in rows)
head = lines[1].replace("pos:R:3", "pos:R:3:forces:R:3")
with open("result.extxyz", "w") as file:
    print(n, head + f" energy={energy!r} {' '.join(sys.argv[1:])}", sep="\\n", file=file)
    for row in rows:
        print(*row, 0.0, 0.0, -1.0, file=file)
"""


def script(tmp_path, text=SCRIPT, arguments="", **options):
    """A labeler whose script is in the campaign."""
    (tmp_path / "job.py").write_text(text)
    command = f"{sys.executable} job.py {arguments}"
    given = {"command": command, "name": "toy", "files": ["job.py"]} | options
    return CommandLabeler(**CommandLabeler.with_files(given, tmp_path))


def shell(text, **options):
    """A labeler that is a line of shell."""
    return CommandLabeler(**{"command": f"sh -c '{text}'", "name": "toy"} | options)


def test_a_script_labels_molecules_and_crystals(tmp_path):
    labeler = script(tmp_path)
    for frame in (WATER, COPPER):
        found = label(labeler, frame, tmp_path / "work", Resources())
        assert found.energy == pytest.approx(frame.positions[:, 2].sum(), abs=1e-12)
        np.testing.assert_array_equal(found.forces, [[0, 0, -1]] * len(frame))
        assert found.stress is None and found.dipole is None
    assert list((tmp_path / "work").iterdir()) == []


def test_stress_and_dipole_have_their_signs_and_periodicity(tmp_path):
    """ASE's sign of the stress is kept; a dipole is for neutral molecules."""
    stress = script(tmp_path, arguments='stress="1 0 0 0 2 0 0 0 3"'.replace('"', '\\"'))
    crystal = label(stress, COPPER, tmp_path, Resources())
    np.testing.assert_array_equal(crystal.stress, np.diag([1.0, 2.0, 3.0]))
    dipole = script(tmp_path, arguments='dipole=\\"0 0 0.5\\"', reads_charge=True)
    np.testing.assert_array_equal(label(dipole, WATER, tmp_path, Resources()).dipole, [0, 0, 0.5])
    assert label(dipole, COPPER, tmp_path, Resources()).dipole is None
    ion = label(
        dipole, Frame(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 1]], charge=-2), tmp_path, Resources()
    )
    assert ion.dipole is None  # nobody knows about which point


def test_the_free_energy_wins(tmp_path):
    labeler = script(tmp_path, arguments="free_energy=-7.5")
    assert label(labeler, WATER, tmp_path, Resources()).energy == -7.5


def test_the_theory_is_what_is_calculated_not_how(tmp_path):
    labeler = script(tmp_path)
    same = [
        labeler.model_copy(update={"command": "srun {threads} job"}),
        labeler.model_copy(update={"structure": "POSCAR", "result": "OUTCAR", "reads_charge": True}),
    ]
    other = [
        labeler.model_copy(update={"name": "toy2"}),
        labeler.model_copy(update={"version": "2"}),
        labeler.model_copy(update={"settings": {"cutoff_eV": 520}}),
        script(tmp_path, SCRIPT + "# other\n"),
    ]
    assert {each.theory().id for each in same} == {labeler.theory().id}
    assert len({each.theory().id for each in (labeler, *other)}) == 5


def test_files_are_read_in_once_or_refused(tmp_path):
    (tmp_path / "job.sh").write_text("true")
    options = CommandLabeler.with_files({"command": "x", "name": "y", "files": ["job.sh"]}, tmp_path)
    assert options["files"] == {"job.sh": "true"}
    assert CommandLabeler.with_files(options, Path("/nowhere")) == options
    with pytest.raises(DeckError, match=r"job\.sh was not read"):
        CommandLabeler(command="x", name="y", files=("job.sh",)).theory()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large").write_bytes(b"x" * 1_000_001)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "job.sh").touch()
    bad = {"gone": "No such file", "binary": "not a text", "large": "too many", "sub": "directory"}
    for name, words in bad.items():
        with pytest.raises(DataError, match=words):
            CommandLabeler.with_files({"files": [name]}, tmp_path)
    with pytest.raises(DataError, match=r"two of them are named job\.sh"):
        CommandLabeler.with_files({"files": ["job.sh", "sub/job.sh"]}, tmp_path)


@pytest.mark.parametrize("option", [{"structure": "a/b"}, {"result": "../x"}, {"name": ""}, {"keyword": 1}])
def test_wrong_options_are_refused(option):
    with pytest.raises(ValidationError):
        CommandLabeler(**{"command": "x", "name": "y"} | option)


def test_placeholders(tmp_path):
    text = 'echo "{threads} $OMP_NUM_THREADS {charge} {multiplicity}" > seen; exit 1'
    run = shell(text, result="seen").run(ION, tmp_path, Resources(threads=3))
    assert run.files["seen"] == b"3 3 -1 1\n"
    assert run.files["returncode"] == b"1"


def test_structure_formats_keep_the_digits(tmp_path):
    frame = COPPER.moved(COPPER.positions + 1e-6 * np.arange(12).reshape(4, 3))
    (tmp_path / "frame").mkdir()
    for name in ("structure.extxyz", "a.xyz", "POSCAR", "a.vasp", "a.traj", "a.cif"):
        labeler = CommandLabeler(command="x", name="y", structure=name)
        path = tmp_path / "frame" / name
        path.write_bytes(labeler.inputs(frame, Resources())[name])
        if name != "a.cif":
            assert read_frames(path)[0].frame.id == frame.id, name
    with pytest.raises(DeckError, match=r"cannot write 'a\.what'"):
        CommandLabeler(command="x", name="y", structure="a.what").inputs(frame, Resources())


# ----------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("labeler", "frame", "error"),
    [
        (shell("true"), ION, InputError),  # the charge would be ignored
        (
            shell("true", reads_charge=True),
            Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 1]]),
            InputError,
        ),
        (shell("true"), SLAB, InputError),
        (shell("true", structure="POSCAR"), WATER, InputError),
        (shell("true"), Frame(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 0.1]]), GeometryError),
    ],
)
def test_frames_that_cannot_be_done_start_nothing(tmp_path, labeler, frame, error):
    with pytest.raises(error):
        label(labeler, frame, tmp_path, Resources())
    assert list(tmp_path.iterdir()) == []


EXTXYZ = "3\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.0\n"
ROWS = [f"{s} {x} {y} {z} 0 0 1\n" for s, (x, y, z) in zip("OHH", WATER.positions, strict=True)]
GOOD = EXTXYZ + "".join(ROWS)
BAD = {
    "nothing": (None, MissingOutputError),
    "empty": ("", MissingOutputError),
    "blank": (" \n", MissingOutputError),
    "nonsense": ("hello\n", UnknownLabelError),
    "no forces": (GOOD.replace(":forces:R:3", ":other:R:3"), GradientMissingError),
    "no energy": (GOOD.replace(" energy=-1.0", ""), GradientMissingError),
    "energy not a number": (GOOD.replace("energy=-1.0", "energy=nan"), DivergedError),
    "force not a number": (GOOD.replace(" 0 0 1\n", " 0 nan 1\n", 1), DivergedError),
    "absurd force": (GOOD.replace(" 0 0 1\n", " 0 1e7 1\n", 1), DivergedError),
    "truncated": (GOOD[:-30], UnknownLabelError),
    "one atom less": (EXTXYZ.replace("3\n", "2\n", 1) + "".join(ROWS[:2]), StructureError),
    "another order": (EXTXYZ + ROWS[1] + ROWS[0] + ROWS[2], StructureError),
    "another element": (GOOD.replace("O ", "S ", 1), StructureError),
    "one flipped digit": (GOOD.replace("0.763239", "0.763939", 1), StructureError),
    "in a cell": (GOOD.replace("energy", 'pbc="T T T" Lattice="9 0 0 0 9 0 0 0 9" energy'), None),
}


@pytest.mark.parametrize("case", BAD)
def test_a_result_is_judged(tmp_path, case):
    text, error = BAD[case]
    run = Run({} if text is None else {"result.extxyz": text.encode()})
    labeler = shell("true")
    if error is None:  # molecules may be calculated in a box
        assert labeler.parse(WATER, run).energy == -1.0
        return
    with pytest.raises(error) as caught:
        labeler.parse(WATER, run)
    assert type(caught.value) is error and "\n" not in str(caught.value) and "/tmp" not in str(caught.value)


def test_the_good_result_of_these_is_good():
    """Or the cases above would prove nothing."""
    assert shell("true").parse(WATER, Run({"result.extxyz": GOOD.encode()})).energy == -1.0


def test_a_cut_result_is_never_a_label():
    for end in range(len(GOOD) - 3):  # the last digit of the last force does not show that it is the last
        with pytest.raises((MissingOutputError, UnknownLabelError, GradientMissingError, StructureError)):
            shell("true").parse(WATER, Run({"result.extxyz": GOOD[:end].encode()}))


def test_several_images_and_one_of_them_is_the_frame():
    other = GOOD.replace("0.763239", "0.9").replace("energy=-1.0", "energy=-9.0")
    run = Run({"result.extxyz": (other + GOOD + other).encode()})
    assert shell("true").parse(WATER, run).energy == -1.0


def test_the_exit_status_does_not_count(tmp_path):
    (tmp_path / "good").write_text(GOOD)
    found = label(shell(f"cp {tmp_path}/good result.extxyz; exit 9"), WATER, tmp_path / "w", Resources())
    assert found.energy == -1.0
    with pytest.raises(MissingOutputError, match="all is well"):
        label(shell("echo all is well; exit 0"), WATER, tmp_path / "w", Resources())


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("no_such_program_anywhere", ExecutableError, "no_such_program_anywhere"),
        ("echo write: No space left on device >&2; exit 1", OutOfDiskError, "No space left"),
    ],
)
def test_what_would_hit_every_frame_is_raised_at_once(tmp_path, text, error, words):
    with pytest.raises(error, match=words):
        shell(text).run(WATER, tmp_path, Resources())


def test_a_missing_command_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(ExecutableError, match="no_such_script.*PATH"):
        CommandLabeler(command="no_such_script x", name="y").run(WATER, tmp_path, Resources())


def test_the_log_need_not_be_text(tmp_path):
    with pytest.raises(MissingOutputError):
        label(shell('printf "\\377\\376 gone\\n"; exit 1'), WATER, tmp_path, Resources())


def test_the_output_of_a_known_program_is_judged_as_such(tmp_path):
    """An OUTCAR that did not converge is no label, though ASE would read it."""
    text = fixture("vasp/OUTCAR")
    labeler = shell("true", structure="POSCAR", result="OUTCAR")
    (tmp_path / "OUTCAR").write_bytes(text)
    first = read_frames(tmp_path / "OUTCAR")[0]
    found = labeler.parse(first.frame, Run({"OUTCAR": text}))
    assert first.label is not None and found.energy == pytest.approx(first.label.energy, abs=1e-6)
    with pytest.raises((UnknownLabelError, MissingOutputError, GradientMissingError, StructureError)):
        labeler.parse(first.frame, Run({"OUTCAR": text[: len(text) // 2]}))


def test_nothing_of_the_environment_is_left(tmp_path):
    before = dict(os.environ)
    label(script(tmp_path), WATER, tmp_path / "w", Resources(threads=2))
    assert dict(os.environ) == before

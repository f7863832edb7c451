"""What every file-based labeler shares: decks, the fit of an output to the frame, fake programs."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alfw.core.errors import DataError, DeckError, GradientMissingError, StructureError, UnknownLabelError
from alfw.core.frame import Frame
from alfw.core.records import Attempt, Resources
from alfw.labelers._deck import deck_hash, frame_variables, rendered, with_decks, worker_variables
from alfw.labelers._output import Output, Reader, Step, step_of
from alfw.testing import Replay, fake_program

RNG = np.random.default_rng(0)
MOLECULE = Frame(
    numbers=[8, 1, 1, 6],
    positions=[[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.4], [1.9, 0.2, 0.3]],
    charge=1,
    multiplicity=2,
)
FORCES = RNG.normal(size=(4, 3))


def step(frame, **changes):
    values = {
        "numbers": frame.numbers,
        "positions": frame.positions,
        "energy": -1.0,
        "forces": FORCES,
        "dipole": np.array([0.1, 0.2, -0.3]),
        "esp": np.array([0.5]),
        "esp_points": np.array([[3.0, 0.0, 0.0]]),
        "cell": frame.cell if frame.periodic else None,
    }
    return Step(**{**values, **changes})


def output(*steps, **more):
    return Output("x", "x 1", steps, **more)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_turned_molecule_is_turned_back_with_all_that_turns_with_it(seed):
    rng = np.random.default_rng(seed)
    turn, shift = Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3) * 5
    mine = step(MOLECULE)
    theirs = step(
        MOLECULE,
        positions=MOLECULE.positions @ turn.T + shift,
        forces=FORCES @ turn.T,
        dipole=mine.dipole @ turn.T + MOLECULE.charge * shift,
        esp_points=mine.esp_points @ turn.T + shift,
    )
    back = step_of(MOLECULE, output(theirs))
    for name in ("positions", "forces", "dipole", "esp_points"):
        np.testing.assert_allclose(getattr(back, name), getattr(mine, name), atol=1e-9, err_msg=name)


def test_what_lies_as_submitted_is_not_touched():
    assert step_of(MOLECULE, output(step(MOLECULE))).forces is FORCES


def test_the_step_of_the_submitted_geometry_is_taken_from_several():
    others = [step(MOLECULE, positions=MOLECULE.positions * scale, energy=scale) for scale in (0.9, 1.1)]
    assert step_of(MOLECULE, output(others[0], step(MOLECULE, energy=-7.0), others[1])).energy == -7.0


@pytest.mark.parametrize(
    "changes",
    [
        {"numbers": np.array([8, 1, 6, 1])},
        {"numbers": np.array([8, 1, 1, 7])},
        {"positions": MOLECULE.positions * [1, 1, -1]},  # a mirror image is another molecule
        {"positions": MOLECULE.positions + np.eye(4, 3) * 2e-4},
        {"positions": MOLECULE.positions[[0, 2, 1, 3]]},
    ],
    ids=["order of elements", "element", "mirrored", "moved", "order of atoms"],
)
def test_another_structure_is_refused(changes):
    with pytest.raises(StructureError):
        step_of(MOLECULE, output(step(MOLECULE, **changes)))


@pytest.mark.parametrize("printed", [{"charge": 0}, {"multiplicity": 1}])
def test_another_charge_or_multiplicity_is_refused(printed):
    with pytest.raises(StructureError, match=next(iter(printed))):
        step_of(MOLECULE, output(step(MOLECULE), **printed))


def test_crystals_match_modulo_lattice_vectors_and_in_their_cell_only():
    cell = np.array([[4.0, 0.1, 0], [0, 4.2, 0], [0.3, 0, 5.0]])
    crystal = Frame(numbers=[14, 14], positions=[[0.1, 0, 0], [2, 2, 2.5]], cell=cell, pbc=[True] * 3)
    forces = FORCES[:2]
    wrapped = step(crystal, positions=crystal.positions + cell[[0, 2]] * [[1], [-2]], forces=forces)
    np.testing.assert_array_equal(step_of(crystal, output(wrapped)).forces, forces)
    for changes in (
        {"cell": cell * 1.001},
        {"cell": None},
        {"positions": crystal.positions + [[0, 0, 0.01], [0, 0, 0]]},
    ):
        with pytest.raises(StructureError):
            step_of(crystal, output(step(crystal, forces=forces, **changes)))


def test_a_reader_that_stumbles_refuses():
    def stumbles(files):
        return int(files["nothing"])

    with pytest.raises(UnknownLabelError, match="KeyError"):
        Reader("x", "x", "out", stumbles).output({})
    with pytest.raises(GradientMissingError):
        Reader("x", "x", "out", lambda files: output()).output({})


DECK = """{# a comment #}! {{ method }}
{% block execution_memory %}
%maxcore {{ mem_MB }}
{% endblock %}
* xyz {{ charge }} {{ multiplicity }}
{{ geometry }}
*
"""


def variables(**more):
    worker = worker_variables(Resources(mem_GB=2, threads=3), Attempt())
    return {**frame_variables(MOLECULE), **worker, "method": "PBE0", **more}


def test_a_deck_gets_frame_and_worker_in_full_precision():
    text = rendered(DECK, variables()).decode()
    assert text.startswith("! PBE0\n%maxcore 2048\n* xyz 1 2\nO   0.0000000000  0.0000000000  0.1000000000\n")
    read = np.array([line.split()[1:] for line in text.splitlines()[3:7]], float)
    np.testing.assert_array_equal(read, MOLECULE.positions)


def test_an_unknown_variable_or_broken_template_is_refused_in_one_line():
    for text in ("{{ basis_set }}", "{% if %}"):
        with pytest.raises(DeckError, match="deck: ") as caught:
            rendered(text, variables())
        assert "\n" not in str(caught.value)


def test_resource_lines_and_comments_are_not_part_of_the_theory():
    same = (
        DECK.replace("%maxcore {{ mem_MB }}", "%pal nprocs {{ threads }}").replace("a comment", "another")
        + "\n\n"
    )
    assert deck_hash(same) == deck_hash(DECK)
    assert deck_hash(DECK.replace("! {{ method }}", "! {{ method }} TightSCF")) != deck_hash(DECK)


def test_a_folder_of_decks_is_read_in_once(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match="none of the templates"):
        with_decks({"decks": "mine"}, tmp_path, ["orca.inp.j2"])
    (tmp_path / "mine" / "orca.inp.j2").write_text(DECK)
    options = with_decks({"decks": "mine", "kind": "orca"}, tmp_path, ["orca.inp.j2"])
    assert options == {"decks": {"orca.inp.j2": DECK}, "kind": "orca"}
    assert with_decks(options, tmp_path, ["orca.inp.j2"]) == options
    with pytest.raises(DataError, match="no such folder"):
        with_decks({"decks": "absent"}, tmp_path, ["orca.inp.j2"])


def test_a_fake_program_replays_in_order_and_remembers_its_input(tmp_path):
    replays = Replay(b"bad", code=3), Replay(b"good", {"result": b"42"})
    program = fake_program(tmp_path, "orca", *replays)
    work = tmp_path / "work"
    work.mkdir()
    codes = []
    for text in ("one", "two", "three"):
        (work / "deck").write_text(text)
        done = subprocess.run([program.path, "deck"], cwd=work, capture_output=True)
        codes.append((done.returncode, done.stdout))
    assert codes == [(3, b"bad"), (0, b"good"), (0, b"good")]
    assert (work / "result").read_bytes() == b"42"
    assert program.starts == 3
    assert program.saw(1, "deck") == "two" and program.saw(0, "argv") == "deck"

"""Decks for pw.x: what stands in them, which frames and options are refused, and what makes another theory."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from pydantic import ValidationError

from alfw.core.errors import BasisError, ChargeError, DataError, ExecutableError, InputError
from alfw.core.frame import Frame
from alfw.core.records import Resources
from alfw.labelers.espresso import EspressoLabeler

A = 5.43
CELL = A / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
SI2 = Frame(numbers=[14, 14], positions=[[0, 0, 0], [A / 4] * 3], cell=CELL, pbc=[True] * 3)
IRON = Frame(numbers=[26, 26], positions=[[0, 0, 0], [1.4] * 3], cell=np.eye(3) * 2.8, pbc=[True] * 3)
OPTIONS = {
    "pseudopotentials": {"Si": "Si.UPF", "Fe": "Fe.UPF"},
    "ecutwfc_Ry": 30,
    "kpoints": {"grid": [2, 2, 2]},
}


def labeler(**options):
    return EspressoLabeler(**(OPTIONS | options))


def deck(frame=SI2, **options):
    return labeler(**options).inputs(frame, Resources())["espresso.pwi"].decode()


def test_the_deck():
    text = deck(
        keywords={"system": {"lspinorb": False, "nbnd": 12}, "control": {"title": "it's"}},
        dispersion="dft-d3",
    )
    for line in (
        "nbnd = 12",
        "lspinorb = .false.",
        "title = 'it''s'",
        "vdw_corr = 'dft-d3'",
        "tstress = .true.",
    ):
        assert f"  {line}\n" in text
    assert "occupations = 'fixed'" in text and "nspin" not in text and "max_seconds" not in text
    assert "K_POINTS automatic\n2 2 2 0 0 0\n" in text and "electron_maxstep = 100" in text
    rows = text.split("ATOMIC_POSITIONS angstrom\n")[1].splitlines()[:2]
    np.testing.assert_array_equal([[float(x) for x in row.split()[1:]] for row in rows], SI2.positions)


def test_k_points():
    assert "K_POINTS gamma" in deck(kpoints={"grid": [1, 1, 1]})
    assert "\n2 3 1 0 1 0\n" in deck(kpoints={"grid": [2, 3, 1], "shift": [0, 0.5, 0]})
    assert "\n2 3 1 1 0 0\n" in deck(kpoints={"grid": [2, 3, 1], "gamma": False})
    assert "\n5 5 5 0 0 0\n" in deck(kpoints={"spacing": 0.5})  # |b| = 2.0 / Å


def test_moments_make_species(tmp_path):
    (tmp_path / "Fe.UPF").write_text('<PP_HEADER z_valence="  8.000000E+00"/>')
    iron = {"pseudo_dir": str(tmp_path), "smearing": "gaussian", "degauss_Ry": 0.01}
    anti = Frame(IRON.numbers, IRON.positions, IRON.cell, IRON.pbc, moments=[2.0, -2.0])
    text = deck(anti, **iron)
    assert "nspin = 2" in text and "tot_magnetization" not in text
    assert "starting_magnetization(1) = 0.25\n" in text and "starting_magnetization(2) = -0.25\n" in text
    assert "\nFe 55.845 Fe.UPF\nFe1 55.845 Fe.UPF\n" in text and "\nFe1 1.4" in text
    assert "starting_magnetization(1) = 0.375" in deck(IRON, **iron, moments={"Fe": 3.0})
    triplet = Frame(SI2.numbers, SI2.positions, CELL, SI2.pbc, multiplicity=3)
    assert "nspin = 2\n  tot_magnetization = 2\n" in deck(triplet)
    eleven = Frame(
        [26] * 11, np.eye(11, 3) * 2 + np.arange(11)[:, None], np.eye(3) * 30, [True] * 3, moments=range(11)
    )
    with pytest.raises(InputError, match="fewer initial moments"):
        labeler(**iron).check(eleven)


def test_frames_that_cannot_be():
    ion = Frame(SI2.numbers, SI2.positions, CELL, SI2.pbc, charge=1)
    with pytest.raises(ChargeError):
        labeler().check(ion)
    labeler(smearing="gaussian", degauss_Ry=0.01).check(ion)  # a metal may have an odd number of electrons
    with pytest.raises(InputError, match="not periodic"):
        labeler().check(Frame(numbers=[14], positions=[[0, 0, 0]]))
    with pytest.raises(BasisError, match="no pseudopotential for Si"):
        labeler(pseudopotentials={"Fe": "Fe.UPF"}).check(SI2)


BAD_OPTIONS = [
    ({"kpoints": {"grid": [2, 2, 2], "shift": [0.25, 0, 0]}}, "0 and 0.5"),
    ({"smearing": "gaussian"}, "belong together"),
    ({"keywords": {"system": {"ECUTWFC": 10}}}, "ecutwfc is what other options are for"),
    ({"keywords": {"electrons": {"scf_must_converge": False}}}, "scf_must_converge"),
    ({"keywords": {"system": {"starting_magnetization(1)": 0.3}}}, "starting_magnetization"),
    ({"keywords": {"sytem": {}}}, "none of the namelists"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_wrong_options_are_found_when_they_are_read(options, message):
    with pytest.raises(ValidationError, match=message):
        labeler(**options)


def test_the_theory():
    same = [
        labeler(ecutwfc_Ry=30.0, kpoints={"grid": [2, 2, 2], "gamma": True}),
        labeler(command="srun pw.x", electron_maxstep=7, mixing_beta=0.2, pseudo_dir="/x"),
    ]
    other = [
        labeler(ecutrho_Ry=240),
        labeler(kpoints={"spacing": 0.3}),
        labeler(keywords={"system": {"nbnd": 12}}),
        labeler(smearing="gaussian", degauss_Ry=0.01),
        labeler(allow_theory_changes=True),
        labeler(version="7.2"),
        labeler(
            pseudopotentials=OPTIONS["pseudopotentials"] | {"Si": {"file": "Si.UPF", "sha256": "0" * 64}}
        ),
        labeler(decks={"espresso.pwi.j2": "&CONTROL /"}),
    ]
    assert {each.theory().id for each in same} == {labeler().theory().id}
    assert len({each.theory().id for each in [labeler(), *other]}) == len(other) + 1


def test_pseudopotentials_are_pinned_and_another_file_is_refused(tmp_path):
    file = tmp_path / "Si.UPF"
    file.write_bytes(b"one")
    options = OPTIONS | {"pseudopotentials": {"Si": "Si.UPF"}, "pseudo_dir": str(tmp_path)}
    found = EspressoLabeler.with_files(options, tmp_path)
    assert found["pseudopotentials"]["Si"]["sha256"] == hashlib.sha256(b"one").hexdigest()
    with pytest.raises(DataError, match="workers only"):
        EspressoLabeler.with_files(options | {"pseudo_dir": ">>pseudo<<"}, tmp_path)
    file.write_bytes(b"two")
    with pytest.raises(ExecutableError, match="bring that file here"):
        EspressoLabeler(**found).run(SI2, tmp_path, Resources())
    file.unlink()
    with pytest.raises(ExecutableError, match=r"cannot read .*Si\.UPF"):
        EspressoLabeler(**found).run(SI2, tmp_path, Resources())

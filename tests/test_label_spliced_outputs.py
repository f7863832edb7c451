"""Outputs of Gaussian and Q-Chem with lines lost or changed inside: what is still read of them is right, or nothing."""

from dataclasses import fields

import gaussian_outputs as made
import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from labelling import fixture

from alfw.core.errors import LabelError, UnknownLabelError
from alfw.core.frame import Frame
from alfw.labelers.outputs import reader
from alfw.labelers.readers._molecular import check_repulsion

RECORDED = {"gaussian": "gaussian/g16_dvb_gopt.out", "qchem": "qchem/qchem54_dvb_gopt.out"}
WATER = Frame.from_atoms(molecule("H2O"))
REPULSION = 9.088294  # Hartree, of water's nuclei in this geometry


def read(code, data):
    known = reader(code)
    return known.output({known.main: data}).steps


def same(one, other):
    """Whether two steps say the same, where both say something."""
    pairs = [(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)]
    return all(np.array_equal(a, b) for a, b in pairs if a is not None and b is not None)


@pytest.mark.parametrize("code", sorted(RECORDED))
@settings(max_examples=100, deadline=None)
@given(start=st.floats(0, 1), count=st.integers(1, 600))
def test_lost_lines_never_make_a_wrong_step(code, start, count):
    data = fixture(RECORDED[code])
    lines = data.splitlines(keepends=True)
    first = int(start * (len(lines) - count))
    try:
        found = read(code, b"".join(lines[:first] + lines[first + count :]))
    except LabelError:
        return
    right = read(code, data)
    assert all(any(same(step, each) for each in right) for step in found)


@pytest.mark.parametrize("code", sorted(RECORDED))
def test_an_scf_of_another_geometry_is_refused(code):
    """From within one step on, up to the same place of the next one: a geometry with the forces of the next."""
    start = {"gaussian": b" nuclear repulsion energy", "qchem": b" Nuclear Repulsion Energy"}[code]
    pieces = fixture(RECORDED[code]).split(start)
    assert len(pieces) > 5
    for i in range(1, 5):
        with pytest.raises(UnknownLabelError):
            read(code, start.join(pieces[:i] + pieces[i + 1 :]))


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (" (Enter /opt/g16/l301.exe)\n", " Leave Link  502 at Wed Apr  4 10:18:49 2018, MaxMem= 52428800\n"),
        ("", " Step number   2 out of a maximum of  104\n"),
        (" Step number   1 out of a maximum of  104\n", " Step number   3 out of a maximum of  104\n"),
    ],
)
def test_a_gaussian_job_with_a_gap_is_refused(before, line):
    with pytest.raises(UnknownLabelError, match="lines are missing before") as caught:
        read("gaussian", made.log(WATER, before, line))
    assert caught.value.signature == line.strip()


def test_a_restarted_optimisation_goes_on_counting():
    steps = " Step number  69 out of a maximum of   84\n Step number  70 out of a maximum of   84\n"
    step = made.step(WATER, -2069.0, 0.8 * (WATER.positions - WATER.positions.mean(0)))
    data = made.log(WATER, step, steps, route="#P PBE1PBE/def2SVP Opt=Restart")
    assert len(read("gaussian", data)) == 1
    with pytest.raises(UnknownLabelError, match="lines are missing"):
        read("gaussian", data.replace(b"=Restart", b"        "))


CHANGED = [
    ("gaussian", b"E(RB3LYP) =  -382.294279146", b"E(RB3LYP) =  -382.294379146"),
    ("gaussian", b"energy       455.3072", b"energy       455.3082"),
    ("gaussian", b"     2  C   -0.073040", b"     1  C   -0.073040"),
    ("qchem", b"Energy is   -382.300362083", b"Energy is   -382.300462083"),
    ("qchem", b"=         450.0061", b"=         450.0071"),
    ("qchem", b"=         450.0061", b"=         450.0051"),
    ("qchem", b"Cycle:   2", b"Cycle:   3"),
    ("qchem", b"      2 C                    -0.079244", b"      1 C                    -0.079244"),
]


@pytest.mark.parametrize(("code", "right", "wrong"), CHANGED)
def test_numbers_that_contradict_each_other_are_refused(code, right, wrong):
    data = fixture(RECORDED[code])
    assert data.count(right) == 1
    with pytest.raises(UnknownLabelError):
        read(code, data.replace(right, wrong))


def test_the_repulsion_of_the_nuclei_is_that_of_the_coordinates():
    def check(printed, electrons=10, **more):
        check_repulsion(WATER.numbers, WATER.positions, electrons, printed, **more)

    check(REPULSION)
    check(REPULSION - 0.01, dispersion_eV=0.3)  # which lowers what Q-Chem prints
    check(1.0, electrons=8)  # effective core potentials: charges of the nuclei are not known
    for printed, more in (
        (REPULSION - 0.01, {}),
        (REPULSION + 0.01, {"dispersion_eV": 0.3}),
        (8.9, {"dispersion_eV": 0.3}),
    ):
        with pytest.raises(UnknownLabelError, match="coordinates are not those"):
            check(printed, **more)

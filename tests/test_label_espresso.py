"""Outputs of pw.x: what is a label, and what is which failure."""

from __future__ import annotations

import re

import pytest
from espresso_outputs import BOHR, CELL, DIAMOND, RY, broken, good
from labelling import cuts, fixture

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GeometryError,
    GradientMissingError,
    LabelError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    StructureError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.core.frame import Frame
from alfw.core.records import Run
from alfw.core.registry import plugin_class
from alfw.labelers.espresso import EspressoLabeler
from alfw.labelers.readers.espresso import READER

OPTIONS = {
    "pseudopotentials": {"Si": "Si.UPF", "Fe": "Fe.UPF"},
    "ecutwfc_Ry": 30,
    "kpoints": {"grid": [2, 2, 2]},
}


def labeler(**options):
    return EspressoLabeler(**(OPTIONS | options))


def verdict(data, **files):
    return READER.output({"output.log": data, **files})


def test_the_entry_point_knows_the_kind():
    assert plugin_class("alfw.labelers", "espresso") is EspressoLabeler


RECORDED = [
    ("default.out", GradientMissingError, "!    total energy              =     -22.65170508 Ry"),
    (
        "failed_scf_not_converged.out",
        NotConvergedError,
        "convergence NOT achieved after   2 iterations: stopping",
    ),
    ("failed_out_of_walltime.out", WalltimeError, "Maximum CPU time exceeded"),
]


@pytest.mark.parametrize(("name", "error", "signature"), RECORDED)
def test_recorded_failures(name, error, signature):
    with pytest.raises(error) as caught:
        verdict(fixture(f"espresso/{name}"))
    assert type(caught.value) is error and caught.value.signature == signature


def test_a_whole_output():
    label = labeler().parse(DIAMOND, Run({"output.log": good()}))
    assert label.energy == pytest.approx(-22.65170508 * RY) and label.version == "pw.x 6.6"
    assert label.forces[0, 0] == pytest.approx(0.06653207 * RY / BOHR)
    assert label.stress[1, 2] == pytest.approx(0.00034343 * RY / BOHR**3)
    found = verdict(good())
    assert found.theory == "PBE, 30/240 Ry" and (found.charge, found.multiplicity) == (0, None)


def test_a_cut_off_output_is_never_a_label():
    for part in cuts(good()):
        with pytest.raises(LabelError):
            verdict(part)


@pytest.mark.parametrize(("old", "new"), [("0.3535534", "0.3545534"), ("Si  tau", "S   tau")])
def test_another_structure_is_refused(old, new):
    data = good().replace(old.encode(), new.encode())
    with pytest.raises((StructureError, UnknownLabelError)):
        labeler().parse(DIAMOND, Run({"output.log": data}))


def test_another_cell_charge_or_order_is_refused():
    cell = Frame(DIAMOND.numbers, DIAMOND.positions, CELL * 1.001, DIAMOND.pbc)
    charged = Frame(DIAMOND.numbers, DIAMOND.positions, CELL, DIAMOND.pbc, charge=2)
    moved = Frame(DIAMOND.numbers, DIAMOND.positions[::-1] + [0, 0, 0.01], CELL, DIAMOND.pbc)
    for frame in (cell, charged, moved):
        with pytest.raises(StructureError):
            labeler().parse(frame, Run({"output.log": good()}))


def swapped(old, new, count=1):
    text = good().decode()
    assert len(re.findall(old, text)) >= 1
    return re.sub(old, new, text, count=count).encode()


WRONG = [
    # scf_must_converge = .false.: pw.x calls the last iteration converged, whatever its accuracy
    (r"(!    total.*\n     estimated scf accuracy    < ).*", r"\1      0.00008848 Ry", NotConvergedError),
    (r"     convergence has been achieved.*", "", GradientMissingError),
    (r"\n     atom    2 type  1   force.*", "", GradientMissingError),
    (r"0.06653207   -0.00641749", "      NaN          NaN", UnknownLabelError),
    (
        r"   0.00033572   0.00008406   0.00003979  ",
        " ************************************** ",
        UnknownLabelError,
    ),
    (r"          total   stress", "          the     stress", GradientMissingError),
    (r"(!    total.*)", r"\1\n!    Total+Makov-Payne energy  =     -22.6 Ry", UnknownLabelError),
    (r"   JOB DONE\.", "", MissingOutputError),
    (r"( +Program PWSCF.*)", r"\1\n\1", UnknownLabelError),
]


@pytest.mark.parametrize(("old", "new", "error"), WRONG)
def test_what_only_looks_good_is_refused(old, new, error):
    with pytest.raises(error):
        verdict(swapped(old, new))


def test_hybrids_have_the_energy_of_the_outer_loop():
    inner = "\n     EXX: now go back to refine exchange calculation\n"
    outer = "\n!!   total energy              =     -23.00000000 Ry\n\n     EXX self-consistency reached\n"
    end = r"(     convergence has been achieved.*\n)"
    [step] = verdict(swapped(end, r"\1" + inner + outer)).steps
    assert step.energy == pytest.approx(-23.0 * RY) and step.stress is None  # pw.x's is no derivative of it
    with pytest.raises(GradientMissingError):
        verdict(swapped(end, r"\1" + inner))
    with pytest.raises(NotConvergedError, match="EXX"):
        verdict(swapped(end, r"\1" + inner + "\n     Calculation (EXX) stopped after iteration #    10\n"))


def test_a_banner_between_percent_signs_is_no_error():
    bar = "     %" + "-" * 70 + "%\n"
    banner = bar + "     % You are using vdW-DF                    %\n" + bar.replace("-", "%")
    assert len(verdict(swapped(r"(\n     bravais-lattice)", f"\n{banner}" + r"\1")).steps) == 1


ERRORS = [
    ("charge is wrong", "electrons", NotConvergedError),
    ("problems computing cholesky", "cdiaghg", NotConvergedError),
    ("S matrix not positive definite", "rdiaghg", NotConvergedError),
    ("too many bands are not converged", "c_bands", NotConvergedError),
    ("charge is wrong: smearing is needed", "electrons", ChargeError),
    ("file ./Xx.UPF not found", "readpp", BasisError),
    ('bad line in namelist &system: "nonsense"', " read_namelists", DeckError),
    ("NOSUCH: unrecognized dft", "set_dft_from_name", DeckError),
    ("too few bands", "setup", DeckError),
    ("atoms #   1 and #   2 overlap!", "check_atoms", GeometryError),
    ("cannot allocate 3 GB", "allocate_fft", OutOfMemoryLabelError),
    ("some new trouble", "frobnicate", UnknownLabelError),
]


@pytest.mark.parametrize(("line", "routine", "error"), ERRORS)
def test_errors_of_pw_x(line, routine, error):
    with pytest.raises(error) as caught:
        verdict(broken(line, routine))
    assert (
        type(caught.value) is error
        and caught.value.signature == line
        and routine.strip() in str(caught.value)
    )


ENDINGS = [
    (b"", b"1", MissingOutputError),
    (b"\xff\xfe\x00garbage\xff", b"0", MissingOutputError),
    (b"     Program PWSCF v.7.2 starts\n", b"-9", OutOfMemoryLabelError),
    (b"     Program PWSCF v.7.2 starts\n", b"-11", MissingOutputError),
    (b"Program PWSCF v.7.2\nforrtl: No space left on device\n", b"1", OutOfDiskError),
    (b"slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 1 DUE TO TIME LIMIT ***\n", b"-15", WalltimeError),
    (b"mpirun noticed that process rank 3 exited on signal 7\n", b"1", MPIAbortError),
    (b"pw.x: error while loading shared libraries: libmkl.so\n", b"127", ExecutableError),
]


@pytest.mark.parametrize(("log", "code", "error"), ENDINGS)
def test_runs_that_were_broken_off(log, code, error):
    with pytest.raises(error) as caught:
        verdict(log, returncode=code)
    assert type(caught.value) is error

"""The labelers' contract: theories, checks, remedies on real programs, and the right error for every bad end."""

import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk, molecule
from pydantic import ValidationError

from alfw.core.errors import (
    DivergedError,
    ExecutableError,
    GeometryError,
    InputError,
    MissingOutputError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Resources, Run
from alfw.core.registry import plugin_class
from alfw.labelers.ase import ASELabeler
from alfw.labelers.pyscf import PySCFLabeler
from alfw.labelers.tblite import TBLiteLabeler

WATER = Frame.from_atoms(molecule("H2O"))
RADICAL = Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]])
COPPER = Frame.from_atoms(bulk("Cu", cubic=True))
SLAB = Frame(numbers=[6, 6], positions=[[0, 0, 0], [1.42, 0, 0]], cell=np.eye(3) * 4, pbc=[True, True, False])
XTB = TBLiteLabeler()
HF = PySCFLabeler(method="HF", basis="STO-3G")
EMT = ASELabeler(calculator="ase.calculators.emt:EMT")
GOOD = {
    "energy_hartree": -74.9,
    "gradient_hartree_per_bohr": [[0.0, 0.0, 0.1]] * 3,
    "dipole_e_bohr": [0.0, 0.0, 0.6],
}


def result(**changes):
    return Run({"result.json": json.dumps(GOOD | changes).encode()}, host="node7")


def failed(kind, message):
    return Run({"result.json": json.dumps({"error": {"type": kind, "message": message}}).encode()})


def pyscf(**options):
    return PySCFLabeler(**({"method": "HF", "basis": "STO-3G"} | options))


@pytest.mark.parametrize("labeler", [XTB, HF, EMT])
def test_the_entry_point_knows_the_kind(labeler):
    assert plugin_class("alfw.labelers", labeler.kind) is type(labeler)


def test_importing_labelers_imports_no_program():
    code = (
        "import sys, alfw.labelers.ase, alfw.labelers.pyscf, alfw.labelers.tblite;"
        "sys.exit(str({'pyscf', 'tblite', 'custodian', 'jax', 'torch'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


SAME = [
    (pyscf(), pyscf(method="hf", basis="sto-3g")),
    (pyscf(), pyscf(max_cycle=7, level_shift=0.2, command="srun python")),
    (pyscf(), pyscf(grid_level=5)),  # Hartree-Fock has no grid
    (TBLiteLabeler(), TBLiteLabeler(max_iterations=3)),
    (EMT, ASELabeler(calculator=EMT.calculator, execution_kwargs={"device": "cuda"}, reads_charge=True)),
]
DIFFERENT = [
    (pyscf(), pyscf(basis="def2-SVP")),
    (pyscf(), pyscf(method="PBE0")),
    (pyscf(), pyscf(density_fit=True)),
    (pyscf(method="PBE0"), pyscf(method="PBE0", grid_level=5)),
    (pyscf(), pyscf(conv_tol=1e-7)),
    (TBLiteLabeler(), TBLiteLabeler(method="GFN1-xTB")),
    (TBLiteLabeler(), TBLiteLabeler(accuracy=0.1)),
    (TBLiteLabeler(), TBLiteLabeler(electronic_temperature_K=1000.0)),
    (EMT, ASELabeler(calculator=EMT.calculator, kwargs={"asap_cutoff": True})),
    (EMT, ASELabeler(calculator=EMT.calculator, name="EMT of 1996")),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_execution_does_not_change_the_theory(one, other):
    assert one.theory().id == other.theory().id


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_energy_surface_is_another_theory(one, other):
    assert one.theory().id != other.theory().id


@pytest.mark.parametrize("labeler", [XTB, HF, EMT])
def test_execution_only_fields_exist_and_stay_out_of_the_theory(labeler):
    assert labeler.execution_only <= set(type(labeler).model_fields)
    assert not labeler.execution_only & set(labeler.theory().settings)


@pytest.mark.parametrize(
    "options",
    [{"calculator": "EMT"}, {"calculator": "os:system('x')"}, {"calculator": "a.b:C", "unknown": 1}],
)
def test_a_calculator_is_named_as_module_and_callable(options):
    with pytest.raises(ValidationError):
        ASELabeler(**options)


BAD_FRAMES = [
    (XTB, RADICAL, "impossible with 9 electrons"),
    (HF, RADICAL, "impossible with 9 electrons"),
    (HF, Frame(numbers=[1], positions=np.zeros((1, 3)), charge=1), "too few"),
    (HF, Frame(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 1]], multiplicity=5), "too few"),
    (XTB, Frame(numbers=[92, 92], positions=[[0, 0, 0], [0, 0, 3]]), "no parameters for U"),
    (HF, COPPER, "is for molecules"),
    (XTB, SLAB, "partial_pbc: vacuum"),
    (EMT, Frame(numbers=[29], positions=np.zeros((1, 3)), charge=1), "reads_charge"),
]


@pytest.mark.parametrize(("labeler", "frame", "words"), BAD_FRAMES)
def test_impossible_frames_are_refused_before_any_calculation(labeler, frame, words, tmp_path):
    with pytest.raises(InputError, match=words) as caught:
        labeler.check(frame)
    assert len(str(caught.value).splitlines()) == 1 and frame.id[:12] in str(caught.value)
    run = labeler.run(frame, tmp_path, Resources())
    assert run.files == {}
    with pytest.raises(InputError, match=words):
        labeler.parse(frame, run)


@pytest.mark.parametrize("labeler", [XTB, HF, EMT])
def test_atoms_in_one_place_are_a_geometry_error(labeler, tmp_path):
    frame = Frame(numbers=[29, 29], positions=[[0, 0, 0], [0, 0, 0.04]])
    with pytest.raises(GeometryError, match=r"0\.040 Å apart"):
        label(labeler, frame, tmp_path, Resources())


def test_an_image_in_one_place_is_a_geometry_error(tmp_path):
    frame = Frame(numbers=[6, 6], positions=[[0.02, 1, 1], [3.98, 1, 1]], cell=np.eye(3) * 4, pbc=[True] * 3)
    with pytest.raises(GeometryError):
        label(XTB, frame, tmp_path, Resources())


REMEDIES = [
    pytest.param(TBLiteLabeler(accuracy=0.1), TBLiteLabeler(accuracy=0.1, max_iterations=3), id="tblite"),
    pytest.param(pyscf(), pyscf(max_cycle=2), id="hf"),
    pytest.param(pyscf(method="PBE0"), pyscf(method="PBE0", max_cycle=3), id="pbe0"),
]


@pytest.mark.parametrize(("easy", "hard"), REMEDIES)
def test_a_failed_scf_is_recovered_and_the_remedy_recorded(easy, hard, tmp_path):
    straight, recovered = (label(labeler, WATER, tmp_path, Resources()) for labeler in (easy, hard))
    assert straight.corrections == []
    assert [entry["errors"] for entry in recovered.corrections] == [["SCF_NOT_CONVERGED"]]
    assert recovered.corrections[0]["actions"]
    assert recovered.energy == pytest.approx(straight.energy, abs=1e-6)
    np.testing.assert_allclose(recovered.forces, straight.forces, atol=2e-4)


@pytest.mark.parametrize(("ladder", "steps"), [("PYSCF_SCF", 4), ("TBLITE_SCF", 4)], ids=["pyscf", "tblite"])
def test_every_remedy_leads_to_the_same_energy(ladder, steps, tmp_path):
    """Each rung by itself, so that none is a dead letter."""
    from alfw.labelers import _handlers, _tblite
    from alfw.labelers._run import run_child, run_here

    remedies = getattr(_handlers, ladder).steps
    assert len(remedies) == steps
    labeler = HF if ladder == "PYSCF_SCF" else XTB
    reference = label(labeler, WATER, tmp_path, Resources()).energy
    settings = labeler.model_dump(exclude={"kind", "command"})
    for step in remedies:
        settings |= step
        if labeler is XTB:
            run = run_here(lambda s: _tblite.compute(WATER, s), settings, [], tmp_path)
        else:
            spec = HF._geometry(WATER, Resources()) | settings | {"method": "hf"}
            command = [sys.executable, "-m", "alfw.labelers._pyscf_main"]
            render = lambda s: {"input.json": json.dumps(s).encode()}  # noqa: E731
            run = run_child(command, render, ["result.json"], spec, [], tmp_path, Resources())
        assert labeler.parse(WATER, run).energy == pytest.approx(reference, abs=1e-5), step


@pytest.mark.parametrize(
    "labeler", [TBLiteLabeler(accuracy=1e-12), pyscf(conv_tol=1e-30)], ids=["tblite", "pyscf"]
)
def test_a_hopeless_scf_ends_with_the_ladder(labeler, tmp_path):
    run = labeler.run(WATER, tmp_path, Resources())
    assert [entry["actions"] is None for entry in run.corrections] == [False] * 4 + [True]
    with pytest.raises(NotConvergedError, match="after 4 remedies") as caught:
        labeler.parse(WATER, run)
    assert "SCF not converged" in caught.value.signature and caught.value.policy == "final"


def test_an_element_that_a_calculator_lacks(tmp_path):
    with pytest.raises(InputError, match="No EMT-potential for Fe"):
        label(EMT, Frame.from_atoms(bulk("Fe")), tmp_path, Resources())


def test_missing_programs_pause(tmp_path, monkeypatch):
    # Python without site-packages: the child finds no package at all.
    bare = pyscf(command=f"{sys.executable} -S")
    for labeler in (
        bare,
        pyscf(command="/no/such/python"),
        ASELabeler(calculator="no_such_package.calculators:Calculator"),
        ASELabeler(calculator="ase.calculators.emt:NoSuchCalculator"),
        ASELabeler(calculator="ase.calculators.emt:parameters"),  # not callable
    ):
        with pytest.raises(ExecutableError) as caught:
            labeler.run(WATER, tmp_path, Resources())
        assert len(str(caught.value).splitlines()) == 1 and caught.value.policy == "pause"
    monkeypatch.delitem(sys.modules, "alfw.labelers._tblite", raising=False)
    monkeypatch.setitem(sys.modules, "tblite", None)  # as if it were not installed
    with pytest.raises(ExecutableError, match=r"alfw\[xtb\]"):
        XTB.run(WATER, tmp_path, Resources())


def test_missing_dispersion_pauses(tmp_path):
    from importlib.util import find_spec

    if find_spec("pyscf.dispersion"):
        pytest.skip("pyscf-dispersion is installed")
    with pytest.raises(ExecutableError, match="pip install pyscf-dispersion"):
        pyscf(method="pbe0-d4").run(WATER, tmp_path, Resources())


def test_a_full_disk_of_the_child_is_the_workers_fault(tmp_path):
    full = "sh -c " + shlex.quote("cat input.json > /dev/full")  # its own words for ENOSPC
    with pytest.raises(OutOfDiskError, match="No space left"):
        pyscf(command=full).run(WATER, tmp_path, Resources())


def test_the_time_limit_holds_for_pyscf(tmp_path):
    with pytest.raises(WalltimeError):
        HF.run(WATER, tmp_path, Resources(walltime_s=0.2))


BAD_RUNS = [
    (Run({}), MissingOutputError, "no output"),
    (Run({"result.json": b'{"energy_hartree": -74.9, "gradi'}), MissingOutputError, "no output"),
    (Run({"output.log": b"a\nSegmentation fault\n\n"}), MissingOutputError, "Segmentation fault"),
    (Run({"returncode": b"-9", "output.log": b"cycle= 7"}), OutOfMemoryLabelError, "killed by signal 9"),
    (Run({"returncode": b"-11"}), MissingOutputError, "killed by signal 11"),
    (Run({"output.log": b"MemoryError: no\nbye"}), OutOfMemoryLabelError, "MemoryError: no"),
    (failed("MemoryError", ""), OutOfMemoryLabelError, "MemoryError: "),
    (
        failed("RuntimeError", "Electron number 9 and spin 0 are not consistent\nNote"),
        InputError,
        "RuntimeError: Ele",
    ),
    (
        failed("ZeroDivisionError", "division by zero"),
        UnknownLabelError,
        "ZeroDivisionError: division by zero",
    ),
    (
        Run({"result.json": b'{"energy_hartree": -74.9}'}),
        MissingOutputError,
        "lacks gradient_hartree_per_bohr",
    ),
    (result(gradient_hartree_per_bohr=[[0.0, 0.0, 0.0]]), MissingOutputError, r"shape \(1, 3\)"),
    (result(energy_hartree=float("nan")), DivergedError, "energy is not finite"),
    (result(gradient_hartree_per_bohr=[[0.0, 0.0, float("inf")]] * 3), DivergedError, "forces is not finite"),
    (result(gradient_hartree_per_bohr=[[0.0, 0.0, 1e6]] * 3), DivergedError, "absurd"),
    (result(energy_hartree=-20006000.0), DivergedError, "absurd"),
]


@pytest.mark.parametrize(("run", "error", "words"), BAD_RUNS)
def test_every_bad_end_has_its_class_and_its_literal_line(run, error, words):
    with pytest.raises(error, match=words) as caught:
        HF.parse(WATER, run)
    assert type(caught.value) is error and WATER.id[:12] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_good_result_is_a_label_whatever_the_exit_code():
    run = Run({**result().files, "returncode": b"139"}, corrections=[{"errors": ["E"], "actions": ["A"]}])
    parsed = HF.parse(WATER, run)
    assert parsed.energy == pytest.approx(-74.9 * 27.211386245988)
    assert parsed.corrections == run.corrections


def test_numbers_survive_the_way_to_the_label_in_full(tmp_path):
    run = HF.run(WATER, tmp_path, Resources())
    raw = json.loads(run.files["result.json"])
    assert HF.parse(WATER, run).energy == raw["energy_hartree"] * 27.211386245988
    assert b"converged SCF energy" in run.files["output.log"]
    assert run.command.endswith("-m alfw.labelers._pyscf_main") and run.host and run.wall_s > 0

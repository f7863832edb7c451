"""The labeler for Psi4 without Psi4: decks, theories, and what is refused before anything runs."""

import numpy as np
import pytest
from pydantic import ValidationError

from alfw.core.errors import ChargeError, DataError, InputError
from alfw.core.frame import Frame
from alfw.core.records import Resources
from alfw.core.registry import plugin_class
from alfw.labelers.psi4 import Psi4Labeler

RADICAL = Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]])


def hf(**options):
    return Psi4Labeler(**({"method": "hf", "basis": "sto-3g"} | options))


def test_the_deck_for_a_radical():
    frame = Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]], charge=-2, multiplicity=2)
    labeler = hf(method="PBE0", keywords={"DFT_Spherical_Points": 590, "puream": True}, esp={})
    files = labeler.inputs(frame, Resources(threads=4, mem_GB=4))
    deck = files["psi4.in"].decode()
    for line in ("memory 3276 MB", "-2 2", "O   0.0000000000  0.0000000000  0.0000000000", "symmetry c1",
                 "no_reorient", "no_com", "units angstrom", "  reference uhf", "  dft_spherical_points 590",
                 "  puream true", 'gradient_, wfn = gradient("PBE0", dertype=1, return_wfn=True)'):  # fmt: skip
        assert f"{line}\n" in deck
    assert len(files["grid.dat"].decode().splitlines()) > 100 and "GRID_ESP" in deck


def test_execution_does_not_change_the_theory():
    same = [hf(), hf(method="HF", basis="STO-3G"), hf(max_iterations=7, command="srun psi4")]
    other = [
        hf(scf_type="pk"),
        hf(d_convergence=1e-9),
        hf(version="1.3"),
        hf(esp={}),
        hf(keywords={"puream": True}),
    ]
    assert len({labeler.theory().id for labeler in same}) == 1
    assert len({labeler.theory().id for labeler in [hf(), *other]}) == 6
    assert "esp" not in hf().theory().settings
    assert plugin_class("alfw.labelers", "psi4") is Psi4Labeler


@pytest.mark.parametrize(
    "options",
    [{"method": "hf/cc-pvdz"}, {"basis": "a b"}, {"keywords": {"maxiter": 3}}, {"keywords": {"perturb_h": True}},
     {"keywords": {"fail_on_maxiter": False}}, {"keywords": {"a b": 1}}, {"keywords": {"x": "1\n}"}}],
)  # fmt: skip
def test_options_that_would_spoil_the_deck_are_refused(options):
    with pytest.raises(ValidationError):
        hf(**options)


def test_frames_and_decks_that_cannot_be(tmp_path):
    with pytest.raises(ChargeError):
        hf().check(RADICAL)
    crystal = Frame(numbers=[29], positions=np.zeros((1, 3)), cell=np.eye(3) * 3, pbc=[True] * 3)
    with pytest.raises(InputError, match="for molecules"):
        hf().check(crystal)
    assert hf().run(RADICAL, tmp_path, Resources()).files == {}
    with pytest.raises(DataError):
        Psi4Labeler.with_files({"decks": "no-such-folder"}, tmp_path)

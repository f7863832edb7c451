"""A sampler that changes cells is refused, at add time, where the model or the labels have no stress."""

from __future__ import annotations

from typing import Any

import pytest
from test_config import RAW

from alfw.config import CampaignConfig
from alfw.core.errors import ConfigError
from alfw.core.protocols import NeedsStress
from alfw.core.registry import known, plugin_class
from alfw.samplers.jaxmd import JaxMDSampler

MD: dict[str, Any] = RAW["sample"][0]
NPT = MD | {"ensemble": "npt", "pressure_GPa": 0.0}
STRAIN = {"kind": "strain", "count": 3}
TBLITE = {"kind": "tblite", "method": "GFN1-xTB"}
CP2K = {
    "kind": "cp2k", "method": "PBE", "basis_set": "DZVP-MOLOPT-SR-GTH", "potential": "GTH-PBE", "cutoff_Ry": 400,
}  # fmt: skip


def campaign(
    sampler: dict[str, Any], label: dict[str, Any], model: dict[str, Any] | None = None
) -> CampaignConfig:
    return CampaignConfig(RAW | {"sample": [MD, sampler], "label": label, "model": model or RAW["model"]})


@pytest.mark.parametrize("sampler, key", [(NPT, "ensemble"), (STRAIN, "kind")])
def test_refused_in_one_line_that_starts_with_the_key(sampler: dict[str, Any], key: str) -> None:
    campaign(sampler, TBLITE)
    with pytest.raises(ConfigError, match=rf"^sample\.1\.{key}: .*label kind 'pyscf' gives none; .*$"):
        campaign(sampler, RAW["label"])
    with pytest.raises(ConfigError, match=rf"^sample\.1\.{key}: .*model kind 'physnet' has none.*$"):
        campaign(sampler, TBLITE, {"kind": "physnet"})
    campaign(sampler, CP2K)
    with pytest.raises(ConfigError, match=rf"^sample\.1\.{key}: .*'cp2k' with stress: false gives none; .*$"):
        campaign(sampler, CP2K | {"stress": False})


def test_other_ensembles_need_none() -> None:
    campaign(MD | {"ensemble": "nve"}, RAW["label"])
    assert isinstance(JaxMDSampler.model_validate(NPT), NeedsStress)
    assert not list(JaxMDSampler.model_validate(MD).stress_needs())


def test_every_labeler_says_whether_it_has_a_stress() -> None:
    without = {
        kind
        for kind in known("alfw.labelers")
        if not getattr(cls := plugin_class("alfw.labelers", kind), "has_stress", cls.periodic is not False)
    }
    assert without == {"gaussian", "nwchem", "orca", "psi4", "pyscf", "qchem", "xtb"}

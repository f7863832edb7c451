"""campaign.yaml as data: defaults, identity, differences, the worker's own values, the shipped templates."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from bson import decode, encode
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from alfw.cli.common import checked_campaign, read_campaign
from alfw.config import CampaignConfig
from alfw.core.errors import ConfigError

RAW: dict[str, Any] = {
    "schema_version": 1,
    "name": "water",
    "data": {"initial": [{"path": "/data/initial.extxyz", "theory": "ignore"}]},
    "model": {"kind": "nequix", "members": 2},
    "sample": [{"kind": "jaxmd", "temperatures_K": [300], "walkers": 1, "n_steps": 10, "keep_every": 5}],
    "select": {"kind": "random", "max_frames": 7},
    "label": {"kind": "pyscf", "method": "HF", "basis": "sto-3g", "command": ">>python<<"},
}
TEMPLATES = sorted(
    entry.name for entry in files("alfw.fw_templates").joinpath("campaigns").iterdir() if entry.is_dir()
)


def changed(path: str, value: Any) -> dict[str, Any]:
    """RAW with another value at a dotted path."""
    raw = copy.deepcopy(RAW)
    *parents, last = path.split(".")
    part: Any = raw
    for key in parents:
        part = part[int(key)] if isinstance(part, list) else part.setdefault(key, {})
    part[last] = value
    return raw


def test_defaults() -> None:
    config = CampaignConfig(RAW)
    assert (config.select.max_frames, config.select.audit_frames) == (7, 10)
    assert (config.label.frames_per_firework, config.label.max_tries) == (1, 3)
    assert (config.file.seed, config.file.system.charge, config.file.system.multiplicity) == (0, 0, 1)
    assert (config.file.stop.min_rounds, config.file.stop.max_rounds) == (1, 10)
    assert config.file.data.test is None
    categories = config.file.resources
    assert [
        s.category for s in (categories.control, categories.sample, categories.train, categories.label)
    ] == [
        "control",
        "md",
        "train",
        "qm",
    ]
    assert config.raw == RAW  # as the user wrote it: defaults of a later version do not change what is stored


def test_input_is_not_kept() -> None:
    raw = copy.deepcopy(RAW)
    config = CampaignConfig(raw)
    raw["model"]["members"] = 9
    assert config.raw == RAW


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 3),
        ("model.members", 3),
        ("model.training.steps", 7),
        ("sample.0.n_steps", 20),
        ("sample.0.temperatures_K", [400]),
        ("stop.max_rounds", 3),
        ("data.initial.0.theory", "same"),
    ],
)
def test_difference_names_the_key(path: str, value: Any) -> None:
    one, other = CampaignConfig(RAW), CampaignConfig(changed(path, value))
    found = one.difference(other)
    assert found == other.difference(one)
    assert found
    assert all(key.startswith(path) for key in found)
    assert one.id != other.id
    assert one.difference(CampaignConfig(RAW)) == []


def test_identity_is_stable() -> None:
    """The id of a stored campaign must not move with the version of alfw, nor with the order of keys."""
    reordered = dict(reversed(list(RAW.items())))
    assert CampaignConfig(reordered).id == CampaignConfig(RAW).id
    assert CampaignConfig(RAW).id == "dca855fcd8c271768a4c1d9a4e0021f1cca43f5033781a25605a9fbb89ccce3f"


values = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**63 - 1),
        "system": st.fixed_dictionaries({"charge": st.integers(-5, 5), "multiplicity": st.integers(1, 9)}),
        "stop": st.fixed_dictionaries(
            {"min_rounds": st.integers(0, 5), "max_rounds": st.integers(5, 50)},
            optional={
                "force_rmse_eV_per_A": st.floats(1e-6, 1e3),
                "max_labels": st.none() | st.integers(1, 10**6),
            },
        ),
        "train": st.fixed_dictionaries({"firework_per_member": st.booleans()}),
    },
)


@given(values)
def test_round_trips(options: dict[str, Any]) -> None:
    config = CampaignConfig({**RAW, **options})
    for copied in (json.loads(json.dumps(config.raw)), decode(encode(config.raw))):
        again = CampaignConfig(copied)
        assert again.raw == config.raw
        assert again.id == config.id
        assert again.difference(config) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_are_finite(number: float) -> None:
    with pytest.raises(ConfigError, match="^stop.force_rmse_eV_per_A: .*finite"):
        CampaignConfig(changed("stop.force_rmse_eV_per_A", number))


def test_worker_fills_in_its_own_values() -> None:
    config = CampaignConfig(RAW)
    assert config.plugins(None).labeler.command == ">>python<<"
    assert config.plugins({"python": "/opt/bin/python3"}).labeler.command == "/opt/bin/python3"
    theory = config.plugins(None).labeler.theory().id
    assert config.plugins({"python": "x"}).labeler.theory().id == theory


def test_value_inside_a_text() -> None:
    config = CampaignConfig(changed("label.command", "srun -n >>cores<< >>python<<"))
    assert config.plugins({"python": "py", "cores": 4}).labeler.command == "srun -n 4 py"


def test_missing_value_is_named() -> None:
    with pytest.raises(
        ConfigError, match="^>>python<<: the env of this worker's my_fworker.yaml has no 'python'$"
    ):
        CampaignConfig(RAW).plugins({"orca_cmd": "orca"})


@pytest.mark.parametrize("name", ["a1", "ethanol-pbe0", "x" * 60])
def test_names(name: str) -> None:
    assert CampaignConfig(changed("name", name)).name == name


@pytest.mark.parametrize(
    "name", ["", "a", "Ethanol", "1a", "a-", "a_b", "a b", "2026-11-20T12", "a.b", "ä1", "x" * 61, "a\n"]
)
def test_names_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="^name: must be"):
        CampaignConfig(changed("name", name))


def test_several_mistakes_in_one_line() -> None:
    raw = changed("seed", -1) | {"stop": {"max_rounds": 0}, "a": 1, "b": 2}
    with pytest.raises(ConfigError) as caught:
        CampaignConfig(raw)
    assert str(caught.value).count(";") >= 3
    assert "and 1 more" in str(caught.value)


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_are_valid(template: str, tmp_path: Path) -> None:
    """With its data, and as plain YAML that `lpad add` reads: one Firework that starts the campaign."""
    for entry in files("alfw.fw_templates").joinpath("campaigns", template).iterdir():
        (tmp_path / entry.name).write_bytes(entry.read_bytes())
    config, data = checked_campaign(tmp_path / "campaign.yaml")
    assert config.name == template
    assert {"train", "valid", "test"} == {entry.side for entry in data.entries}
    document = YAML(typ="safe", pure=True).load((tmp_path / "campaign.yaml").read_text())
    assert document["name"] == template
    assert document["spec"]["_category"] == "control"
    assert document["spec"]["_add_launchpad_and_fw_id"] is True


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in files("alfw.fw_templates").joinpath("campaigns", "copper").iterdir():
        (tmp_path / entry.name).write_bytes(entry.read_bytes())
    monkeypatch.chdir(Path(__file__).parent)
    config = read_campaign(tmp_path / "campaign.yaml")
    assert config.file.data.initial[0].path == str(tmp_path / "initial.extxyz")

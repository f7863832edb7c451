"""The cheap pre-screen before costly labels: what is unphysical to it is rejected, and others take the place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import campaigns
import pytest
import step_toys
from step_toys import SCRIPTS, WATER, Stages, kept, shaken

from alfw.cli.common import read_campaign
from alfw.config import CampaignConfig
from alfw.core.errors import ConfigError, DataError, ExecutableError, NotConvergedError
from alfw.labelers.tblite import TBLiteLabeler
from alfw.steps import prescreen, select
from alfw.steps.start import absolute_paths, read_data
from alfw.store import Store

TORN = [WATER.moved(factor * WATER.positions) for factor in (2.2, 2.5, 2.8)]  # far above in energy
SQUEEZED = [WATER.moved(factor * WATER.positions) for factor in (0.62, 0.66)]  # cheap forces beyond 30 eV/Å
CHEAP = {"kind": "tblite", "method": "GFN1-xTB"}


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    step_toys.register(monkeypatch)


def config(tmp_path: Path, **label_and_prescreen: Any) -> CampaignConfig:
    """A configuration with this pre-screen (and label section), not read from anywhere."""
    given = {"label": {"kind": "orca", "method": "PBE0", "basis": "def2-SVP"}, **label_and_prescreen}
    raw = {
        "schema_version": 1,
        "name": "toy",
        "data": {"initial": [{"path": "initial.extxyz", "theory": "ignore"}]},
        "model": {"kind": "toymodel"},
        "sample": [{"kind": "scripted"}],
        "select": {"kind": "environments", "prescreen": given["prescreen"]},
        "label": given["label"],
    }
    return CampaignConfig(raw)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"labeler": {"kind": "tblight"}},
            "select.prescreen.labeler.kind: unknown labeler 'tblight'; known: ",
        ),
        ({"labeler": {"method": "GFN2-xTB"}}, "select.prescreen.labeler.kind: missing; it names the plug-in"),
        ({"labeler": {**CHEAP, "methd": 1}}, "select.prescreen.labeler.methd"),
        ({}, "select.prescreen.labeler: missing"),
        ({"labeler": CHEAP, "oversample": 0.5}, "select.prescreen.oversample: "),
        ({"labeler": CHEAP, "max_forces": 3}, "select.prescreen.max_forces: unknown key"),
        ({"labeler": {"kind": "castep"}}, "select.prescreen.labeler"),
    ],
)
def test_a_wrong_pre_screen_is_refused_in_one_line(tmp_path: Path, wrong: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, prescreen=wrong)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_what_the_template_has_in_comments_is_valid(tmp_path: Path) -> None:
    template = campaigns.TEMPLATE.parent / "ethanol"
    text = re.sub(r"(?m)^    # ", "    ", (template / "campaign.yaml").read_text())
    (tmp_path / "campaign.yaml").write_text(text)
    settings = read_campaign(tmp_path / "campaign.yaml").select
    assert settings.budget_cpu_hours == 40.0
    assert settings.prescreen is not None and settings.prescreen.oversample == 1.5


def test_a_pre_screen_has_to_suit_the_labeler(tmp_path: Path) -> None:
    label = {"kind": "tblite"}
    with pytest.raises(ConfigError, match="it is the labeler of the campaign itself"):
        config(tmp_path, prescreen={"labeler": label}, label=label)
    orca = {"kind": "orca", "method": "PBE0", "basis": "def2-SVP"}
    castep = {
        "kind": "castep",
        "xc_functional": "PBE",
        "cut_off_energy_eV": 300,
        "kpoints": {"grid": [1, 1, 1]},
    }
    with pytest.raises(ConfigError, match="orca is for molecules, label.kind castep for periodic systems"):
        config(tmp_path, prescreen={"labeler": orca}, label=castep)


def test_initial_frames_that_it_cannot_label_are_found_when_the_campaign_is_added(tmp_path: Path) -> None:
    (tmp_path / "initial.extxyz").write_text("1\nProperties=species:S:1:pos:R:3\nFr 0 0 0\n")
    raw = config(tmp_path, prescreen={"labeler": CHEAP}, label={"kind": "springs"}).raw
    raw["system"] = {"charge": 1}
    with pytest.raises(DataError, match="frame 0.*GFN-xTB has no parameters for Fr"):
        read_data(CampaignConfig(absolute_paths(raw, tmp_path)))


def test_files_of_the_cheap_labeler_are_read_where_the_campaign_is_added(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^select\.prescreen\.labeler: .*mine: no such folder"):
        absolute_paths({"select": {"prescreen": {"labeler": {"kind": "orca", "decks": "mine"}}}}, tmp_path)


def test_unphysical_frames_are_rejected_and_others_take_their_place(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("tblite")
    SCRIPTS["pool"] = lambda starts: kept([*shaken(9, 2, size=0.06), *TORN, *SQUEEZED])
    options = {
        "physical": {"min_distance_fraction": None},
        "prescreen": {"labeler": CHEAP, "oversample": 2.0},
        "max_frames": 5,
    }
    stages = Stages(store, tmp_path, select=options)
    result = stages.select(1)
    rejected = result["metrics"]["rejected"]
    assert rejected["prescreen: energy"] == 3 and rejected["prescreen: force"] == 2
    chosen = {row["frame"] for row in stages.candidates(1)}
    assert len(chosen) == 5 and chosen.isdisjoint(frame.id for frame in TORN + SQUEEZED)
    theory = TBLiteLabeler(method="GFN1-xTB").theory().id
    assert not store.get_labels([*chosen, *(f.id for f in stages.initial)], theory), (
        "no label of the cheap one"
    )
    left = stages.ctx(1).get_json(result["outputs"]["prescreen"])
    assert len(left["energies"]) == 6, "of the labelled frames"
    assert select.run(stages.ctx(1)) == result


def test_cheap_energies_of_labelled_frames_are_computed_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tblite")
    counted: list[str] = []
    original = TBLiteLabeler.run

    def count(self: Any, frame: Any, *rest: Any) -> Any:
        counted.append(frame.id)
        return original(self, frame, *rest)

    monkeypatch.setattr(TBLiteLabeler, "run", count)
    pools = iter([shaken(9, 2, size=0.05), shaken(9, 3, size=0.05)])
    SCRIPTS["pool"] = lambda starts: kept(next(pools))
    stages = Stages(store, tmp_path, select={"prescreen": {"labeler": CHEAP}, "max_frames": 2})
    for number in (1, 2):
        stages.select(number)
        stages.finish(number)
    initial = {frame.id for frame in stages.initial}
    assert sum(frame in initial for frame in counted) == 6, "train and valid side, in the first round"
    assert len(counted) == 6 + 2 + 2 + 2, "the labels that came since are new"


def test_what_fails_is_rejected_and_a_missing_program_is_the_workers_trouble(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SCRIPTS["pool"] = lambda starts: kept(shaken(9, 2, size=0.05))
    stages = Stages(store, tmp_path, select={"prescreen": {"labeler": CHEAP}, "max_frames": 2})
    stages.explore(1)

    def missing(*arguments: Any) -> Any:
        raise ExecutableError("tblite is not installed")

    monkeypatch.setattr(prescreen, "label", missing)
    with pytest.raises(ExecutableError):
        select.run(stages.ctx(1))
    assert stages.ctx(1).store.get_result("toy", 1, "select") is None

    def diverges(*arguments: Any) -> Any:
        raise NotConvergedError("no")

    monkeypatch.setattr(prescreen, "label", diverges)
    result = select.run(stages.ctx(1))
    assert stages.candidates(1) == []
    assert result["metrics"]["rejected"]["prescreen: SCF_NOT_CONVERGED"] == 3
    assert result["metrics"]["notes"] == [
        "prescreen: 3 of 3 frames picked were rejected (SCF_NOT_CONVERGED 3)"
    ]

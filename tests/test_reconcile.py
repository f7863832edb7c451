"""One campaign that cannot be looked at keeps nobody from putting the others right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fireworks import Firework, FWorker
from fireworks.core.rocket_launcher import launch_rocket

from alfw.cli.common import read_campaign
from alfw.cli.folder import make_folder
from alfw.firetasks import StartCampaign
from alfw.store import Store
from alfw.workflow import control
from alfw.workflow.reconcile import MAX_LOST, reconcile


def test_trouble_with_one_campaign_stays_with_it(launchpad: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "work", "copper")
    config = read_campaign(tmp_path / "work" / "campaign.yaml")
    store = Store.from_launchpad(launchpad)
    store.ensure_indexes()
    elsewhere = {**config.raw, "name": "broken", "label": {"kind": "of-another-machine"}}
    store.insert_campaign("broken", elsewhere, "0" * 64, {})
    store.commit_result("broken", 0, "start", outputs={})  # started on a machine that has the plug-in
    control.start(launchpad, config, {}, lambda text: None)
    launchpad.workflows.delete_many({})  # as if `add_wf` had been killed between its two writes

    report = reconcile(launchpad, store, grace_s=0.0)

    assert len(report.trouble) == 1 and report.trouble[0].startswith("broken: label.kind: unknown labeler")
    assert report.opened == ["copper"] and report.orphans
    assert not report.nothing
    again = reconcile(launchpad, store, grace_s=0.0)
    assert again.nothing and again.trouble


def test_a_firework_that_loses_every_worker_is_left_for_its_user(launchpad: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "work", "copper")
    config = read_campaign(tmp_path / "work" / "campaign.yaml")
    store = Store.from_launchpad(launchpad)
    spec = {"_add_launchpad_and_fw_id": True}
    launchpad.add_wf(Firework([StartCampaign(campaign=config.raw)], spec=spec, name="copper"))
    for lost in range(1, MAX_LOST + 1):
        assert launchpad.fireworks.find_one()["state"] == "READY"
        launchpad.checkout_fw(FWorker(), str(tmp_path))  # a worker takes it and is never heard of again
        old = {"$set": {"state_history.$[].updated_on": "2020-01-01T00:00:00"}}
        launchpad.launches.update_many({"state": "RUNNING"}, old)
        assert reconcile(launchpad, store, expiration_s=60.0, grace_s=3600.0).lost == [1], lost

    assert launchpad.fireworks.find_one()["state"] == "FIZZLED"
    assert reconcile(launchpad, store, grace_s=3600.0).nothing
    launchpad.rerun_fw(1)  # what `alfw status` tells the user to do once it is mended
    assert (
        launch_rocket(launchpad, FWorker())
        and launchpad.fireworks.find_one({"fw_id": 1})["state"] == "COMPLETED"
    )

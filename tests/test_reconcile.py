"""One campaign that cannot be looked at keeps nobody from putting the others right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alfw.cli.common import read_campaign
from alfw.cli.folder import make_folder
from alfw.store import Store
from alfw.workflow import control
from alfw.workflow.reconcile import reconcile


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

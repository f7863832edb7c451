"""Verbs that look at campaigns and take things out: status, show, export."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from alfw.cli import output
from alfw.cli.campaign import Json, LaunchpadFile
from alfw.core.errors import ConfigError

WATCH_SECONDS = 2.0


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command(name="status")(status)
    app.command(name="show")(show)
    app.command(name="export")(export)


def status(
    name: Annotated[str | None, typer.Argument(help="Name of a campaign; all of them without.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every few seconds; Ctrl-C ends.")
    ] = False,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Rounds: pool, selected, labelled, failed, errors, cost; stop rules, and what is missing; what is stuck."""
    from alfw.cli.common import find_launchpad
    from alfw.cli.table import campaign_table

    pad, store = find_launchpad(launchpad)
    while True:
        summaries = _summaries(pad, store, name)
        if as_json:
            output.show_json(summaries[0] if name else summaries)
        else:
            if watch:
                output.out.clear()
            for summary in summaries:
                output.out.print(campaign_table(summary))
            if not summaries:
                output.show("no campaign yet: lpad add campaign.yaml, or alfw run campaign.yaml")
        if not watch:
            return
        time.sleep(WATCH_SECONDS)


def _summaries(pad: Any, store: Any, name: str | None) -> list[dict[str, Any]]:
    """What is known of this campaign, or of all, those included that no worker has begun to store."""
    from alfw.steps.summary import campaign_summary
    from alfw.workflow.control import fizzled, starting, waiting

    stored = [record["_id"] for record in store.list_campaigns()]
    added = starting(pad)
    summaries: list[dict[str, Any]] = []
    for each in [name] if name else dict.fromkeys([*stored, *added]):
        if each in added and each not in stored:
            nothing = dict.fromkeys(("stop_reason", "stop", "alarm", "costs"))
            nothing |= {"revision": 0, "failures": {}, "rounds": []}
            summaries.append({"campaign": each, "state": "added", **nothing, **added[each]})
            continue
        summary = campaign_summary(store, each)
        unstarted = [] if summary["rounds"] else added.get(each, {}).get("stuck", [])
        state = {"stuck": [*unstarted, *fizzled(pad, each)], "fireworks": waiting(pad, each)}
        summaries.append(summary | state)
    return summaries


def show(
    id: Annotated[
        str, typer.Argument(help="An id, or the beginning of one (6 characters or more).", metavar="ID")
    ],
    files: Annotated[
        Path | None,
        typer.Option("--files", help="Write the raw output of a run into this folder.", metavar="DIR"),
    ] = None,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """A record and where it comes from: frame, label, failure, run, dataset, ensemble, candidate, theory …"""
    from alfw.cli.common import find_launchpad
    from alfw.steps.provenance import records, write_output

    if len(id) < 6:
        raise ConfigError(f"{id}: give at least 6 characters of an id")
    _, store = find_launchpad(launchpad)
    if files is not None:
        written = [str(path) for path in write_output(store, id, files)]
        output.show_json({"files": written}) if as_json else output.show("\n".join(written))
        return
    found = records(store, id)
    if not found:
        raise ConfigError(f"{id}: no record with an id that begins so")
    if as_json:
        output.show_json(found)
        return
    for record in found:
        output.show(f"{record.pop('kind')} {record.pop('id')}")
        output.show_pairs(record, "  ")


def export(
    what: Annotated[str, typer.Argument(help="dataset, ensemble or candidates.", metavar="WHAT")],
    name: Annotated[str, typer.Argument(help="Name of the campaign.", metavar="NAME")],
    path: Annotated[
        Path,
        typer.Option("-o", "--output", help="File (.npz, .extxyz, .h5, .db), or the folder of an ensemble."),
    ],
    number: Annotated[
        int | None, typer.Option("--round", help="Of this round; the newest by default.")
    ] = None,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Take the dataset (.npz, .extxyz, .h5, .db), the ensemble (.nqx) or the candidates (.extxyz) out of a campaign."""
    from alfw.cli.common import find_launchpad
    from alfw.steps import export as take

    kinds: dict[str, Any] = {
        "dataset": take.dataset,
        "ensemble": take.ensemble,
        "candidates": take.candidates,
    }
    if what not in kinds:
        raise ConfigError(f"{what}: unknown; there are {', '.join(kinds)}")
    _, store = find_launchpad(launchpad)
    report = kinds[what](store, name, path, number)
    if as_json:
        output.show_json(report)
    else:
        output.show(", ".join(f"{key} {value}" for key, value in report.items()))

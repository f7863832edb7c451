"""`alfw status` and `alfw report` of campaigns in any state: what they say, and that they say it in numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import campaign_results
import pytest
from campaign_results import Round, told
from pymongo import MongoClient
from shell import Shell

from alfw.cli import output
from alfw.cli.table import campaign_table
from alfw.core.errors import ConfigError, StoreError
from alfw.steps.stop_report import campaign_report, save
from alfw.steps.summary import campaign_summary

STOP = {
    "min_rounds": 1,
    "max_rounds": 4,
    "force_rmse_eV_per_A": 0.02,
    "max_failures_per_ns": 2.0,
    "cpu_hours": 9,
}


def calibrated(inside: int, off: int = 0, alarm: str | None = None) -> dict[str, Any]:
    held = {"n_frames": 20, "n_inside": inside, "fraction": inside / 20, "off": off, "factor": 2.3}
    held |= {"interval_95": [0.6, 0.9], "interval_99": [0.5, 0.95], "width_over_error": 2.0}
    parts = {"strata": {"jaxmd 300 K": held}, "elements": {}}
    return {
        **{"promised": 0.9, "score": "largest |ΔF| … / force_std", "factor": 2.4, "n_calibration": 60},
        **{"checked": {**held, "n_calibration": 40, **parts}, "cumulative": held, "elements": {}},
        "test_regions": {"thermal": held},
        **{"alarm": alarm, "note": None, "n_not_finite": 0, "n_vanishing": 0},
    }


ROUNDS = [
    Round(error=0.10, labels=20),
    Round(error=0.06, labels=60, rejected={"duplicate": 7}, sampled=[(2, 900.0, True)]),
    Round(error=0.05, labels=100, calibration=calibrated(18), sampled=[(0, 900.0, True)]),
    Round(error=0.04, labels=140, calibration=calibrated(17), notes=["12 frames were <odd> & high"]),
    Round(
        error=0.035, labels=180, calibration=calibrated(9, -1, "too narrow, do this"), rejected={"known": 3}
    ),
]


VOID = ("meta", "br", "img")  # tags without an end


class Cells(HTMLParser):
    """The text of all cells, rows in order; well-formed tags are counted."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_the_page_argues_the_end_in_numbers(store, tmp_path):
    told(store, tmp_path, ROUNDS, stop=STOP)
    report = save(store, "copper", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    cells = Cells(page)
    assert cells.open == []
    rows = {row[0]: row for row in cells.rows}
    assert rows["max_rounds"][1:5] == ["budget", "4", "4", "yes"]
    assert rows["force_rmse_eV_per_A"][4] == "no"
    assert "both have to be below 0.02" in rows["force_rmse_eV_per_A"][5]
    assert "max_failures_per_ns" in rows and "cpu_hours" in rows
    assert rows["duplicate"] == ["duplicate", "7", "0", "0", "0", "7"]
    assert rows["known"][-1] == "3"
    assert rows["hot"][1] == "0.0525", "each region has its own curve"
    header = next(row for row in cells.rows if "sealed testforce RMSE eV/Å" in row)
    assert [name for name in header if name.startswith(("thermal", "hot"))] == ["thermaleV/Å", "hoteV/Å"]
    assert "Alarm: too narrow, do this." in page
    assert "&lt;odd&gt; &amp; high" in page and "<odd>" not in page
    assert page.count("data:image/png;base64,") == 4
    assert report["rejected"] == {"duplicate": 7, "known": 3}
    assert rows["thermal"][1:4] == ["20", "9", "0.45 too narrow"], "a region outside the law is marked"
    checked = [row for row in cells.rows if row[:2] == ["4", "2.30"]]
    assert checked[0][3:6] == ["20", "9", "0.45 too narrow"]


def test_markdown_and_json_say_the_same(store, tmp_path):
    told(store, tmp_path, ROUNDS, stop=STOP)
    report = save(store, "copper", tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == report
    assert report["format"] == "alfw campaign report 1"
    gain = report["stop"]["learning_curve"]["gain"]
    assert gain["low"] < gain["percent"] < gain["high"]
    save(store, "copper", tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text()
    assert "| max_rounds | budget | 4 | 4 | yes |" in text
    assert "12 frames were <odd> & high" in text, "text in Markdown is as it is"
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    with pytest.raises(ConfigError, match=r"\.html, \.md, \.json"):
        save(store, "copper", tmp_path / "r.pdf")
    with pytest.raises(StoreError, match="nothere"):
        save(store, "nothere", tmp_path / "r.md")


@pytest.mark.parametrize("state", ["nothing", "begun", "start done", "one round, running", "no audit"])
def test_a_campaign_in_any_state_has_a_report_and_a_status(store, tmp_path, state):
    config = campaign_results.begun(store, tmp_path, stop=STOP)
    if state == "begun":
        store.open_round("copper", 0, revision=1, claimed_by=None)
    if state == "start done":
        campaign_results.commit(store, config, 0, Round())
    if state in ("one round, running", "no audit"):
        campaign_results.decide.run(campaign_results.commit(store, config, 0, Round()))
        last = Round(error=None, audit=None) if state == "no audit" else Round()
        campaign_results.commit(store, config, 1, last)
    for suffix in (".html", ".md", ".json"):
        report = save(store, "copper", tmp_path / f"report{suffix}")
        assert (tmp_path / f"report{suffix}").stat().st_size > 500
    assert Cells((tmp_path / "report.html").read_text()).open == []
    assert (report["stop"] is not None) == (state in ("one round, running", "no audit"))
    with output.out.capture() as shown:
        output.out.print(campaign_table(campaign_summary(store, "copper") | {"stuck": [], "fireworks": {}}))
    assert "copper (running)" in shown.get()


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Commands in this process; FireWorks' LaunchPads never close their connections, a test does."""
    opened: list[MongoClient[Any]] = []

    def client(*args: Any, **kwargs: Any) -> MongoClient[Any]:
        opened.append(MongoClient(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr("fireworks.core.launchpad.MongoClient", client)
    yield Shell(tmp_path)
    for each in opened:
        each.close()


def test_status_says_which_rules_are_met_and_what_is_missing(
    launchpad, launchpad_file, store, tmp_path, shell
):
    told(store, tmp_path, ROUNDS, stop=STOP)
    here = ("-l", launchpad_file)
    text = shell.here("status", "copper", *here).out
    assert "stop rules after round 4" in text
    assert "met  max_rounds 4 (budget): round 4" in text
    assert "open force_rmse_eV_per_A 0.02 (quality): sealed test 0.0350" in text
    assert "predicted to gain" in text and "CPU-hours per label" in text
    assert "alarm: too narrow, do this" in text
    summary = shell.json("status", "copper", *here)
    assert {rule["rule"] for rule in summary["stop"]["rules"]} >= {"max_rounds", "cpu_hours", "min_rounds"}
    assert summary["costs"]["labels"]["n"] > 0 and summary["alarm"] == "too narrow, do this"
    assert summary["rounds"][1]["failures_per_ns"] == pytest.approx(2 / 0.9)
    assert "max_rounds 4 reached" in shell.here("report", "copper", *here, "-o", "r.html").out
    assert shell.json("report", "copper", *here, "-o", "r.md")["campaign"] == "copper"
    assert ".html, .md, .json" in shell.here("report", "copper", *here, "-o", "r.txt", code=1).line
    assert "nope" in shell.here("report", "nope", *here, "-o", "r.md", code=1).line


def test_totals_are_sums_of_rounds(store, tmp_path):
    told(store, tmp_path, ROUNDS, stop=STOP)
    report = campaign_report(store, "copper")
    shown = sum(sum(row["cpu_hours"].values()) for row in report["rounds"])
    assert report["costs"]["cpu_hours"] == pytest.approx(shown, abs=1e-4)
    assert sum(row["cpu_hours"] for row in report["costs"]["rounds"]) == pytest.approx(shown, abs=1e-4)

"""The report as a page: complete, by itself, with the pictures that there are numbers for; the command."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shell import Shell
from validation_toys import Charged, Wrong, crystal, in_regions, shaken, spread_of, untrained

from alfw.cli.app import _run
from alfw.cli.validate import repeated
from alfw.core.errors import DataError, PluginError
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.io.report import interval, number, render
from alfw.steps.validate import Validation, save_html, save_report, validate_potential

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a page has in it; tags that are not closed are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: dict[str, bytes] = {}
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        values = dict(attrs)
        self.links += [v for k, v in values.items() if k in ("src", "href") and not v.startswith("data:")]
        if tag == "img":
            self.pictures[values["alt"]] = base64.b64decode(values["src"].partition(",")[2])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def validation() -> Validation:
    """Four members on charged molecules and on others."""
    points = np.random.default_rng(0).normal(size=(40, 3))
    label: dict[str, Any] = {"dipole": np.ones(3), "esp": points[:, 0], "esp_points": points}
    water = [shaken("H2O", seed, **label) for seed in range(30)]
    methane = [shaken("CH4", seed) for seed in range(30)]
    potential = Charged(
        [*water, *methane], lambda item: np.array([1, 2, 3, 4.0]), spread_of(2.0, lambda item: 0.1)
    )
    return validate_potential(potential, in_regions(water=water, methane=methane), ["<model> & co"])


def page(validation: Validation, folder: Path) -> Page:
    """The page of this report."""
    save_html(folder / "report.html", validation)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(validation: Validation, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Its page."""
    return page(validation, tmp_path_factory.mktemp("page"))


def test_a_page_stands_by_itself_and_has_all_its_pictures(validation, whole):
    found = whole
    assert found.pictures.keys() == {
        *("energies", "forces", "elements", "dipole", "esp", "spread", "reliability")
    }
    assert found.links == []
    assert "<model> & co" in found.text  # escaped, else it would be a tag
    assert "water" in found.text and "methane" in found.text
    force = validation.report["regions"]["water"]["force_rmse_eV_per_A"]
    assert number(force) in found.text


def test_pictures_are_pictures_with_something_on_them(whole):
    image = pytest.importorskip("PIL.Image")
    for name, png in whole.pictures.items():
        pixels = np.asarray(image.open(io.BytesIO(png)).convert("RGB"))
        height, width = pixels.shape[:2]
        assert 300 < width < 2000 and 200 < height < 2000, name
        assert 0.01 < np.mean((pixels < 250).any(axis=2)) < 0.6, name


def test_one_member_gives_a_page_that_says_so(tmp_path):
    items = [shaken("H2O", seed) for seed in range(3)]
    alone = Wrong(items, lambda item: np.zeros(1), lambda item: np.zeros((1, 3, 3)))
    found = page(validate_potential(alone, in_regions(test=items)), tmp_path)
    assert "no spread: one member" in found.text
    assert found.pictures.keys() == {"energies", "forces", "elements"}


def test_nothing_finite_and_few_frames_still_give_a_page(tmp_path):
    items = [shaken("H2O", 0), crystal(0)]
    lost = Wrong(items, forces=lambda item: np.full((2, len(item.frame), 3), np.nan))
    found = page(validate_potential(lost, in_regions(test=items)), tmp_path)
    assert "2 predictions are not finite" in found.text
    assert "too few frames for this promise" in found.text
    assert "spread" not in found.pictures


def test_curves_relaxations_and_stability_have_their_sections(validation, tmp_path):
    fit = {"V0_A3_per_atom": 11.5, "B0_GPa": 130.0}
    energies = {"reference_eV_per_atom": [0.1, 0.0, 0.1], "model_eV_per_atom": [0.2, 0.0, None]}
    curve = {"formula": "Cu4", "volumes_A3_per_atom": [10.0, 11.0, 12.0], **energies}
    curve |= {"reference_fit": fit, "model_fit": fit, "difference": {"V0_percent": -0.3}}
    curve |= {"delta_meV_per_atom": 1.25, "problem": None}
    bad = {**curve, "problem": "model: the curve has no minimum", "delta_meV_per_atom": None}
    bad |= {"reference_fit": None, "model_fit": None, "difference": None}
    counts = {"n_relaxed": 1, "n_minima": 1, "n_converged": 1, "n_connectivity_changed": 0}
    row = {"formula": "Cu4", "index": 0, "n_steps": 3, "rmsd_A": 0.01, "problem": "not converged"}
    survival = {"time_ps": [0.1, 0.3], "survival": [0.5, 0.0], "lower": [0.1, None], "upper": [0.8, None]}
    warm = {"temperature_K": 300.0, "n_walkers": 2, "n_failed": 0, "causes": {}, "median_text": "> 1 ps"}
    warm |= {"median_interval_ps": [None, None], "failures_per_ns": 0.0, "failures_per_ns_upper": 9.0}
    warm |= {"survival": {key: [] for key in survival}}
    hot = {**warm, "temperature_K": 2000.0, "causes": {"force": 2}, "survival": survival}
    more = {
        "curves": {"structures": [curve, bad], "not_fitted": [{"formula": "Si2", "reason": "3 volumes"}]},
        "relaxations": {**counts, "structures": [row]},
        "stability": {
            "time_ps": 1.0,
            "engine": "ase",
            "driver": 0,
            "dt_fs": 0.5,
            "temperatures": [warm, hot],
        },
    }
    found = page(Validation({**validation.report, **more}, validation.predicted), tmp_path)
    assert {"curves", "survival"} <= found.pictures.keys()
    for text in ("no minimum", "Si2: 3 volumes", "not converged", "force 2", "> 1 ps", "1.25"):
        assert text in found.text


def test_without_matplotlib_it_is_said_what_to_install(validation, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "alfw.io._plots", raising=False)
    with pytest.raises(PluginError, match=r"needs the package 'matplotlib': pip install 'alfw\[report\]'"):
        save_html(tmp_path / "report.html", validation)
    assert list(tmp_path.iterdir()) == []


def test_numbers_as_people_write_them():
    values = [None, 0.0, 0.12345, 12345.6, 300.0, 7, 1.5e-7, 2.5e9, -0.5]
    written = ["–", "0.00", "0.123", "12346", "300", "7", "1.50e-07", "2.50e+09", "-0.500"]
    assert [number(value) for value in values] == written
    assert number(0.0123456, 3, 1000) == "12.3"
    assert [interval(b) for b in (None, [None, None], [1.0, None], [1.0, 2.5])] == [
        *("–", "–", "> 1.00", "1.00 – 2.50")
    ]


def test_a_template_that_asks_for_what_is_not_there_fails():
    with pytest.raises(Exception, match="has no attribute 'regions'"):
        render("validation.html", report={"models": []})


def test_options_take_several_words():
    words = [
        "m",
        "--testset",
        "a",
        "b=c",
        "--json",
        "--temperature",
        "300",
        "500",
        "-o",
        "x",
        "--testset=d",
        "e",
    ]
    assert repeated(words) == [
        *("m", "--testset", "a", "--testset", "b=c", "--json"),
        *("--temperature", "300", "--temperature", "500", "-o", "x", "--testset=d", "e"),
    ]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A folder with two members, and test sets."""
    folder = tmp_path_factory.mktemp("validate")
    untrained(folder / "model")
    items = [shaken("CH3CH2OH", seed) for seed in range(12)]
    for name, part in {"warm": items[:6], "hot": items[6:]}.items():
        write_extxyz(folder / f"{name}.extxyz", [Imported(item.frame, item.label) for item in part])
    copper = crystal(0)
    write_extxyz(folder / "copper.extxyz", [Imported(copper.frame, copper.label)])
    (folder / "bare.xyz").write_text("1\n\nH 0 0 0\n")
    return Shell(folder)


def test_the_command_writes_a_report_and_a_page(shell):
    words = ["model", "--testset", "cold=warm.extxyz", "hot=hot.extxyz", "-o", "r.json", "--html", "r.html"]
    said = shell.here("validate", *words)
    assert re.search(r"cold +6 .*\n hot +6 .*\n all +12 ", said.out)
    assert "energy from 'energy', forces from 'forces'" in said.err
    report = json.loads((shell.folder / "r.json").read_text())
    assert report["members"] == 2 and len(report["frames"]) == 12
    assert report["all"]["spread"]["forces"]["n_atoms"] == 108
    assert "spread" in Page((shell.folder / "r.html").read_text()).pictures


def test_the_command_in_scripts(shell):
    words = ("validate", "model/model_1.nqx", "--testset", "warm.extxyz")
    found = shell.json(*words, "--max-force-rmse", "0.01", "--require-spread", code=2)
    assert found["all"]["n_frames"] == 6 and "frames" not in found
    assert [line.split(":")[0] for line in found["missed"]] == ["test", "no spread"]
    assert shell.json(*words, "--max-force-rmse", "1e9")["missed"] == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nowhere", "--testset", "warm.extxyz"], "nowhere: no such file or folder"),
        (["model", "--testset", "bare.xyz"], "1 of 1 frames have no energy and forces"),
        (["model", "--testset", "a=nothing.extxyz"], "nothing.extxyz: no such file"),
        (["model", "--testset", "copper.extxyz"], "Cu"),
        (["model"], "Missing option '--testset'"),
        (["model", "--testset", "warm.extxyz", "-o", "model"], "model: cannot be written"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(shell, words, line):
    assert line in shell.here("validate", *words, code=1).line


def test_help_needs_no_model(capsys):
    assert _run(["validate", "--help"]) == 0
    assert "--max-force-rmse" in capsys.readouterr().out


def test_a_report_that_cannot_be_written_leaves_nothing(validation, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        save_report(tmp_path / "file" / "r.json", validation)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

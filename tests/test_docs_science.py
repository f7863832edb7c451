"""docs/science.md, taken at its word: its tables are the committed results, its pictures, options and links exist."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from alfw.config.sections import StopSection

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "science.md").read_text(encoding="utf-8")
sys.path.insert(0, str(ROOT / "benchmarks"))
import tables  # noqa: E402

FOUND = re.findall(r"<!-- table: (\w+) -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)


@pytest.mark.parametrize(("name", "text"), FOUND, ids=[name for name, _ in FOUND])
def test_every_table_is_what_was_measured(name: str, text: str) -> None:
    assert text == tables.SCIENCE[name](), f"{name}: python benchmarks/tables.py"


def test_every_result_has_its_table() -> None:
    measured = {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    assert {name for name, _ in FOUND} >= measured & set(tables.SCIENCE)


def test_links_and_pictures_exist() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


def test_every_stop_rule_is_on_the_page() -> None:
    assert set(StopSection.model_fields) - {"min_rounds"} <= set(re.findall(r"`(\w+)`", PAGE))

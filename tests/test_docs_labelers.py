"""docs/labelers.md, taken at its word: every labeler is in it, and every claim names a test that is there."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from alfw.core.errors import LabelError

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "labelers.md").read_text(encoding="utf-8")
OURS = {e.name: e.load() for e in entry_points(group="alfw.labelers") if e.value.startswith("alfw.")}
HOW = dict(re.findall(r"^\| `([a-z0-9]+)` \| (run here|replayed|deck only) \|", PAGE, re.MULTILINE))
CLAIMS = re.findall(r"^\| `([a-z0-9]+)` \| ([^|]+) \| ((?:`test_[^`]+`\s?)+)\|$", PAGE, re.MULTILINE)
RECOVERED = {
    row[0]: re.sub(r"\(.*?\)|none:.*|nothing.*", "", row[-1])
    for row in (re.split(r" *\| *", line.strip("| ")) for line in PAGE.splitlines() if line.startswith("| `"))
    if len(row) == 9
}


def subclasses(kind: type) -> set[type]:
    found = {kind}
    for child in kind.__subclasses__():
        found |= subclasses(child)
    return found


def test_every_labeler_is_in_the_table() -> None:
    assert set(HOW) == set(OURS)
    assert {kind for kind, _, _ in CLAIMS} == set(OURS)


@pytest.mark.parametrize("kind", sorted(OURS))
def test_every_claim_names_a_test_that_is_there(kind: str) -> None:
    named = [test for k, _, tests in CLAIMS for test in re.findall(r"`([^`]+)`", tests) if k == kind]
    for test in named:
        file, function = test.split("::")
        assert f"def {function}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test


@pytest.mark.parametrize("kind", sorted(OURS))
def test_every_recovery_is_claimed_by_a_test(kind: str) -> None:
    said = " ".join(claim for k, claim, _ in CLAIMS if k == kind)
    for failure in filter(None, re.split(r",\s*", RECOVERED[f"`{kind}`"].strip(" ,"))):
        assert failure.strip() in said, failure


def test_every_failure_class_is_in_the_table() -> None:
    classes = {c.failure_class for c in subclasses(LabelError) if c.__module__ == "alfw.core.errors"}
    assert classes <= set(re.findall(r"`([A-Z_]+)`", PAGE))


def test_links_exist() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link

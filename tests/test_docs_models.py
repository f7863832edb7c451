"""docs/models.md, taken at its word: its tables are the committed results, its kinds, verbs and links exist."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

from alfw.core.registry import known

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
sys.path.insert(0, str(ROOT / "benchmarks"))
import tables  # noqa: E402


def test_every_table_is_what_was_measured() -> None:
    found = re.findall(r"<!-- table: (\w+) -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert {name for name, _ in found} == set(tables.MODELS)
    for name, text in found:
        assert text == tables.MODELS[name](), f"{name}: python benchmarks/tables.py"


def test_every_kind_is_on_the_page() -> None:
    ours = {e.name for e in known("alfw.models").values() if e.value.startswith("alfw.")}
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == ours


@pytest.mark.parametrize(
    "script", ["trainer", "train_ensemble", "validate_models", "merge_datasets", "update_dataset"]
)
def test_scripts_of_the_seeds_are_there(script: str) -> None:
    assert f"`{script}`" in PAGE or f"alfw.compat.{script}`" in PAGE
    import_module(f"alfw.compat.{script}")


def test_options_on_the_page_exist() -> None:
    from typer.main import get_command

    from alfw.cli.app import app

    group = get_command(app)
    for line in re.findall(r"^alfw (.+?)(?:\s+#.*)?$", PAGE, re.MULTILINE):
        words, command = line.split(), group
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        options = {
            name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        assert {word for word in words if word.startswith("-")} <= options, line


def test_links_exist() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link

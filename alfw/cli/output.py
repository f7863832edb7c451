"""What every command prints: results on stdout, talk on stderr, errors in one line."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

OK, USER_ERROR, CHECK_FAILED, INFRASTRUCTURE = 0, 1, 2, 3

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line for the person who watches; never on stdout."""
    err.print(text, markup=False)


def show(text: str) -> None:
    """A line of the result."""
    out.print(text, markup=False)


def show_json(value: Any) -> None:
    """The result as JSON, alone on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def fail(message: str) -> None:
    """One line that says what is wrong."""
    err.print(f"alfw: {message}", markup=False)

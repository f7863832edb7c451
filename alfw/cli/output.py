"""What every command prints: results on stdout, talk on stderr, errors in one line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.status import Status

LONG = 200  # characters of a value shown to people; --json has all of it
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


def show_pairs(values: Mapping[str, Any], indent: str = "") -> None:
    """One line a value, those of a mapping below its name; what is None is left out, what is long is cut."""
    for key, value in values.items():
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for i, item in enumerate(value):
                show_pairs({f"{key}.{i}": item}, indent)
        elif isinstance(value, Mapping) and value:
            show(f"{indent}{key}:")
            show_pairs(value, indent + "  ")
        elif value is not None:
            text = str(value)
            show(f"{indent}{key}: {text if len(text) <= LONG else text[: LONG - 2] + ' …'}")


def fail(message: str) -> None:
    """One line that says what is wrong."""
    err.print(f"alfw: {message}", markup=False)


class _ToStatus(logging.Handler):
    """Shows the newest log line in a spinner."""

    def __init__(self, spinner: Status) -> None:
        super().__init__(logging.INFO)
        self._spinner = spinner

    def emit(self, record: logging.LogRecord) -> None:
        """Show this line instead of the one before."""
        self._spinner.update(record.getMessage())


@contextmanager
def live() -> Iterator[None]:
    """Show what the stages tell of their progress in one line of a terminal; elsewhere nothing."""
    logger = logging.getLogger("alfw")
    if not err.is_terminal:
        yield
        return
    with err.status("") as spinner:
        handler = _ToStatus(spinner)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)

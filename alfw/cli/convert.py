"""`alfw convert checkpoint`: weights from one format to another."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add these verbs to `alfw`."""

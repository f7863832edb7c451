"""`alfw train`: the members of an ensemble from files, without a database."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add these verbs to `alfw`."""

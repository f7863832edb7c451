"""`alfw validate`: how good a model is, from files, without a database."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add these verbs to `alfw`."""

"""`alfw qm`: reference calculations."""

from __future__ import annotations

import typer

from alfw.cli import retry

app = typer.Typer(no_args_is_help=True)
retry.register(app)

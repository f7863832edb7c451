"""`alfw qm`: reference calculations."""

from __future__ import annotations

import typer

from alfw.cli import qmfiles, retry

app = typer.Typer(no_args_is_help=True)
qmfiles.register(app)
retry.register(app)

"""What these commands print, and how they end: results on stdout, talk on stderr, errors in one line."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from alfw.core.errors import AlfwError, ExecutableError, LicenseError, OutOfDiskError

OK, USER_ERROR, CHECK_FAILED, INFRASTRUCTURE, INTERRUPTED = 0, 1, 2, 3, 130


class Parser(ArgumentParser):
    """Flags; a wrong one is told in one line."""

    def __init__(self, script: str, description: str) -> None:
        super().__init__(prog=f"python -m alfw.compat.{script}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Say it and leave."""
        say(f"{self.prog}: {' '.join(message.split())}; see --help")
        sys.exit(USER_ERROR)


def say(text: str) -> None:
    """One line for the person who watches."""
    sys.stderr.write(text + "\n")


def show(text: str) -> None:
    """One line of the result."""
    sys.stdout.write(text + "\n")


def show_refused(refused: Sequence[Any]) -> None:
    """One line for each frame or output without a label."""
    for each in refused:
        more = "" if each.signature in each.message else f" [{each.signature}]"
        show(f"  {each.name}: {each.failure_class}: {each.message}{more}")


def leave(parser: Parser, work: Callable[[Namespace], int]) -> NoReturn:
    """Do the work and leave with its exit code: 0, 1 (user error), 2 (a check failed) or 3 (infrastructure)."""
    arguments = parser.parse_args()
    try:
        sys.exit(work(arguments))
    except AlfwError as error:
        say(f"{parser.prog}: {' '.join(str(error).split())}")
        infrastructure = isinstance(error, (ExecutableError, LicenseError, OutOfDiskError))
        sys.exit(INFRASTRUCTURE if infrastructure else USER_ERROR)
    except KeyboardInterrupt:
        say(f"{parser.prog}: interrupted; the same command continues")
        sys.exit(INTERRUPTED)

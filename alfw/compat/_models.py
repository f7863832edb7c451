"""Flags that commands of the second seed share, and what `--models` may name.

Files, a folder, a comma list, a glob that the shell left as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from alfw.compat._shell import Parser
from alfw.core.errors import DataError
from alfw.models.ensemble import KINDS


def add_models(parser: Parser) -> None:
    """The flag ``--models``."""
    what = "files, a folder, a comma list or a glob; .nqx, .pt"
    parser.add_argument("--models", nargs="+", required=True, metavar="MODEL", help=what)


def add_state(parser: Parser) -> None:
    """The flags ``--charge`` and ``--multiplicity``."""
    parser.add_argument("--charge", type=int, default=0, help="of structures that do not say")
    parser.add_argument("--multiplicity", type=int, default=1, help="of structures that do not say")


def find_models(texts: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Folders and files of weights, each once, and one line for each name that stands for another.

    Where no ``.pt`` matches, ``.nqx`` of the same names are taken.

    Raises
    ------
    DataError
        A name matches nothing.
    """
    found: list[Path] = []
    notes: list[str] = []
    for text in texts:
        for name in [text] if Path(text).exists() else text.split(","):
            matches = _matching(name)
            if not matches and name.endswith(".pt"):
                other = name.removesuffix(".pt") + ".nqx"
                matches = _matching(other)
                if matches:
                    notes.append(f"no {name}: {other} is taken ({len(matches)})")
            if not matches:
                raise DataError(f"--models {name}: no such file or folder, and no weights match it")
            found += matches
    return list(dict.fromkeys(found)), notes


def _matching(name: str) -> list[Path]:
    """A file or folder of this name, or the files of weights that match a pattern."""
    path = Path(name).expanduser()
    if path.exists():
        return [path]
    return sorted(Path(match) for match in glob(str(path)) if Path(match).suffix in KINDS)

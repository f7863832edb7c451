"""Decks: input files as Jinja templates, shipped in ``fw_templates/qm`` or brought by the user.

What stands in blocks named ``execution…`` (memory, processes, remedies of the SCF) is not part of the theory:

    {% block execution %}%maxcore {{ mem_MB // threads }}{% endblock %}

Every deck may use, beside the fields of its labeler by name:

| name | |
|---|---|
| symbols, elements | of every atom; each element once, in order of appearance |
| positions | (n, 3) Å |
| geometry | one line an atom: symbol x y z, Å |
| cell | three lines, Å; empty for molecules |
| charge, multiplicity, unpaired | of the frame |
| threads, mem_MB, walltime_s | of the worker; the last two may be None |
| other_guess, restart | whether to start from another guess; whether checkpoint files lie in the folder |
| … | the remedies of its ladders, None until they are tried |
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols
from jinja2 import Environment, StrictUndefined, Template, TemplateError

from alfw.core.errors import DataError, DeckError
from alfw.core.frame import Frame
from alfw.core.records import Attempt, Resources

EXECUTION = re.compile(r"\{%-?\s*block\s+execution\w*\s*-?%\}.*?\{%-?\s*endblock\b.*?%\}", re.DOTALL)
COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
JINJA = Environment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)


def shipped(name: str) -> str:
    """The text of a template that comes with alfw."""
    return (files("alfw.fw_templates") / "qm" / name).read_text(encoding="utf-8")


def deck_text(name: str, own: Mapping[str, str] | str | None) -> str:
    """The user's template of this name, else the shipped one.

    Raises
    ------
    DeckError
        `own` is still the path of a folder: `with_decks` has not been called.
    """
    if isinstance(own, str):
        raise DeckError(f"decks: {own} was not read when the campaign was added")
    return (own or {}).get(name) or shipped(name)


def with_decks(options: Mapping[str, Any], base: Path, names: Sequence[str]) -> dict[str, Any]:
    """The options; where `decks` is a folder, the templates of these names in it by name, as text.

    Raises
    ------
    DataError
        No such folder, none of these templates in it, or not UTF-8.
    """
    folder = options.get("decks")
    if not isinstance(folder, str):
        return dict(options)
    path = base / Path(folder).expanduser()
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    try:
        found = {name: (path / name).read_text("utf-8") for name in names if (path / name).is_file()}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    if not found:
        raise DataError(f"{path}: has none of the templates {', '.join(names)}")
    return {**options, "decks": found}


def deck_hash(text: str) -> str:
    """sha256 of what a template says of the theory: without comments, execution blocks and blank lines."""
    theory = EXECUTION.sub("", COMMENT.sub("", text))
    lines = [line.rstrip() for line in theory.splitlines() if line.strip()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def rendered(text: str, variables: Mapping[str, Any]) -> bytes:
    """The input file.

    Raises
    ------
    DeckError
        The template uses an unknown variable or is not valid Jinja.
    """
    try:
        return _template(text).render(variables).encode()
    except TemplateError as error:
        raise DeckError(f"deck: {error}") from error


@lru_cache(maxsize=32)
def _template(text: str) -> Template:
    """A template; kept, as compiling one takes longer than a fast label."""
    return JINJA.from_string(text)


def frame_variables(frame: Frame) -> dict[str, Any]:
    """What a deck may say of the frame; coordinates have 10 decimals."""
    symbols = [chemical_symbols[z] for z in frame.numbers]
    rows = [" ".join(f"{x: .10f}" for x in row) for row in frame.positions]
    return {
        "symbols": symbols,
        "elements": list(dict.fromkeys(symbols)),
        "positions": frame.positions.tolist(),
        "geometry": "\n".join(f"{symbol:<2s} {row}" for symbol, row in zip(symbols, rows, strict=True)),
        "cell": "\n".join(" ".join(f"{x: .10f}" for x in row) for row in frame.cell)
        if frame.periodic
        else "",
        "charge": frame.charge,
        "multiplicity": frame.multiplicity,
        "unpaired": frame.multiplicity - 1,
    }


def worker_variables(resources: Resources, attempt: Attempt) -> dict[str, Any]:
    """What a deck may say of the worker and of earlier attempts."""
    return {
        "threads": resources.threads,
        "mem_MB": None if resources.mem_GB is None else round(1024 * resources.mem_GB),
        "walltime_s": resources.walltime_s,
        "other_guess": attempt.other_guess,
        "restart": bool(attempt.restart),
    }

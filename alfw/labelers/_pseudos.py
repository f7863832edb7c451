"""Pseudopotential files, pinned by content: workers may have them anywhere, but they must be the same ones.

Options of a labeler that uses them:

    pseudopotentials: {Si: Si.upf, O: {file: O.upf, sha256: 0f3a…}}     # part of the theory
    pseudo_dir: '>>pseudo_dir<<'                                        # where a worker has them; execution only

Files are named relative to `pseudo_dir`; one packed by gzip (``.gz``) is pinned by what is inside.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from ase.data import atomic_numbers, chemical_symbols
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from alfw.core.errors import BasisError, DataError, ExecutableError
from alfw.core.frame import Frame
from alfw.core.ids import sha256

UNSTATED = "not stated"


class Pseudo(BaseModel):
    """One pseudopotential; a plain string is its file.

    Attributes
    ----------
    file : str
        Relative to `pseudo_dir`.
    sha256 : str or None
        Of its content; filled in when the campaign is added.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        """A file name alone."""
        return {"file": value} if isinstance(value, str) else value


def _is_element(symbol: str) -> str:
    """The symbol, if there is such an element."""
    if atomic_numbers.get(symbol, 0) < 1:
        raise ValueError(f"{symbol!r} is no element")
    return symbol


Element = Annotated[str, AfterValidator(_is_element)]
Pseudopotentials = dict[Element, Pseudo]


def pinned(options: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The options of a labeler with the sha256 of each pseudopotential, and `pseudo_dir` relative to `base` resolved.

    Raises
    ------
    DataError
        A file is neither here nor has a stated sha256; or it has another one.
    """
    named, folder = options.get("pseudopotentials"), options.get("pseudo_dir")
    if not isinstance(named, Mapping) or not isinstance(folder, str | None):
        return dict(options)  # what is wrong with it is said when the section is validated
    here: Path | None = None
    if folder is not None and ">>" not in folder:
        here = (base / Path(folder).expanduser()).absolute()
        folder = str(here)
    entries = {
        element: _pinned(f"pseudopotentials.{element}", entry, here) for element, entry in named.items()
    }
    return {**options, "pseudopotentials": entries} | ({} if folder is None else {"pseudo_dir": folder})


def _pinned(key: str, entry: Any, here: Path | None) -> Any:
    """One entry of `pseudopotentials` with the sha256 of the file, as found or as stated."""
    entry = {"file": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or not isinstance(entry.get("file"), str):
        return entry
    stated = entry.get("sha256")
    if here is None or not here.is_dir():
        if stated is None:
            where = "pseudo_dir is known to workers only" if here is None else f"{here} is not here"
            raise DataError(f"{key}: {where}; state {{file: {entry['file']}, sha256: …}} (`sha256sum FILE`)")
        return dict(entry)
    try:
        found = sha256(content(here / entry["file"]))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{key}: cannot read {here / entry['file']}: {_why(error)}") from error
    if stated not in (None, found):
        raise DataError(
            f"{key}: {here / entry['file']} has sha256 {found[:12]}…, stated is {str(stated)[:12]}…"
        )
    return {**entry, "sha256": found}


def stated(pseudopotentials: Mapping[str, Pseudo]) -> dict[str, dict[str, str]]:
    """File and sha256 of each element's pseudopotential, for the theory."""
    return {
        element: {"file": pseudo.file, "sha256": pseudo.sha256 or UNSTATED}
        for element, pseudo in pseudopotentials.items()
    }


def check_pseudos(frame: Frame, pseudopotentials: Mapping[str, Any]) -> None:
    """Raise BasisError when an element of the frame has no pseudopotential."""
    lacking = sorted({chemical_symbols[z] for z in frame.numbers} - pseudopotentials.keys())
    if lacking:
        raise BasisError(f"no pseudopotential for {', '.join(lacking)}: name its file in `pseudopotentials`")


def verified(
    pseudopotentials: Mapping[str, Pseudo], pseudo_dir: str | None, elements: Iterable[str]
) -> dict[str, bytes]:
    """Content of the pseudopotential of each of these elements, as the campaign pins it.

    Raises
    ------
    BasisError
        An element has none.
    ExecutableError
        This worker lacks the file, or has another one under this name.
    """
    found = {}
    for element in dict.fromkeys(elements):
        pseudo = pseudopotentials.get(element)
        if pseudo is None:
            raise BasisError(f"no pseudopotential for {element}: name its file in `pseudopotentials`")
        path = Path(pseudo_dir or "").expanduser() / pseudo.file
        try:
            found[element] = content(path)
        except (OSError, EOFError, zlib.error) as error:
            what = f"pseudopotential of {element}: cannot read {path}: {_why(error)}"
            raise ExecutableError(f"{what}; correct `pseudo_dir` of this worker") from error
        digest = sha256(found[element])
        if pseudo.sha256 not in (None, digest):
            what = f"pseudopotential of {element}: {path} has sha256 {digest[:12]}…"
            raise ExecutableError(
                f"{what}, the campaign wants {str(pseudo.sha256)[:12]}…: bring that file here"
            )
    return found


def content(path: Path) -> bytes:
    """What is in a file, unpacked where its name ends in ``.gz``."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _why(error: Exception) -> str:
    """What went wrong with a file."""
    return getattr(error, "strerror", None) or str(error)

"""The door for plug-ins: entry-point groups, looked up by `kind`. Our own plug-ins use the same door."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from alfw.core.errors import PluginError

GROUPS = ("alfw.models", "alfw.samplers", "alfw.selectors", "alfw.labelers")
# Kinds that later versions bring; asking for one says so instead of "unknown".
PLANNED: dict[str, frozenset[str]] = {}
# How to get the package that a plug-in needs.
INSTALL = {
    "nequix": "make setup, or: pip install 'alfw[nequix]' && pip install --no-deps nequix",
    "physnet": "pip install 'alfw[physnet]'",
    "torch": "make torch, or: pip install torch==2.13.0 && pip install 'alfw[nequix,torch]'",
    "hdf5": "pip install 'alfw[hdf5]'",
    "jaxmd": "pip install 'alfw[nequix]'",
    "pyscf": "pip install 'alfw[pyscf]'",
    "report": "pip install 'alfw[report]'",
    "tblite": "pip install 'alfw[xtb]'",
}


@cache
def known(group: str) -> dict[str, EntryPoint]:
    """The plug-ins of a group by kind; read once a process, it means looking into every installed package."""
    return {entry.name: entry for entry in entry_points(group=group)}


def plugin_class(group: str, kind: str) -> type[Any]:
    """The class registered under `kind`.

    Raises
    ------
    PluginError
        Unknown kind (the message lists the known ones), or a package it needs is not installed.
    """
    entries = known(group)
    what = group.removeprefix("alfw.").removesuffix("s")
    if kind not in entries:
        if kind in PLANNED.get(group, ()):
            raise PluginError(
                f"{what} {kind!r} is not available in this version; known: {', '.join(sorted(entries))}"
            )
        hint = "; a plug-in package of your own registers kinds under the entry-point group " + group
        raise PluginError(f"unknown {what} {kind!r}; known: {', '.join(sorted(entries))}{hint}")
    try:
        return entries[kind].load()  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        install = INSTALL.get(kind, "install the plug-in's requirements")
        raise PluginError(f"{what} {kind!r} needs the package {error.name!r}: {install}") from error


def private(module: str, kind: str) -> Any:
    """A `_private` module with a heavy import at its top, loaded only when its plug-in works.

    Raises
    ------
    PluginError
        The package it needs is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("alfw"):
            raise
        install = INSTALL.get(kind, "install the plug-in's requirements")
        raise PluginError(f"{kind!r} needs the package {error.name!r}: {install}") from error

"""An ensemble of members on disk: ``ensemble.json`` and one ``member_k`` file each.

``ensemble.json`` says of which kind the members are, which files belong together, with their SHA-256, and what they
share. Nothing is pickled, and nothing here needs the model's libraries: ``.nqx`` and ``.pt`` (Nequix's torch back-end)
begin with one line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alfw.core.errors import TrainingError
from alfw.core.ids import sha256
from alfw.core.protocols import Model, Potential
from alfw.core.registry import plugin_class
from alfw.models._pickles import SUFFIXES, refuse_pickle

ENSEMBLE = "ensemble.json"
FORMAT = 1
# What members must share (keys of a Nequix header): networks that differ here cannot be evaluated together.
SHARED = ("atomic_numbers", "cutoff", "scale", "shift", "avg_n_neighbors", "atom_energies")


def write_ensemble(
    directory: Path,
    weights: Sequence[Path],
    members: Sequence[Mapping[str, Any]] | None = None,
    provenance: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
) -> Path:
    """Path of the ``ensemble.json`` written into `directory`, beside copies of the members' weights.

    Parameters
    ----------
    directory : Path
        Made if absent; an ensemble in it is replaced.
    weights : sequence of K Paths
        Files of one kind; of Nequix ``.nqx``, ``.pt`` or both.
    members : sequence of K mappings or None
        JSON data to keep with each member: seed, metrics, …
    provenance : mapping or None
        JSON data to keep with the ensemble: campaign, round, ids.
    model : mapping or None
        The model's options (``kind`` among them) that are needed to load it; None = a Nequix model.

    Raises
    ------
    TrainingError
        A file is missing or has no header, or the members do not share what they must.
    """
    notes = list(members) if members is not None else [{} for _ in weights]
    if not weights or len(notes) != len(weights):
        raise TrainingError(f"{directory}: an ensemble needs weights, and one note per member or none")
    options = dict(model or {"kind": "nequix"})
    shared = _shared(weights, options["kind"])
    directory.mkdir(parents=True, exist_ok=True)
    entries = []
    for k, (path, note) in enumerate(zip(weights, notes, strict=True)):
        target = directory / f"member_{k}{path.suffix}"
        if not (target.exists() and target.samefile(path)):
            shutil.copyfile(path, target)
        entries.append({**note, "file": target.name, "sha256": sha256(target.read_bytes())})
    content = {
        "format": FORMAT,
        "kind": options["kind"],
        "K": len(entries),
        "shared": shared,
        "members": entries,
    }
    content["model"] = options
    content["provenance"] = dict(provenance or {})
    temporary = directory / f".{ENSEMBLE}.new"
    temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, directory / ENSEMBLE)
    return directory / ENSEMBLE


def read_ensemble(directory: Path) -> tuple[list[Path], dict[str, Any]]:
    """Paths of the weights of all members, in order, and the content of ``ensemble.json``.

    Parameters
    ----------
    directory : Path
        The folder, or the ``ensemble.json`` in it.

    Raises
    ------
    TrainingError
        No ensemble there, another format, a file missing or altered, or members that do not belong together.
    """
    index = directory if directory.name == ENSEMBLE else directory / ENSEMBLE
    content = _content(index)
    paths = []
    for entry in content["members"]:
        path = index.parent / Path(entry["file"]).name  # never outside the folder
        if not path.is_file():
            raise TrainingError(f"{index}: member {path.name} is missing: copy the whole folder")
        found, stated = sha256(path.read_bytes()), str(entry["sha256"])
        if found != stated:
            raise TrainingError(
                f"{path}: its SHA-256 is {found[:12]}…, not {stated[:12]}… as in {ENSEMBLE}: the file was altered or"
                " damaged; copy it again"
            )
        paths.append(path)
    if _shared(paths, content.get("kind", "nequix")) != content["shared"]:
        raise TrainingError(f"{index}: what it says the members share is not what their headers say")
    return paths, content


def _content(index: Path) -> dict[str, Any]:
    """The JSON of an index file with the keys that `read_ensemble` needs."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{index}: no ensemble there ({error.strerror})") from error
    except ValueError as error:
        raise TrainingError(f"{index}: not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(f"{index}: not an ensemble of format {FORMAT}")
    entries = content.get("members")
    complete = isinstance(entries, list) and entries and all(map(_is_member, entries))
    if not complete or "shared" not in content:
        raise TrainingError(f"{index}: its list of members is not complete")
    return content


def _is_member(entry: Any) -> bool:
    """Whether an entry of the list of members names a file and its content."""
    return isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("file", "sha256"))


def _shared(weights: Sequence[Path], kind: str) -> dict[str, Any]:
    """What the headers of all members have in common, in JSON types; nothing where files have no header.

    Raises
    ------
    TrainingError
        They differ; the message names the key.
    """
    if kind != "nequix":
        return {}
    first = {key: read_header(weights[0]).get(key) for key in SHARED}
    for path in weights[1:]:
        header = read_header(path)
        different = [key for key in SHARED if header.get(key) != first[key]]
        if different:
            raise TrainingError(
                f"{path.name} and {weights[0].name} differ in {', '.join(different)}: members of one ensemble share"
                " these; train them on the same statistics"
            )
    return first


def load_ensemble(directory: Path) -> Potential:
    """The ensemble in this folder, ready to predict.

    Raises
    ------
    TrainingError
        As in `read_ensemble`, or it cannot be loaded.
    PluginError
        Its kind is unknown here, or its packages are not installed.
    """
    paths, content = read_ensemble(directory)
    options = content.get("model", {"kind": content.get("kind", "nequix")})
    try:
        model: Model = plugin_class("alfw.models", str(options["kind"]))(**options)
    except (KeyError, TypeError, ValueError) as error:
        words = " ".join(str(error).split())
        raise TrainingError(f"{directory}: the model's options in {ENSEMBLE} are wrong: {words}") from error
    return model.load(paths)


# Which kind of model a file of weights is of, by its name.
KINDS: Mapping[str, str] = {".nqx": "nequix", ".pt": "nequix", ".npz": "physnet"}


def load_models(paths: Sequence[Path]) -> Potential:
    """One ensemble of what these paths name: a folder (or ``ensemble.json``) alone, or files of members.

    A folder without ``ensemble.json`` stands for the files of members in it, by name.

    Raises
    ------
    TrainingError
        Nothing there, files of several kinds, members that do not belong together, a damaged file, or a pickle.
    PluginError
        Their packages are not installed.
    """
    if len(paths) == 1 and (paths[0].name == ENSEMBLE or (paths[0] / ENSEMBLE).is_file()):
        return load_ensemble(paths[0])
    files = [file for path in paths for file in _weights_in(path)]
    for file in files:
        refuse_pickle(file)
    kinds = {KINDS.get(file.suffix) for file in files}
    if len(kinds) != 1 or None in kinds:
        names = ", ".join(file.name for file in files[:5]) or "nothing"
        raise TrainingError(
            f"{', '.join(map(str, paths))}: {names} found, but an ensemble is one folder with {ENSEMBLE}, or"
            f" members of one kind: {', '.join(KINDS)}"
        )
    model: Model = plugin_class("alfw.models", str(kinds.pop()))(members=len(files))
    return model.load(files)


def _weights_in(path: Path) -> list[Path]:
    """The file itself, or the files of members in a folder, by name; not a ``.pt`` that is there as ``.nqx``, too.

    A folder of pickles alone stands for these, to be refused by name.
    """
    if not path.exists():
        raise TrainingError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    inside = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    twins = {file.with_suffix(".pt") for file in inside if file.suffix == ".nqx"}
    found = [file for file in inside if file.suffix in KINDS and file not in twins]
    return found or [file for file in inside if file.suffix in SUFFIXES]


def read_header(path: Path) -> dict[str, Any]:
    """The first line of a ``.nqx`` or ``.pt``: network options, cutoff, scale, elements, atomic energies.

    Raises
    ------
    TrainingError
        The file is missing, is a pickle or does not start with JSON.
    """
    try:
        with open(path, "rb") as file:
            header = json.loads(file.readline())
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        refuse_pickle(path)
        raise TrainingError(f"{path}: not a Nequix file, its first line is not JSON") from error
    if not isinstance(header, dict):
        raise TrainingError(f"{path}: not a Nequix file, its first line is not a JSON object")
    return header

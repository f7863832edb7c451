"""A folder of QM inputs: structures in, one input a frame out, and ``qm.json`` that says what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alfw.config.messages import one_line
from alfw.core.errors import ConfigError, DataError, LabelError, PluginError
from alfw.core.ids import sha256
from alfw.core.protocols import Labeler, NamesFiles
from alfw.core.records import Resources
from alfw.core.registry import plugin_class
from alfw.io.files import write_file
from alfw.io.frames import read_frames, write_extxyz
from alfw.io.imported import Imported
from alfw.labelers._common import refuse

MANIFEST, FRAMES = "qm.json", "qm.extxyz"
# What users call the inputs of these programs; others keep the suffix of their deck.
SUFFIXES = {"orca": ".inp", "gaussian": ".com", "qchem": ".in", "psi4": ".dat"}


@dataclass(frozen=True, eq=False)
class QMFolder:
    """The content of ``qm.json``.

    Attributes
    ----------
    path : Path
    labeler : Labeler
    theory : str
        Id.
    resources : Resources
        For which the inputs were written.
    items : {stem: Imported}
        The frames in full precision, by the name of their input without suffix.
    inputs : {path relative to the folder: sha256}
    execution : mapping
        Options of the labeler that hold here instead of those in ``qm.json``.
    """

    path: Path
    labeler: Labeler
    theory: str
    resources: Resources
    items: Mapping[str, Imported]
    inputs: Mapping[str, str]
    execution: Mapping[str, Any] = field(default_factory=dict)

    def run_folder(self, stem: str) -> Path:
        """Where the raw output of a frame is kept."""
        return self.path / f"{stem}.run"


@dataclass(frozen=True)
class Refused:
    """A frame or an output without a label, and why.

    Attributes
    ----------
    name : str
    failure_class, signature, message : str
        As in the failure ledger.
    """

    name: str
    failure_class: str
    signature: str
    message: str

    @classmethod
    def of(cls, name: str, error: LabelError) -> Refused:
        """What an error says."""
        message = " ".join(str(error).split())
        return cls(name, error.failure_class, " ".join(error.signature.split()), message)

    def as_json(self, key: str) -> dict[str, str]:
        """As in --json."""
        return {
            key: self.name,
            "class": self.failure_class,
            "signature": self.signature,
            "message": self.message,
        }


@dataclass(frozen=True)
class Written:
    """What `write_folder` did.

    Attributes
    ----------
    folder : Path
    inputs : list of str
        Relative to the folder; empty for labelers that need none.
    stems : list of str
    theory : str
        Id.
    refused : list of Refused
    """

    folder: Path
    inputs: list[str]
    stems: list[str]
    theory: str
    refused: list[Refused] = field(default_factory=list)


def make_labeler(options: Mapping[str, Any], base: Path) -> tuple[dict[str, Any], Labeler]:
    """The options with the files they name read in, and the labeler.

    Raises
    ------
    ConfigError
        In one line: unknown labeler, unknown or wrong option, missing file.
    """
    try:
        cls = plugin_class("alfw.labelers", str(options.get("kind")))
    except PluginError as error:
        raise ConfigError(str(error)) from None
    try:
        full = cls.with_files(options, base) if isinstance(cls, NamesFiles) else dict(options)
        return full, cls.model_validate(full)
    except ValidationError as error:
        raise ConfigError(one_line(error, cls, str(options["kind"]))) from None
    except DataError as error:
        raise ConfigError(f"{options['kind']}: {error}") from None


def write_folder(
    folder: Path,
    frames: Mapping[str, tuple[Imported, Path | None]],
    options: Mapping[str, Any],
    resources: Resources,
    force: bool = False,
) -> Written:
    """Write inputs, frames and ``qm.json``; nothing is written when something there would be lost.

    Raises
    ------
    ConfigError
        The options are wrong, or a file is there with other content.
    LabelError
        Of policy ``pause``: no frame could be written so.
    """
    options, labeler = make_labeler(options, Path.cwd())
    refused: list[Refused] = []
    files: dict[str, bytes] = {}
    kept: dict[str, Imported] = {}
    sidecars: dict[str, bytes] = {}
    for stem, (item, sidecar) in frames.items():
        if stem == Path(MANIFEST).stem:
            raise ConfigError(f"a frame cannot be named {stem!r}, as {MANIFEST} is: rename its file")
        try:
            refuse(labeler.check, item.frame)
            files |= rendered_inputs(labeler, stem, item, resources)
        except LabelError as error:
            if error.policy == "pause":
                raise
            refused.append(Refused.of(stem, error))
            continue
        kept[stem] = Imported(item.frame, None, item.trajectory, item.side)
        if sidecar is not None:
            sidecars[f"{stem}.json"] = sidecar.read_bytes()
    theory = labeler.theory().id
    if kept:
        manifest = _manifest(options, theory, resources, kept, files)
        _write_all(folder, files, sidecars, kept, manifest, force)
    return Written(folder, sorted(files), list(kept), theory, refused)


def rendered_inputs(labeler: Labeler, stem: str, item: Imported, resources: Resources) -> dict[str, bytes]:
    """The inputs of one frame by their path in the folder: one file, or a folder of several; none in-process."""
    render = getattr(labeler, "inputs", None)
    if render is None:
        return {}
    inputs: Mapping[str, bytes] = render(item.frame, resources)
    if len(inputs) == 1:
        [(name, data)] = inputs.items()
        return {stem + SUFFIXES.get(labeler.kind, Path(name).suffix): data}
    return {f"{stem}/{name}": data for name, data in inputs.items()}


def _manifest(
    options: Mapping[str, Any],
    theory: str,
    resources: Resources,
    kept: Mapping[str, Imported],
    files: Mapping[str, bytes],
) -> bytes:
    """``qm.json``."""
    content = {
        "format": 1,
        "labeler": options,
        "theory": theory,
        "resources": {"threads": resources.threads, "mem_GB": resources.mem_GB},
        "frames": {stem: item.frame.id for stem, item in kept.items()},
        "inputs": {name: sha256(data) for name, data in files.items()},
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def _write_all(
    folder: Path,
    files: Mapping[str, bytes],
    sidecars: Mapping[str, bytes],
    kept: Mapping[str, Imported],
    manifest: bytes,
    force: bool,
) -> None:
    """Write everything, ``qm.json`` last."""
    everything = {**files, **sidecars, MANIFEST: manifest}
    for name, data in everything.items():
        path = folder / name
        if not force and path.exists() and (path.is_dir() or path.read_bytes() != data):
            raise ConfigError(f"{path} is there with other content: choose another folder, or --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, data in {**files, **sidecars}.items():
        write_file(folder / name, data)
    write_extxyz(folder / FRAMES, list(kept.values()))
    write_file(folder / MANIFEST, manifest)


def load_folder(path: Path, execution: Mapping[str, Any] | None = None) -> QMFolder:
    """The folder that `write_folder` made.

    Parameters
    ----------
    execution : mapping, optional
        Options of the labeler that hold on this machine: command, folder of pseudopotentials …

    Raises
    ------
    ConfigError
        Not such a folder, or options that the labeler does not have or that are part of the theory.
    DataError
        Its frames were changed.
    """
    try:
        content = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        options, threads = dict(content["labeler"]), content["resources"]
        frames, inputs, theory = content["frames"], content["inputs"], content["theory"]
        resources = Resources(threads=int(threads["threads"]), mem_GB=threads["mem_GB"])
    except FileNotFoundError:
        raise ConfigError(f"{path}: no {MANIFEST} in it; alfw qm write makes such a folder") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path / MANIFEST}: not what alfw qm write makes ({error})") from None
    execution = dict(execution or {})
    _, labeler = make_labeler(options | execution, path)
    for name in execution:
        if name not in labeler.execution_only:
            raise ConfigError(f"{name} is part of the theory: alfw qm write … --set {name}=… --force")
    items = read_frames(path / FRAMES)
    if [item.frame.id for item in items] != list(frames.values()):
        raise DataError(f"{path / FRAMES}: not the frames of {MANIFEST}; write the folder anew with --force")
    return QMFolder(
        path, labeler, theory, resources, dict(zip(frames, items, strict=True)), inputs, execution
    )

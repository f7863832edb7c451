"""start: the user's frames, where each belongs, and what has to be labelled before the first training."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from alfw.config import CampaignConfig, InitialData, Plugins
from alfw.core.errors import ConfigError, DataError, InputError, PluginError
from alfw.core.frame import Frame
from alfw.core.protocols import NamesFiles, ReadsFiles
from alfw.core.records import Label, Side, Theory
from alfw.core.registry import plugin_class
from alfw.core.split import split_note, split_sides
from alfw.io.frames import Imported, expand_paths, read_frames
from alfw.steps.context import Context, Outcome
from alfw.steps.replay import put_replay
from alfw.steps.stored_files import store_files

SPOT_CHECKS = 2  # imported labels said to be of the same theory that are computed again
THEORY_ID = re.compile(r"[0-9a-f]{8,64}$")
REGION = "initial"  # name of the test region when it is taken from the initial data


@dataclass(frozen=True)
class Entry:
    """One imported frame, its label if it may be used, and where it belongs."""

    frame: Frame
    label: Label | None
    trajectory: str | None
    side: Side | None
    region: str | None


@dataclass(frozen=True)
class Import:
    """All imported frames, and a remark for the user where their split is a weak one."""

    entries: list[Entry]
    note: str | None


def read_data(config: CampaignConfig) -> Import:
    """The user's frames: checked, without duplicates, each on its side.

    Raises
    ------
    ConfigError, DataError
        One line naming the key or the file: missing file, unusable frame, theory unstated or another one.
    """
    plugins = config.plugins(None)
    entries: list[Entry] = []
    for name, source in (config.file.data.test or {}).items():
        source = InitialData(path=source) if isinstance(source, str) else source
        for imported in _imported(config, plugins, source, f"data.test.{name}"):
            entries.append(Entry(imported.frame, imported.label, imported.trajectory, "test", name))
    for i, source in enumerate(config.file.data.initial):
        for imported in _imported(config, plugins, source, f"data.initial.{i}"):
            entries.append(Entry(imported.frame, imported.label, imported.trajectory, imported.side, None))
    unique: dict[str, Entry] = {}
    for entry in entries:
        unique.setdefault(entry.frame.id, entry)
    for i, sampler in enumerate(plugins.samplers):
        if isinstance(sampler, ReadsFiles):
            _expand(sampler.paths, f"sample.{i}.paths")
    data = _with_sides(config, list(unique.values()))
    _check_elements(data.entries)
    return data


def _expand(patterns: Sequence[str], key: str) -> list[Path]:
    """The files these patterns name, or a ConfigError with the key."""
    try:
        return expand_paths(patterns)
    except DataError as error:
        raise ConfigError(f"{key}: {error}") from None


def _check_elements(entries: Sequence[Entry]) -> None:
    """Refuse elements that no training frame has: the model could say nothing of them."""
    train = {int(z) for entry in entries if entry.side == "train" for z in entry.frame.numbers}
    for entry in entries:
        strange = {int(z) for z in entry.frame.numbers} - train
        if strange:
            names = ", ".join(chemical_symbols[z] for z in sorted(strange))
            where = f"data.test.{entry.region}" if entry.region else "data.initial"
            raise DataError(
                f"{where}: frame {entry.frame.formula} has {names}, which no frame on the train side has: "
                "add such frames to data.initial"
            )


def _imported(config: CampaignConfig, plugins: Plugins, source: InitialData, key: str) -> Iterator[Imported]:
    """The frames of one source, each fit for this labeler and model, labels kept only where they may be."""
    system, theory = config.file.system, plugins.labeler.theory()
    known = plugins.model.known_species()
    for path in _expand([source.path], f"{key}.path"):
        frames = read_frames(path, system.charge, system.multiplicity, partial_pbc=system.partial_pbc)
        for index, imported in enumerate(frames):
            where = f"{key}: {path} frame {index}"
            strange = set(imported.frame.numbers) - known if known is not None else set()
            if strange:
                names = ", ".join(chemical_symbols[z] for z in sorted(strange))
                raise DataError(f"{where}: the model does not know {names}")
            for labeler in filter(None, (plugins.labeler, plugins.prescreen)):
                try:
                    labeler.check(imported.frame)
                except InputError as error:
                    raise DataError(f"{where}: {error}") from None
            yield replace(imported, label=_usable(imported, source.theory, theory, where))


def _usable(imported: Imported, stated: str | None, theory: Theory, where: str) -> Label | None:
    """The label of an imported frame if it is of the campaign's theory; None if it is to be computed."""
    if imported.label is None or stated == "ignore":
        return None
    if stated is None:
        raise ConfigError(
            f"{where}: carries energies and forces of an unstated theory; "
            "set `theory: ignore` (compute them again) or `theory: same` (they are this campaign's)"
        )
    # Free text, as `alfw qm read` writes it of outputs whose input it does not know, is no id: some are computed again.
    own = imported.theory if imported.theory is not None and THEORY_ID.match(imported.theory) else None
    for claim in [own] if stated == "same" else [stated, own]:
        if claim is not None and not (len(claim) >= 8 and theory.id.startswith(claim)):
            raise DataError(
                f"{where}: its labels are of theory {claim[:12]}, the campaign's is {theory.id[:12]} ({theory}); "
                "set `theory: ignore` to compute them again"
            )
    return imported.label


def _with_sides(config: CampaignConfig, entries: list[Entry]) -> Import:
    """The entries, each on a side; the test side is from `data.test`, else taken from the initial data."""
    data = config.file.data
    mine = [entry for entry in entries if entry.region is None]
    if not mine:
        raise DataError(
            "data.initial: every frame of it is in data.test as well; nothing is left to train on"
        )
    trajectories = [entry.trajectory for entry in mine]
    shares = {"valid": data.split.valid, "test": 0.0 if data.test is not None else data.split.test}
    sides = split_sides(trajectories, **shares, seed=config.file.seed, given=[entry.side for entry in mine])
    placed = [
        replace(entry, side=side, region=REGION if side == "test" else None)
        for entry, side in zip(mine, sides, strict=True)
    ]
    kept = [entry for entry in entries if entry.region is not None]
    return Import(kept + placed, split_note(trajectories, **shares))


def run(ctx: Context) -> dict[str, Any]:
    """The committed import of the campaign's data."""
    return ctx.once("start", 0, lambda: _import(ctx))


def _import(ctx: Context) -> Outcome:
    store, theory = ctx.store, ctx.plugins.labeler.theory()
    data = read_data(ctx.config)
    entries = data.entries
    if data.note:
        ctx.progress(data.note)
    store.put_frames([entry.frame for entry in entries])
    labelled = [i for i, entry in enumerate(entries) if entry.label is not None]
    chosen = np.random.default_rng(ctx.seed("start", "spot")).permutation(labelled)[:SPOT_CHECKS]
    spot = {int(i) for i in chosen}
    for i in labelled:
        if i not in spot:
            store.put_label(entries[i].frame.id, theory, replace_origin(entries[i].label))
    done = store.labelled([entry.frame.id for entry in entries], theory.id)
    rows = [
        {"frame": e.frame.id, "trajectory": e.trajectory, "side": e.side, "region": e.region} for e in entries
    ]
    to_label = [e.frame.id for e in entries if e.frame.id not in done]
    outputs = {
        "entries": ctx.put_json(rows),
        "to_label": ctx.put_json(to_label),
        "spot": ctx.put_json({entries[i].frame.id: _numbers(entries[i].label) for i in spot}),
        "files": store_files(ctx),
        "checkpoint": _store_checkpoint(ctx),
        "replay": put_replay(ctx),
        "note": data.note,
    }
    counts = {side: sum(e.side == side for e in entries) for side in ("train", "valid", "test")}
    return Outcome(outputs, {**{f"n_{k}": v for k, v in counts.items()}, "n_to_label": len(to_label)})


def replace_origin(label: Label | None) -> Label:
    """The label, marked as brought by the user."""
    if label is None:
        raise DataError("no label to import")
    return replace(label, command="imported", version=label.version or "imported")


def _numbers(label: Label | None) -> dict[str, Any]:
    """Energy and forces of a label as JSON data."""
    if label is None:
        raise DataError("no label to check")
    return {"energy": float(label.energy), "forces": label.forces.tolist()}


def _store_checkpoint(ctx: Context) -> str | None:
    """Blob of the checkpoint that the model starts from, so that workers elsewhere have it.

    Raises
    ------
    ConfigError
        It is not there any more.
    """
    named = getattr(ctx.plugins.model, "start_from", None)
    if named is None:
        return None
    if not Path(named).is_file():
        raise ConfigError(f"model.start_from: {named} is not there: start the campaign where it is")
    return ctx.store.put_file(Path(named))


def absolute_paths(raw: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The raw configuration, fit to be used elsewhere: paths of user files made absolute, the labeler's files read in.

    Unusable sections stay as they are.
    """

    def fixed(path: Any) -> Any:
        return str(base / Path(path).expanduser()) if isinstance(path, str) else path

    def entry(value: Any) -> Any:
        return (
            {**value, "path": fixed(value["path"])}
            if isinstance(value, Mapping) and "path" in value
            else value
        )

    raw = dict(raw)
    data = raw.get("data")
    if isinstance(data, Mapping):
        data = dict(data)
        if isinstance(data.get("initial"), (list, tuple)):
            data["initial"] = [entry(value) for value in data["initial"]]
        if isinstance(data.get("test"), Mapping):
            data["test"] = {k: fixed(v) if isinstance(v, str) else entry(v) for k, v in data["test"].items()}
        raw["data"] = data
    if isinstance(raw.get("sample"), (list, tuple)):
        raw["sample"] = [
            {**s, "paths": [fixed(p) for p in s["paths"]]}
            if isinstance(s, Mapping) and isinstance(s.get("paths"), (list, tuple))
            else s
            for s in raw["sample"]
        ]
    for section, group in (("label", "alfw.labelers"), ("model", "alfw.models")):
        if isinstance(raw.get(section), Mapping):
            raw[section] = _with_files(raw[section], base, section, group)
    if isinstance(raw.get("select"), Mapping):
        raw["select"] = _with_cheap_files(raw["select"], base)
    return raw


def _with_cheap_files(select: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The section, with the files of the labeler of its pre-screen read in."""
    cheap = select.get("prescreen")
    if not (isinstance(cheap, Mapping) and isinstance(cheap.get("labeler"), Mapping)):
        return dict(select)
    labeler = _with_files(cheap["labeler"], base, "select.prescreen.labeler", "alfw.labelers")
    return {**select, "prescreen": {**cheap, "labeler": labeler}}


def _with_files(options: Mapping[str, Any], base: Path, section: str, group: str) -> dict[str, Any]:
    """The plug-in's options with the user's decks read in and other files pinned, so that workers need none of them.

    Raises
    ------
    ConfigError
        A file is missing or unreadable. What else is wrong with the section is said when it is validated.
    """
    try:
        plugin = plugin_class(group, str(options.get("kind")))
    except PluginError:
        return dict(options)
    if not isinstance(plugin, NamesFiles):
        return dict(options)
    try:
        return plugin.with_files(options, base)
    except DataError as error:
        raise ConfigError(f"{section}: {error}") from None

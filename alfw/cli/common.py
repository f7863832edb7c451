"""What several commands need: the campaign file, the LaunchPad that FireWorks finds, its store."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fireworks import LaunchPad
from fireworks.fw_config import LAUNCHPAD_LOC
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from alfw.config import CampaignConfig
from alfw.core.errors import ConfigError, StoreError
from alfw.steps.start import Import, absolute_paths, read_data
from alfw.store import Store, check_connection
from alfw.store.launchpad import read_launchpad
from alfw.workflow.control import prepare

TASK = "{{alfw.firetasks.StartCampaign}}"


def read_campaign(path: Path) -> CampaignConfig:
    """The validated configuration in a campaign file; user files in it are relative to the file's folder.

    Raises
    ------
    ConfigError
        Not readable, not YAML, not a campaign, or a key of it is wrong.
    """
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from None
    return CampaignConfig(absolute_paths(_campaign_in(document, path), path.resolve().parent))


def _campaign_in(document: Any, path: Path) -> Mapping[str, Any]:
    """The campaign of a Firework file: what its StartCampaign task is given."""
    spec = document.get("spec") if isinstance(document, Mapping) else None
    tasks = spec.get("_tasks") if isinstance(spec, Mapping) else None
    for task in tasks if isinstance(tasks, list) else []:
        if (
            isinstance(task, Mapping)
            and task.get("_fw_name") == TASK
            and isinstance(task.get("campaign"), Mapping)
        ):
            campaign: Mapping[str, Any] = task["campaign"]
            return campaign
    raise ConfigError(
        f"{path}: no campaign in it; it needs spec._tasks with _fw_name '{TASK}' and campaign: …"
    )


def checked_campaign(path: Path) -> tuple[CampaignConfig, Import]:
    """The configuration and the user's data, both checked; nothing is written."""
    config = read_campaign(path)
    return config, read_data(config)


def find_launchpad(file: Path | None = None) -> tuple[LaunchPad, Store]:
    """The LaunchPad of this file, or the one FireWorks finds by its own rules, and the store in its database.

    Raises
    ------
    StoreError
        The database is not reachable; the message says where it was looked for.
    """
    launchpad = _launchpad(file or launchpad_file())
    store = Store.from_launchpad(launchpad)
    check_connection(store)
    store.ensure_indexes()
    prepare(launchpad)
    return launchpad, store


def _launchpad(file: Path | None) -> LaunchPad:
    """The LaunchPad of a file; without one, FireWorks' own default."""
    if file is not None:
        read_launchpad(file)  # says in one line what FireWorks would not
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # FireWorks prints when it finds no file
            return LaunchPad.from_file(str(file)) if file else LaunchPad.auto_load()
    except (
        Exception
    ) as error:  # FireWorks and MongoDB's driver raise their own; a message may repeat the password
        raise StoreError(
            f"launchpad file {file}: {type(error).__name__}: check host, port and name"
        ) from None


def launchpad_file() -> Path | None:
    """The launchpad file that FireWorks found, if any."""
    return Path(LAUNCHPAD_LOC) if LAUNCHPAD_LOC else None

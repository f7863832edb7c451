"""`alfw init`: a working folder from the templates."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from alfw.core.errors import ConfigError


def make_folder(folder: Path, template: str) -> list[Path]:
    """The files written into `folder`: the campaign of this template, FireWorks settings, worker and queue files.

    Raises
    ------
    ConfigError
        Unknown template, or one of the files is there already (nothing is written then).
    """
    root = files("alfw.fw_templates")
    campaigns = {entry.name: entry for entry in root.joinpath("campaigns").iterdir() if entry.is_dir()}
    if template not in campaigns:
        raise ConfigError(f"--template {template}: unknown; there are {', '.join(sorted(campaigns))}")
    sources = _plain_files(campaigns[template]) + _plain_files(root.joinpath("worker"))
    folder = folder.resolve()
    there = [source.name for source in sources if (folder / source.name).exists()]
    if there:
        raise ConfigError(f"{folder} has {there[0]} already: choose another folder, or move it away")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None
    written = []
    for source in sources:
        text = source.read_text(encoding="utf-8").replace("{folder}", str(folder))
        path = folder / source.name
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _plain_files(directory: Traversable) -> list[Traversable]:
    return sorted(
        (
            e
            for e in directory.iterdir()
            if e.is_file() and e.name != "__init__.py" and not e.name.endswith(".in")
        ),
        key=lambda entry: entry.name,
    )

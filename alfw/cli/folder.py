"""`alfw init`: a working folder from the templates."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from jinja2 import StrictUndefined, Template

from alfw.core.errors import ConfigError

# Commands of the two older systems, which a folder for their users gets as scripts of the same names.
SCRIPTS = {
    "nequix-al": (
        "run_ensemble.py",
        "select_high_uncertainty.py",
        "launch_dft.sh",
        "update_dataset.py",
        "train_ensemble.py",
        "validate_models.py",
    ),
    "physnet": (
        "active_learning_manager.py",
        "prepare_qm_inputs.py",
        "convert_qm_to_npz.py",
        "merge_datasets.py",
        "trainer.py",
        "run_production_md.py",
        "jaxmd_dynamics.py",
    ),
}
# `alfw db start` writes my_launchpad.yaml; for the database of a site, this one is filled in and renamed.
TARGETS = {"my_launchpad.yaml.in": "my_launchpad_site.yaml"}


def make_folder(folder: Path, template: str) -> list[Path]:
    """The files written into `folder`: the campaign of this template, FireWorks settings, worker and queue files.

    Templates of the older systems bring their commands as scripts.

    Raises
    ------
    ConfigError
        Unknown template, or one of the files is there already (nothing is written then).
    """
    root = files("alfw.fw_templates")
    campaigns = {entry.name: entry for entry in root.joinpath("campaigns").iterdir() if entry.is_dir()}
    if template not in campaigns:
        raise ConfigError(f"--template {template}: unknown; there are {', '.join(sorted(campaigns))}")
    folder = folder.resolve()
    sources = [*campaigns[template].iterdir(), *root.joinpath("worker").iterdir()]
    targets = {folder / TARGETS.get(s.name, s.name.removesuffix(".in")): s for s in sources if s.is_file()}
    targets |= {
        folder / n: root.joinpath("scripts", f"command{Path(n).suffix}.in") for n in SCRIPTS.get(template, ())
    }
    there = [path.name for path in targets if path.exists()]
    if there:
        raise ConfigError(f"{folder} has {there[0]} already: choose another folder, or move it away")
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None
    for path, source in sorted(targets.items()):
        text = source.read_text(encoding="utf-8")
        if source.name.endswith(".in"):
            values = {"folder": folder, "bin": Path(sys.executable).parent, "name": path.stem}
            text = Template(text, undefined=StrictUndefined, keep_trailing_newline=True).render(values)
        path.touch(mode=0o600 if "launchpad" in path.name else 0o644)
        path.write_text(text, encoding="utf-8")
    return sorted(targets)

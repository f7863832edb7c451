"""`alfw qm write, run, read`: reference calculations through files, without a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from alfw.cli import output
from alfw.cli.campaign import Json
from alfw.core.errors import ConfigError, ExecutableError, LabelError, LicenseError, OutOfDiskError

Charge = Annotated[int, typer.Option(help="Of frames whose file does not say.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there with other content.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to `alfw qm`."""
    for verb in (write, run, read):
        app.command(name=verb.__name__)(verb)


def write(
    structures: Annotated[
        list[str], typer.Argument(help="Folders, files (any that ASE reads) and globs.", metavar="STRUCTURES")
    ],
    labeler: Annotated[str, typer.Option(help="orca, gaussian, psi4 …", metavar="KIND")],
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder for the inputs.", metavar="DIR")],
    method: Annotated[str | None, typer.Option(help="Functional or method.")] = None,
    basis: Annotated[str | None, typer.Option(help="Basis set.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any option of the labeler, its value in YAML.", metavar="KEY=VALUE"),
    ] = None,
    decks: Annotated[str | None, typer.Option(help="Folder with your own decks.", metavar="FOLDER")] = None,
    charge: Charge = 0,
    multiplicity: Annotated[int, typer.Option(min=1, help="2S + 1, of frames whose file does not say.")] = 1,
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="Make slabs and wires fully periodic with vacuum.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Processors of one calculation.")] = 1,
    mem_gb: Annotated[float | None, typer.Option("--mem-GB", min=0.1, help="Memory of one.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Write one input a structure, and qm.json with what they are of; frames that cannot be done are listed."""
    from alfw.core.records import Resources
    from alfw.io.named import named_frames
    from alfw.steps.qm_folder import write_folder

    options = {"kind": labeler, **settings(set_ or [])}
    options |= {k: v for k, v in {"method": method, "basis": basis, "decks": decks}.items() if v is not None}
    frames = named_frames(structures, charge, multiplicity, "vacuum" if vacuum else None)
    written = write_folder(folder, frames, options, Resources(threads=threads, mem_GB=mem_gb), force)
    if as_json:
        refused = [each.as_json("frame") for each in written.refused]
        report = {"folder": str(folder), "n_frames": len(written.stems), "inputs": written.inputs}
        output.show_json(report | {"theory": written.theory, "n_refused": len(refused), "refused": refused})
    else:
        what = f"{len(written.inputs)} inputs" if written.inputs else "no inputs, this labeler needs none"
        output.show(f"{folder}: {len(written.stems)} frames, {what}; theory {written.theory[:12]}")
        show_refused(written.refused)
        if written.stems:
            yourself = ", or run the inputs yourself one after another" if written.inputs else ""
            output.say(f"next: alfw qm run {folder}{yourself}; then alfw qm read {folder} -o labels.npz")
    return output.CHECK_FAILED if written.refused else output.OK


def settings(texts: Sequence[str]) -> dict[str, Any]:
    """Options of the form KEY=VALUE."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {text}: has to be KEY=VALUE")
        try:
            options[key.strip()] = YAML(typ="safe").load(value)
        except YAMLError as error:
            raise ConfigError(f"--set {text}: not YAML: {' '.join(str(error).split())[:100]}") from None
    return options


def run(
    folder: Annotated[Path, typer.Argument(help="What alfw qm write made.", metavar="DIR")],
    jobs: Annotated[int, typer.Option(min=1, help="Calculations at once.")] = 1,
    command: Annotated[
        str | None, typer.Option(help="How the program is started here, instead of the labeler's command.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other option that is not of the theory.", metavar="KEY=VALUE"),
    ] = None,
    as_json: Json = False,
) -> int:
    """Run what has no good output yet, with remedies; Ctrl-C stops cleanly, the same command continues."""
    from alfw.steps.qm_folder import load_folder
    from alfw.steps.qm_run import run_folder

    content = load_folder(folder, settings(set_ or []) | ({"command": command} if command else {}))
    try:
        with progress("running", len(content.items)) as tell:
            done = run_folder(content, jobs, tell)
    except KeyboardInterrupt:
        output.say(f"{folder}: stopped; the same command continues")
        return 130
    except LabelError as error:
        output.fail(" ".join(str(error).split()))
        here = isinstance(error, (ExecutableError, LicenseError, OutOfDiskError))
        return output.INFRASTRUCTURE if here else output.USER_ERROR
    if as_json:
        failed = [each.as_json("frame") for each in done.failed]
        counts = {"n_frames": len(content.items), "n_skipped": done.skipped, "n_good": len(done.good)}
        output.show_json({"folder": str(folder), **counts, "n_failed": len(failed), "failed": failed})
    else:
        before = f", {done.skipped} done before" if done.skipped else ""
        output.show(f"{folder}: {len(done.good)} good, {len(done.failed)} failed{before}")
        show_refused(done.failed)
        output.say(f"next: alfw qm read {folder} -o labels.npz")
    return output.CHECK_FAILED if done.failed else output.OK


def read(
    outputs: Annotated[
        list[str],
        typer.Argument(help="Outputs, folders of them or of alfw qm write, globs.", metavar="OUTPUTS"),
    ],
    path: Annotated[Path, typer.Option("-o", "--output", help="File to write: .npz or .extxyz.")],
    labeler: Annotated[
        str | None, typer.Option(help="The code; by default each output tells.", metavar="CODE")
    ] = None,
    charge: Charge = 0,
    multiplicity: Annotated[
        int | None, typer.Option(min=1, help="2S + 1, of outputs that do not say.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Labels of every complete step of every good output; bad ones are listed with class and signature."""
    from alfw.labelers.outputs import reader
    from alfw.steps.qm_read import check_suffix, collect, find_sources, save

    check_suffix(path)
    if labeler is not None:
        reader(labeler)
    sources = find_sources(outputs, labeler)
    with progress("reading", len(sources)) as tell:
        collected = collect(
            sources, labeler, charge, multiplicity, lambda source, bad: tell(source.name, bad)
        )
    report = save(path, collected)
    if as_json:
        output.show_json(report)
    else:
        output.show(summary(path, report))
        show_refused(collected.refused)
    if len(collected.versions) > 1:
        output.say(f"note: outputs of several versions: {', '.join(collected.versions)}")
    return output.CHECK_FAILED if collected.refused else output.OK


def summary(path: Path, report: dict[str, Any]) -> str:
    """What was read, in one line."""
    if not report["n_labels"]:
        return f"no good output among {report['n_outputs']}: {path} is not written"
    carried = ", ".join(f"{name} {count}" for name, count in report["properties"].items())
    again = f", {report['n_repeated']} repeated" if report["n_repeated"] else ""
    refused = f", {report['n_refused']} refused" if report["n_refused"] else ""
    counts = f"{report['n_labels']} labels from {report['n_outputs']} outputs{refused}{again}"
    code = report["theory"] if ":" in report["theory"] else ", ".join(report["versions"]) or report["code"]
    return f"{path}: {counts}; {code}; {carried}; in eV, Å, e·Å, V"


def show_refused(refused: Sequence[Any]) -> None:
    """One line for each frame or output without a label."""
    for each in refused:
        more = "" if each.signature in each.message else f" [{each.signature}]"
        output.show(f"  {each.name}: {each.failure_class}: {each.message}{more}")


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[str, Any], None]]:
    """A bar on a terminal's stderr; gets each name when it is done, with what is wrong with it or None."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    bar = Progress(*columns, console=output.err, transient=True, disable=not output.err.is_terminal)
    with bar:
        task = bar.add_task("", total=total)
        failed = 0

        def tell(name: str, refused: Any) -> None:
            nonlocal failed
            failed += refused is not None
            bar.update(task, advance=1, description=f"{failed} failed" if failed else "")

        yield tell

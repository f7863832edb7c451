"""`alfw sample`, `alfw compare-md`: exploration and long runs from files, without a database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from alfw.cli import output
from alfw.cli.campaign import Json
from alfw.cli.train import plugin_options, progress
from alfw.cli.validate import SeveralWords

Models = Annotated[
    list[Path], typer.Argument(help="A folder with ensemble.json, or files of members.", metavar="MODEL...")
]
Structures = Annotated[
    list[str],
    typer.Option("--structures", help="Frames to start from: files, folders, globs.", metavar="PATH..."),
]
Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.", metavar="DIR")]
SET = "Any option of the sampler, in YAML: n_steps=100000, limits.max_force_eV_per_A=10."
Settings = Annotated[list[str] | None, typer.Option("--set", help=SET, metavar="KEY=VALUE")]
Format = Literal["traj", "extxyz"]
Window = Literal["blackman", "hann"]
Correction = Literal["harmonic", "standard", "schofield"]


def register(app: typer.Typer) -> None:
    """Add these verbs to `alfw`."""
    app.command(name="sample", cls=SeveralWords)(sample)
    app.command(name="compare-md")(compare_md)


def sample(
    models: Models,
    structures: Structures,
    folder: Folder,
    sampler: Annotated[
        str, typer.Option(help="jaxmd, ase-md, rattle, strain, normal-modes, random …", metavar="KIND")
    ] = "jaxmd",
    set_: Settings = None,
    seed: Annotated[int, typer.Option(help="Of all random numbers; seed modulo members drives MD.")] = 0,
    ir: Annotated[bool, typer.Option("--ir", help="Infrared spectrum from the dipole moments.")] = False,
    ir_resolution: Annotated[
        float, typer.Option(min=0.1, help="Of the spectrum, 1/cm at half height.")
    ] = 10.0,
    ir_window: Annotated[Window, typer.Option(help="On the autocorrelation.")] = "blackman",
    ir_correction: Annotated[
        Correction, typer.Option(help="Quantum correction; harmonic: the classical expression as it is.")
    ] = "harmonic",
    pool: Annotated[Literal["extxyz", "npz"], typer.Option(help="Format of the frames kept.")] = "extxyz",
    trajectory: Annotated[
        Format | None, typer.Option(help="Trajectories for ASE as well, in this format.")
    ] = None,
    charge: Annotated[int, typer.Option(help="Of frames whose file does not say.")] = 0,
    multiplicity: Annotated[int, typer.Option(min=1, help="2S + 1, of frames whose file does not say.")] = 1,
    vacuum: Annotated[bool, typer.Option("--vacuum", help="Make slabs and wires fully periodic.")] = False,
    device: Annotated[Literal["cpu", "gpu"], typer.Option(help="Where it runs.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Processors.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace the run that is there.")] = False,
    as_json: Json = False,
) -> int:
    """Explore with a model, all frames in memory: results appear complete at the end, or not at all."""
    from alfw.core.records import Resources
    from alfw.steps.md_spectrum import Infrared
    from alfw.steps.sample_files import check_folder, sample_files
    from alfw.steps.sample_run import from_files, make_sampler

    check_folder(folder, force)
    options = plugin_options(sampler, set_ or [])
    if ir and sampler in ("jaxmd", "ase-md") and "ensemble" not in options:
        options["ensemble"] = "nve"
        output.say("--ir: at constant energy (ensemble=nve), as a thermostat widens bands")
    run = from_files(
        models,
        make_sampler(options),
        structures,
        charge,
        multiplicity,
        "vacuum" if vacuum else None,
        **{"seed": seed, "resources": Resources(device=device, threads=threads)},
        **{"pool": pool, "trajectory": trajectory or ""},
        infrared=Infrared(ir_resolution, ir_window, ir_correction) if ir else None,
    )
    for line in run.warnings():
        output.say(line)
    try:
        with progress() as tell:
            found = sample_files(run, folder, force, tell)
    except KeyboardInterrupt:
        output.say(f"{folder}: stopped; nothing is kept of it")
        return 130
    for line in found.summary["notes"]:
        if line not in run.warnings():
            output.say(line)
    if as_json:
        output.show_json({"folder": str(folder), **found.summary})
    else:
        from alfw.steps.md_table import lines

        for line in lines(folder, found.summary):
            output.show(line)
    return output.OK


def compare_md(
    first: Annotated[Path, typer.Argument(help="A folder of alfw sample or run_production_md.")],
    second: Annotated[Path, typer.Argument(help="Another, with the other model.")],
    as_json: Json = False,
) -> int:
    """Compare two runs: explosions, forces, how long trajectories last, spectra."""
    from alfw.steps.md_compare import compare

    found = compare(first, second)
    if as_json:
        output.show_json(found)
        return output.OK
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    for name in (str(first), str(second)):
        table.add_column(name, justify="right")
    for row in found["rows"]:
        table.add_row(row["what"], *row["shown"])
    output.out.print(table)
    for line in found["findings"]:
        output.show(line)
    for line in found["notes"]:
        output.say(line)
    return output.OK

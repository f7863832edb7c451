"""`run_production_md`: a long run of a molecule with stability, trajectory and infrared spectrum."""

from __future__ import annotations

import io
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Sequence
from pathlib import Path

from alfw.compat._dynamics import TEMPERATURE, Dynamics, about, make_run, run_and_show, spectrum
from alfw.compat._shell import OK, Parser, leave, say
from alfw.core.errors import ConfigError
from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.io.frames import read_frames
from alfw.io.trajectory_npz import Track
from alfw.models.ensemble import load_models
from alfw.steps.md_start import MOLECULES, named_molecule, relaxed
from alfw.steps.sample_files import check_folder

SAVE_INTERVAL, SPECTRUM_INTERVAL_FS = 100, 2.0


def parser() -> Parser:
    """The flags of the older system, and a few more."""
    parser = Parser("run_production_md", "A long run of a molecule, in true units.")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="folder of an ensemble, .nqx, .pt, or .npz of PhysNet"
    )
    parser.add_argument("--molecule", default="CO2", help=f"{' or '.join(MOLECULES)} (%(default)s)")
    parser.add_argument("--geometry", type=Path, help="any molecule, as xyz; its first frame")
    parser.add_argument("--output-dir", type=Path, default=Path("production_md"))
    parser.add_argument("--ensemble", choices=("nve", "nvt"), default="nve")
    parser.add_argument(
        "--integrator",
        choices=("velocity-verlet", "langevin", "berendsen", "nose-hoover"),
        help="velocity-verlet of nve, langevin of nvt by default",
    )
    parser.add_argument("--temperature", type=float, default=300.0, help=TEMPERATURE)
    parser.add_argument(
        "--timestep", type=float, default=0.5, help="true fs (%(default)s: the 0.01 of old were 1 fs)"
    )
    parser.add_argument("--nsteps", type=int, default=500000, help="(%(default)s)")
    parser.add_argument(
        "--save-interval",
        type=int,
        help=f"steps ({SAVE_INTERVAL}; with --analyze-ir what {SPECTRUM_INTERVAL_FS} fs take)",
    )
    parser.add_argument("--equilibration-steps", type=int, default=0, help="of nvt (%(default)s)")
    parser.add_argument("--analyze-ir", action=BooleanOptionalAction, default=False, help="infrared spectrum")
    parser.add_argument(
        "--convert-to-ase", action=BooleanOptionalAction, default=True, help="trajectory.traj"
    )
    parser.add_argument("--friction", type=float, default=0.01, help="of langevin, 1/fs (%(default)s)")
    parser.add_argument(
        "--tau-t", type=float, default=100.0, help="of the other thermostats, fs (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--force", action="store_true", help="replace the run that is there")
    return parser


def work(arguments: Namespace) -> int:
    """Run and say how it went; the exit code."""
    asked = Dynamics(
        *(arguments.ensemble, arguments.integrator, arguments.temperature, arguments.timestep),
        *(arguments.nsteps, _save_interval(arguments), arguments.friction, arguments.tau_t),
        equilibration_steps=arguments.equilibration_steps,
    )
    check_folder(arguments.output_dir, arguments.force)
    asked.options()  # what is wrong with them is said before a model is loaded
    start, name = _geometry(arguments)
    potential = load_models([arguments.checkpoint])
    wanted = spectrum(arguments.analyze_ir)
    if wanted is not None:
        wanted.check(potential, [start], "--analyze-ir")
    start, log, done = relaxed(potential, start)
    say(done)
    files = {f"{name}_optimized.xyz": _xyz(potential, start)}
    if log:
        files["optimization.log"] = log.encode()

    def beside(tracks: Sequence[Track]) -> dict[str, bytes]:
        return files

    run = make_run(
        potential,
        start,
        asked,
        arguments.seed,
        infrared=wanted,
        trajectory="traj" if arguments.convert_to_ase else "",
        beside=beside,
        about=about(arguments.checkpoint, {"molecule": name}),
    )
    run_and_show(run, asked, arguments.output_dir, arguments.force)
    return OK


def _save_interval(arguments: Namespace) -> int:
    """Steps between two frames; with a spectrum often enough for it, where nothing else is asked for."""
    if arguments.save_interval is not None or not arguments.analyze_ir:
        return int(arguments.save_interval or SAVE_INTERVAL)
    steps = max(1, int(SPECTRUM_INTERVAL_FS / arguments.timestep + 1e-9))
    every = f"every {steps * arguments.timestep:g} fs"
    say(f"--save-interval {steps}: {every}, for the spectrum ({SAVE_INTERVAL} without)")
    return steps


def _geometry(arguments: Namespace) -> tuple[Frame, str]:
    """The molecule to begin with, and its name."""
    if arguments.geometry is None:
        return named_molecule(arguments.molecule), arguments.molecule
    frame = read_frames(arguments.geometry)[0].frame
    if frame.periodic:
        raise ConfigError(f"--geometry {arguments.geometry}: periodic; alfw sample runs crystals and liquids")
    given = arguments.molecule if arguments.molecule != "CO2" or frame.formula == "CO2" else frame.formula
    return frame, given


def _xyz(potential: Potential, frame: Frame) -> bytes:
    """The frame with what the ensemble says of it, as extended XYZ."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    said, atoms = potential.predict([frame]), frame.to_atoms()
    results = {"energy": float(said.energy.mean()), "forces": said.forces[0].mean(0)}
    atoms.calc = SinglePointCalculator(atoms, **results)
    text = io.StringIO()
    write(text, atoms, format="extxyz")
    return text.getvalue().encode()


if __name__ == "__main__":
    leave(parser(), work)

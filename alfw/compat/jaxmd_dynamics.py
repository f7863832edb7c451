"""`jaxmd_dynamics`: molecular dynamics of a molecule with jax-md, as a command and as a Python call.

from alfw.compat.jaxmd_dynamics import run_jaxmd_simulation

results = run_jaxmd_simulation(
    "checkpoints/retrained", positions=positions, atomic_numbers=[8, 1, 1], ensemble="nvt", temperature=300.0,
    timestep=0.5, nsteps=100000, output_dir=Path("md_300K"), save_unstable_structures=True,
    active_learning_dir=Path("my_al_data"),
)
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from alfw.compat._dynamics import INTEGRATORS, TEMPERATURE, Dynamics, about, make_run, run_and_show
from alfw.compat._shell import OK, Parser, leave, say
from alfw.core.errors import ConfigError
from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.io.multi_copy import multi_copy
from alfw.io.trajectory_npz import Track, arrays_of
from alfw.models.ensemble import load_models
from alfw.steps.events import save_events
from alfw.steps.md_start import MOLECULES, named_molecule
from alfw.steps.sample_files import about_events, check_folder, explore, sample_files

CUTOFF_A, TRANSLATION_A = 10.0, 25.0
KEYS = (
    *("trajectory", "velocities", "times", "energies", "temperatures", "dipoles_physnet", "dipoles_dcmnet"),
    *("timestep", "atomic_numbers", "masses"),
)


def run_jaxmd_simulation(
    model: Potential | str | Path,
    params: None = None,
    positions: ArrayLike | None = None,
    atomic_numbers: ArrayLike | None = None,
    masses: ArrayLike | None = None,
    box: ArrayLike | None = None,
    ensemble: str = "nvt",
    integrator: str = "langevin",
    temperature: float = 300.0,
    timestep: float = 0.5,
    nsteps: int = 10000,
    save_interval: int = 10,
    cutoff: float | None = None,
    friction: float = 0.01,
    tau_t: float = 100.0,
    equilibration_steps: int = 2000,
    output_dir: str | Path | None = None,
    seed: int = 42,
    save_unstable_structures: bool = True,
    active_learning_dir: str | Path | None = None,
    *,
    charge: int = 0,
    multiplicity: int = 1,
    force: bool = False,
) -> dict[str, Any]:
    """The trajectory by the keys of ``trajectory.npz``, see `alfw.io.trajectory_npz`; its end where it exploded.

    The parameters are those of the older system, in true units (its `timestep` of 0.05 was 5 fs).

    Parameters
    ----------
    model : Potential, or path of a checkpoint
        A folder of an ensemble, ``.nqx``, ``.pt``, or ``.npz`` of PhysNet; it has its weights.
    params, box, cutoff
        Without a use: `params` has to be None; the molecule is alone in space, as it was there; the cutoff is the
        model's own.
    positions : (n, 3) Å
    atomic_numbers : (n,)
    masses : (n,) amu or None
        None = the standard ones.
    ensemble : {"nvt", "nve"}
    integrator : {"langevin", "nose-hoover", "berendsen", "velocity-rescale", "velocity-verlet"}
        Of "nvt"; Langevin dynamics takes the place of "berendsen" and "velocity-rescale".
    friction : float, 1/fs
    tau_t : float, fs
    output_dir : path or None
        For trajectory.npz, picture, summary, event files; None: nothing is written but to `active_learning_dir`.
    save_unstable_structures : bool
        Write event files of explosions (limits: 10 eV/Å, 1 Å/fs, 100 Å) and of forces above 5 eV/Å.
    active_learning_dir : path or None
        Where to; None: ``active_learning`` in `output_dir`.
    charge, multiplicity : int
        Of the molecule.
    force : bool
        Replace the run in `output_dir`.

    Raises
    ------
    AlfwError
        In one line what is wrong: a pickled checkpoint (and how to convert it), parameters that cannot be, a folder
        that has a run already.
    """
    if params is not None:
        raise ConfigError(
            "params: alfw's models have their weights: give the folder of the ensemble as model, a pickled checkpoint"
            " after: alfw convert checkpoint --trust best_params.pkl -o OUT.npz"
        )
    if positions is None or atomic_numbers is None:
        raise ConfigError("positions and atomic_numbers are needed: the molecule to move")
    given = None if masses is None else np.asarray(masses, np.float64)
    start = Frame(
        np.asarray(atomic_numbers, np.int64),
        np.asarray(positions, np.float64),
        charge=charge,
        multiplicity=multiplicity,
        masses=given,
    )
    asked = Dynamics(
        *(ensemble, integrator, temperature, timestep, nsteps, save_interval, friction, tau_t),
        equilibration_steps=equilibration_steps,
    )
    potential = load_models([Path(model)]) if isinstance(model, str | Path) else model
    more: dict[str, Any] = {}
    if isinstance(model, str | Path):
        more["about"] = about(Path(model), {})
    events = None if active_learning_dir is None else Path(active_learning_dir)
    run = make_run(potential, start, asked, seed, events=events, save_events=save_unstable_structures, **more)
    if output_dir is not None:
        found = sample_files(run, Path(output_dir), force)
    else:
        found = explore(run)
        if events is not None and save_unstable_structures:
            save_events(events, found.seen.events, potential, about_events(run))
    return _results(found.tracks, start, timestep)


def _results(tracks: Sequence[Track], start: Frame, timestep: float) -> dict[str, Any]:
    """The arrays of the only walker; no rows where it exploded before a frame was kept."""
    none = np.zeros(0)
    shape = np.zeros((0, len(start), 3))
    empty = Track(
        start, 0, timestep, none.astype(np.int64), none, shape, None, none, none, shape.astype(np.float32)
    )
    return arrays_of(tracks[0] if tracks else empty)


def parser() -> Parser:
    """The flags of the older system, and a few more."""
    parser = Parser("jaxmd_dynamics", "Molecular dynamics of a molecule, in true units.")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="folder of an ensemble, .nqx, .pt, or .npz of PhysNet"
    )
    parser.add_argument("--molecule", default="CO2", help=f"{' or '.join(MOLECULES)} (%(default)s)")
    parser.add_argument("--output-dir", type=Path, default=Path("jaxmd_sim"))
    parser.add_argument("--ensemble", choices=("nve", "nvt"), default="nvt")
    parser.add_argument("--temperature", type=float, default=300.0, help=TEMPERATURE)
    parser.add_argument("--timestep", type=float, default=0.5, help="true fs (%(default)s)")
    parser.add_argument("--nsteps", type=int, default=100000, help="after the equilibration (%(default)s)")
    parser.add_argument("--save-interval", type=int, default=10, help="steps (%(default)s)")
    parser.add_argument("--cutoff", type=float, default=CUTOFF_A, help="the model has its own")
    parser.add_argument("--integrator", choices=INTEGRATORS, help="of nvt: langevin by default")
    parser.add_argument("--friction", type=float, default=0.01, help="of langevin, 1/fs (%(default)s)")
    parser.add_argument(
        "--tau-t",
        type=float,
        default=100.0,
        help="of nose-hoover and what langevin replaces, fs (%(default)s)",
    )
    parser.add_argument(
        "--equilibration-steps", type=int, default=2000, help="of nvt, with its thermostat (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--multi-replicas", type=int, default=1, help="copies that do not see each other")
    parser.add_argument("--multi-ensemble", choices=("nvt", "nve"), default="nvt", help="of several copies")
    parser.add_argument("--multi-translation", type=float, default=TRANSLATION_A, help="not needed here")
    parser.add_argument("--force", action="store_true", help="replace the run that is there")
    return parser


def work(arguments: Namespace) -> int:
    """Run and say how it went; the exit code."""
    several = arguments.multi_replicas > 1
    asked = Dynamics(
        ensemble=arguments.multi_ensemble if several else arguments.ensemble,
        replicas=arguments.multi_replicas,
        **{
            name: getattr(arguments, name)
            for name in (
                *("integrator", "temperature", "timestep", "nsteps", "save_interval", "friction", "tau_t"),
                "equilibration_steps",
            )
        },
    )
    check_folder(arguments.output_dir, arguments.force)
    asked.options()  # what is wrong with them is said before a model is loaded
    start = named_molecule(arguments.molecule)
    potential = load_models([arguments.checkpoint])
    if arguments.cutoff != CUTOFF_A or arguments.multi_translation != TRANSLATION_A:
        say(
            "flags without effect here: --cutoff (the model's own), --multi-translation (copies do not see each other)"
        )
    run = make_run(
        potential,
        start,
        asked,
        arguments.seed,
        about=about(arguments.checkpoint, {"molecule": arguments.molecule}),
        beside=lambda tracks: _copies(tracks, asked, potential.cutoff_A),
    )
    run_and_show(run, asked, arguments.output_dir, arguments.force)
    return OK


def _copies(tracks: Sequence[Track], asked: Dynamics, cutoff_A: float) -> dict[str, bytes]:
    """The two files of several copies."""
    if asked.replicas == 1 or not tracks:
        return {}
    about = {
        **{"cutoff": cutoff_A, "temperature": asked.temperature, "translation": np.nan},
        **{"multi_ensemble": asked.ensemble, "save_interval": asked.save_interval},
        "thermostat_invariant": np.nan,
    }
    return multi_copy(tracks, asked.replicas, about)


if __name__ == "__main__":
    leave(parser(), work)

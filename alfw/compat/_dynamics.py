"""What the older system's two commands of molecular dynamics share: their flags as options of alfw's sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alfw.compat._shell import say, show
from alfw.core.errors import ConfigError
from alfw.core.frame import Frame
from alfw.core.protocols import JaxPotential, Potential
from alfw.io.trajectory_npz import Track
from alfw.steps.md_spectrum import Infrared
from alfw.steps.md_table import lines
from alfw.steps.sample_files import sample_files
from alfw.steps.sample_run import Run, make_sampler, model_id
from alfw.steps.train_table import now_and_then

TIMESTEP = (
    "--timestep {0:g} fs: true femtoseconds (what the older system called 0.01 fs were 1 fs, its 0.5 fs were 50 fs;"
    " --friction, --tau-t and the limit on speed are in true units, too)"
)
TEMPERATURE = (
    "K (%(default)s); of nve that of the velocities at the start: from a minimum half of it stays in motion"
)
# The older system's thresholds, on norms and in true units; its largest position is how far the molecule grows.
LIMITS = {
    "max_force_eV_per_A": 10.0,
    "max_speed_A_per_fs": 1.0,
    "max_growth_A": 100.0,
    "force_std_eV_per_A": None,
}
HIGH_FORCE = {"quantile": None, "max_force_eV_per_A": 5.0}
INTEGRATORS = ("velocity-verlet", "langevin", "berendsen", "velocity-rescale", "nose-hoover")
# They bring the mean to the temperature, but sample no ensemble that is known.
REPLACED = ("berendsen", "velocity-rescale")


@dataclass(frozen=True)
class Dynamics:
    """The older system's settings of a run, under its names; times in true femtoseconds.

    Attributes
    ----------
    friction : float, 1/fs
    tau_t : float, fs
    equilibration_steps : int
        Before the `nsteps`; with the thermostat of the run, none at constant energy.
    replicas : int
    """

    ensemble: str
    integrator: str | None
    temperature: float
    timestep: float
    nsteps: int
    save_interval: int
    friction: float = 0.01
    tau_t: float = 100.0
    equilibration_steps: int = 0
    replicas: int = 1

    def options(self) -> dict[str, Any]:
        """Options of alfw's sampler.

        Raises
        ------
        ConfigError
            An integrator that is not known, or that keeps the energy where a temperature is asked for.
        """
        before = self.equilibration_steps if self.ensemble == "nvt" else 0
        return {
            **{"ensemble": self.ensemble, "temperatures_K": [self.temperature], "walkers": self.replicas},
            **{"dt_fs": self.timestep, "n_steps": before + self.nsteps, "keep_every": self.save_interval},
            **{"equilibration_steps": before, "limits": LIMITS, "high_force": HIGH_FORCE},
            **self._thermostat(),
        }

    def notes(self) -> list[str]:
        """What is done otherwise than the flags say, one line each."""
        lines = []
        if self.ensemble == "nve" and self.integrator not in (None, "velocity-verlet"):
            lines.append(f"--integrator {self.integrator}: not used, --ensemble nve is velocity Verlet")
        if self.ensemble == "nvt" and self.integrator in REPLACED:
            lines.append(
                f"--integrator {self.integrator}: samples no known ensemble; Langevin dynamics with a friction of"
                f" 1/tau-t = {1000 / self.tau_t:g}/ps takes its place"
            )
        return lines

    def _thermostat(self) -> dict[str, Any]:
        """Options of the thermostat."""
        if self.integrator not in (None, *INTEGRATORS):
            raise ConfigError(f"--integrator {self.integrator}: known are {', '.join(INTEGRATORS)}")
        if self.ensemble == "nve":
            return {}
        if self.integrator == "velocity-verlet":
            raise ConfigError(
                "--integrator velocity-verlet keeps the energy: --ensemble nve, or --integrator langevin"
            )
        if self.integrator == "nose-hoover":
            return {"thermostat": "nose-hoover", "tau_fs": self.tau_t}
        return {"friction_per_ps": 1000 / self.tau_t if self.integrator in REPLACED else 1000 * self.friction}


def make_run(potential: Potential, start: Frame, asked: Dynamics, seed: int, **more: Any) -> Run:
    """The run of alfw for these settings; by jax-md where it can drive the potential, else by ASE's way.

    Raises
    ------
    ConfigError
        Settings that cannot be.
    """
    kind = "jaxmd" if isinstance(potential, JaxPotential) else "ase-md"
    sampler = make_sampler({"kind": kind, **asked.options()})
    return Run(potential, sampler, [start], seed, pool="", plot=f"jaxmd_{asked.ensemble}_results.png", **more)


def run_and_show(run: Run, asked: Dynamics, folder: Path, force: bool) -> Sequence[Track]:
    """Run into a folder and say what was found; the trajectories."""
    said = [TIMESTEP.format(asked.timestep), *asked.notes(), *run.warnings()]
    for line in said:
        say(line)
    found = sample_files(run, folder, force, now_and_then(say))
    for line in found.summary["notes"]:
        if line not in said:
            say(line)
    for line in lines(folder, found.summary):
        show(line)
    files = [name for name in found.summary["files"] if "/" not in name]
    show(f"files in {folder}: {', '.join(files)}")
    return found.tracks


def spectrum(wanted: bool) -> Infrared | None:
    """How the spectrum is made."""
    return Infrared() if wanted else None


def about(checkpoint: Path, flags: Mapping[str, Any]) -> dict[str, Any]:
    """What the summary says of where a run is from."""
    return {"model": model_id([checkpoint]), "models": [str(checkpoint)], "flags": dict(flags)}

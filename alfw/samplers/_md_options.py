"""Which options of molecular dynamics go together: the same for every sampler of it."""

from __future__ import annotations

from typing import Any, Literal

from alfw.samplers._limits import MDLimits

# Options that only some runs have; elsewhere they are refused rather than ignored.
ONLY = {
    **dict.fromkeys(("pressure_GPa", "tau_pressure_fs", "compressibility_per_GPa"), "ensemble: npt"),
    "thermostat": "ensemble: nvt",
    "tau_fs": "thermostat: nose-hoover",
    "friction_per_ps": "a Langevin thermostat",
    "ramp_K": "a thermostat",
    "bias": "a thermostat, which takes up the heat",
}


def check_options(options: Any) -> None:
    """Raise ValueError where the options of a sampler of molecular dynamics contradict one another."""
    if options.walkers < len(options.temperatures_K):
        raise ValueError(
            f"walkers {options.walkers} are too few for {len(options.temperatures_K)} temperatures"
        )
    if options.equilibration_steps + options.keep_every > options.n_steps:
        raise ValueError("no frame would be kept: equilibration_steps + keep_every is above n_steps")
    if bool(options.temperatures_K) == (options.ramp_K is not None):
        raise ValueError("give either temperatures_K, one or more, or ramp_K, the first and the last")
    if options.ensemble == "npt" and options.pressure_GPa is None:
        raise ValueError("pressure_GPa: ensemble 'npt' needs it, e.g. 0.0001 (1 bar)")
    thermostatted = options.ensemble != "nve"
    has = {
        "ensemble: npt": options.ensemble == "npt",
        "ensemble: nvt": options.ensemble == "nvt",
        "thermostat: nose-hoover": options.thermostat == "nose-hoover",
        "a Langevin thermostat": thermostatted and options.thermostat == "langevin",
    }
    for option in sorted(options.model_fields_set & ONLY.keys()):
        value = getattr(options, option)
        as_it_is = value is None or (value == "langevin" and thermostatted)
        if not as_it_is and not has.get(ONLY[option], thermostatted):
            raise ValueError(f"{option}: needs {ONLY[option]}")


def limits_need(limits: MDLimits) -> dict[str, Literal["members", "heads"]]:
    """What the limits ask of an ensemble, see `NeedsSpread`; one left at its default asks for nothing."""
    needs: dict[str, Literal["members", "heads"]] = {}
    if limits.force_std_eV_per_A is not None and "force_std_eV_per_A" in limits.model_fields_set:
        needs["limits.force_std_eV_per_A"] = "members"
    if limits.energy_std_eV_per_atom is not None:
        needs["limits.energy_std_eV_per_atom"] = "heads"
    return needs

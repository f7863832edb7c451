"""The infrared spectrum of a run, what its user should know of it, and its files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import ConfigError
from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.core.spectrum import C_CM_PER_FS, Correction, Spectrum, Window, infrared, nyquist_per_cm
from alfw.io.files import write_file
from alfw.io.trajectory_npz import Track
from alfw.steps.md_report import mean_temperature
from alfw.steps.md_tracks import knows_dipoles

SOURCE = "doi:10.1039/C3CP44302G"
UNITS = {"wavenumber_per_cm": "1/cm", "intensity": "km cm/mol (napierian, integral in km/mol)"}
LARGEST_INTERVAL_FS = 3.0
FEWEST = 16  # frames without which there is no spectrum
NAME = "ir_spectrum_md"


@dataclass(frozen=True)
class Infrared:
    """How a spectrum is made, see `core.spectrum.infrared`.

    Attributes
    ----------
    resolution_per_cm : float
    window : {"blackman", "hann"}
    correction : {"harmonic", "standard", "schofield"}
    """

    resolution_per_cm: float = 10.0
    window: Window = "blackman"
    correction: Correction = "harmonic"

    def check(self, potential: Potential, starts: Sequence[Frame], flag: str = "--ir") -> None:
        """Refuse what has no infrared spectrum, before anything is run; `flag` asked for it.

        Raises
        ------
        ConfigError
            Periodic or different molecules, or a potential without a dipole moment; what to do about it.
        """
        formulas = sorted({frame.formula for frame in starts})
        if any(frame.periodic for frame in starts):
            raise ConfigError(
                f"{flag}: a periodic frame has no dipole moment: give a molecule, or leave it out"
            )
        if len(formulas) > 1:
            raise ConfigError(f"{flag}: one molecule at a time, not {', '.join(formulas[:5])}")
        if not knows_dipoles(potential, starts[0]):
            raise ConfigError(
                f"{flag}: {type(potential).__name__} has no dipole moment: train one that has charges"
                " (alfw train --model physnet), or leave it out"
            )

    def spectra(self, tracks: Sequence[Track], interval_fs: float) -> dict[str, Spectrum]:
        """One by name of the dipole moment: "physnet", "dcmnet", or "dipole"; nothing of a run that ended at once."""
        long = long_enough(tracks)
        kelvin, names = mean_temperature(long), list(long[0].dipoles) if long else []
        return {
            name.removeprefix("dipoles_").replace("dipoles", "dipole"): infrared(
                [track.dipoles[name] for track in long],
                interval_fs,
                kelvin,
                self.resolution_per_cm,
                self.window,
                self.correction,
            )
            for name in names
        }

    def warnings(
        self, interval_fs: float, friction_per_ps: float | None, found: Spectrum | None
    ) -> list[str]:
        """What the user should know, one line each.

        Parameters
        ----------
        friction_per_ps : float or None
            Of Langevin dynamics, None = no friction.
        found : Spectrum or None
            None = not yet run, or ended at once.
        """
        lines = []
        if interval_fs > LARGEST_INTERVAL_FS:
            lines.append(
                f"infrared spectrum: frames every {interval_fs:g} fs show up to {nyquist_per_cm(interval_fs):.0f} 1/cm;"
                f" what is faster appears folded: keep one every {LARGEST_INTERVAL_FS:g} fs or more often"
            )
        if friction_per_ps is not None:
            width = friction_per_ps / 1000 / (2 * np.pi * C_CM_PER_FS)
            lines.append(
                f"infrared spectrum: the thermostat's friction of {friction_per_ps:g}/ps widens every band by about"
                f" {width:.0f} 1/cm: ensemble=nve does not"
            )
        if found is not None and found.resolution_per_cm > 1.05 * self.resolution_per_cm:
            lines.append(
                f"infrared spectrum: the run is too short for {self.resolution_per_cm:g} 1/cm: it gives"
                f" {found.resolution_per_cm:.0f} 1/cm; it takes"
                f" {found.resolution_per_cm / self.resolution_per_cm:.1f} times as many steps"
            )
        return lines


def long_enough(tracks: Sequence[Track]) -> list[Track]:
    """Those at least half as long as the longest, as short ones would cost resolution; none where all are short."""
    longest = max(map(len, tracks), default=0)
    return [track for track in tracks if len(track) >= max(longest / 2, FEWEST)]


def save_spectra(
    folder: Path, found: Mapping[str, Spectrum], options: Infrared, kelvin: float
) -> dict[str, Any]:
    """JSON data about the spectra; their numbers are in ``ir_spectrum_md.npz`` and ``.csv`` of the folder."""
    first = next(iter(found.values()))
    arrays: dict[str, Any] = {"wavenumber_per_cm": first.wavenumber_per_cm}
    arrays |= {f"intensity_{name}": spectrum.intensity_km_cm_per_mol for name, spectrum in found.items()}
    about = {
        **{"window": options.window, "quantum_correction": options.correction, "temperature_K": kelvin},
        **{"resolution_per_cm": first.resolution_per_cm, "nyquist_per_cm": first.nyquist_per_cm},
        **{"units": UNITS, "source": SOURCE},
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, about=json.dumps(about))
    write_file(folder / f"{NAME}.npz", buffer.getvalue())
    rows = zip(*(values.tolist() for values in arrays.values()), strict=True)
    lines = [f"# {json.dumps(about)}", ",".join(arrays), *(",".join(f"{x:.6g}" for x in row) for row in rows)]
    write_file(folder / f"{NAME}.csv", ("\n".join(lines) + "\n").encode())
    peaks = {
        name: [{"wavenumber_per_cm": x, "intensity_km_cm_per_mol": y} for x, y in spectrum.peaks()]
        for name, spectrum in found.items()
    }
    return {**about, "peaks": peaks}


def read_spectra(path: Path) -> dict[str, Spectrum]:
    """The spectra in an ``ir_spectrum_md.npz``, by name."""
    with np.load(path, allow_pickle=False) as file:
        about, x = json.loads(str(file["about"])), file["wavenumber_per_cm"]
        return {
            key.removeprefix("intensity_"): Spectrum(
                x, file[key], about["resolution_per_cm"], about["nyquist_per_cm"]
            )
            for key in file.files
            if key.startswith("intensity_")
        }

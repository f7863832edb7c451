"""Pictures of molecular dynamics and of its infrared spectrum, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import rc_context

from alfw.core.frame import Float
from alfw.core.spectrum import Spectrum
from alfw.io._plots import COLOURS, DASHES, STYLE, figure, png
from alfw.io.trajectory_npz import Track

POINTS = 4000  # of a line; of more, every so many
WALKERS = 20  # drawn of each panel


@rc_context(STYLE)
def course(tracks: Sequence[Track], title: str, max_force: float | None = None) -> bytes:
    """Energy, temperature, largest force and dipole moment over time, as far as they are known; a line a walker."""
    panels: dict[str, list[Float | None]] = {
        "energy − first / eV": [
            _from_first(t.potential_eV if t.total_eV is None else t.total_eV) for t in tracks
        ],
        "temperature / K": [track.temperature_K for track in tracks],
        "largest force / (eV/Å)": [track.max_force_eV_per_A for track in tracks],
        "dipole moment / (e·Å)": [_dipole(track) for track in tracks],
    }
    shown = {name: lines for name, lines in panels.items() if any(line is not None for line in lines)}
    drawn, axes = figure(len(shown), columns=2, size=(5.4, 3.2))
    drawn.suptitle(title)
    for axis, (name, lines) in zip(axes, shown.items(), strict=True):
        for i, (track, line) in enumerate(zip(tracks[:WALKERS], lines[:WALKERS], strict=True)):
            if line is not None:
                every = max(1, len(line) // POINTS)
                x, y = track.time_fs[::every] / 1000, line[::every]
                axis.plot(x, y, color=COLOURS[i % len(COLOURS)], linewidth=0.8, alpha=0.85)
        if name.startswith("largest") and max_force is not None and axis.get_ylim()[1] > max_force / 3:
            axis.axhline(max_force, color=COLOURS[-1], linestyle="--", linewidth=1)
        axis.set(xlabel="time / ps", ylabel=name)
    return png(drawn)


def _from_first(energy: Float) -> Float:
    return energy - energy[0]


def _dipole(track: Track) -> Float | None:
    """(S,) e·Å: of the atomic charges, or the only one there is."""
    for dipole in track.dipoles.values():
        size: Float = (dipole**2).sum(1) ** 0.5
        return size
    return None


@rc_context(STYLE)
def spectra(found: Mapping[str, Spectrum], title: str, highest_per_cm: float = 4500.0) -> bytes:
    """Infrared spectra by what their dipole moments are of; the strongest bands have their wavenumbers."""
    drawn, [axis] = figure(size=(8.0, 4.0))
    end = min(highest_per_cm, min(s.nyquist_per_cm for s in found.values()))
    for (name, spectrum), colour, line in zip(found.items(), COLOURS, DASHES, strict=False):
        inside = spectrum.wavenumber_per_cm <= end
        x, y = spectrum.wavenumber_per_cm[inside], spectrum.intensity_km_cm_per_mol[inside]
        axis.plot(x, y, color=colour, linestyle=line, linewidth=1.2, label=name)
    first = next(iter(found.values()))
    for place, height in first.peaks(share=0.05, most=6):
        if 100 < place <= end:
            axis.annotate(f"{place:.0f}", (place, height), ha="center", va="bottom", fontsize=8)
    axis.set(xlim=(0, end), xlabel="wavenumber / cm⁻¹", ylabel="absorption / (km mol⁻¹ cm)", title=title)
    axis.legend()
    return png(drawn)

"""Pictures of a report, as PNG; matplotlib without a display and without its global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from alfw.core.frame import Float

# Okabe and Ito's colours, which those who see colours differently can tell apart; doi:10.1038/nmeth.1618
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^Dv<>"
DASHES = ("-", "--", "-.", ":", "-", "--", "-.")
GREY = "#666666"
MANY = 3000  # points above which their density is shown instead
DPI = 120
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def figure(
    panels: int = 1, columns: int = 3, size: tuple[float, float] = (4.4, 3.9)
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels in rows."""
    columns = min(panels, columns)
    rows = -(-panels // columns)
    drawn = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = [drawn.add_subplot(rows, columns, i + 1) for i in range(panels)]
    return drawn, axes


@rc_context(STYLE)
def png(drawn: Figure) -> bytes:
    """The picture of a figure."""
    data = io.BytesIO()
    FigureCanvasAgg(drawn)
    drawn.savefig(data, format="png", dpi=DPI)
    return data.getvalue()


@rc_context(STYLE)
def parity(
    panels: Mapping[str, tuple[Float, Float, Sequence[str] | None]], quantity: str, unit: str
) -> bytes:
    """Predicted against reference values, one panel each: {title: (reference, predicted, group of each or None)}."""
    drawn, axes = figure(len(panels))
    for axis, (title, (reference, predicted, groups)) in zip(axes, panels.items(), strict=True):
        known = np.isfinite(reference) & np.isfinite(predicted)
        x, y = reference[known], predicted[known]
        names = None if groups is None else np.asarray(groups)[known]
        _cloud(drawn, axis, x, y, names)
        _identity(axis, np.r_[x, y])
        axis.set(
            title=title, xlabel=f"reference {quantity} / {unit}", ylabel=f"predicted {quantity} / {unit}"
        )
    return png(drawn)


def _cloud(drawn: Figure, axis: Axes, x: Float, y: Float, groups: Any) -> None:
    """Points by group where they are few, their density where they are many."""
    if len(x) > MANY:
        cells = axis.hexbin(x, y, gridsize=70, bins="log", mincnt=1, cmap="cividis", linewidths=0.1)
        drawn.colorbar(cells, ax=axis, label="number of points", shrink=0.85)
        return
    names = ["all"] if groups is None else list(dict.fromkeys(groups.tolist()))
    for i, name in enumerate(names):
        own = slice(None) if groups is None else groups == name
        style: Any = {"marker": MARKERS[i % len(MARKERS)], "color": COLOURS[i % len(COLOURS)]}
        axis.scatter(x[own], y[own], s=14, alpha=0.55, linewidths=0, label=name, **style)
    if 1 < len(names) <= len(COLOURS):
        axis.legend(loc="upper left", handletextpad=0.2)


def _identity(axis: Axes, values: Float) -> None:
    """The line where both are equal, and equal axes."""
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axis.plot(limits, limits, color=GREY, linewidth=1, linestyle="--", zorder=3)
    axis.set(xlim=limits, ylim=limits, aspect="equal")
    axis.locator_params(nbins=6)


@rc_context(STYLE)
def error_distributions(elements: Mapping[str, Mapping[str, Any]], edges: Float) -> bytes:
    """Size of the force error by element: a density on a logarithmic axis, with median and RMSE."""
    centres = np.sqrt(edges[1:] * edges[:-1])
    shown = {name: found for name, found in elements.items() if found["histogram"]}
    densities = [np.asarray(found["histogram"], float) * (edges[:-1] > edges[0]) for found in shown.values()]
    share = np.cumsum(np.sum(densities, axis=0))  # without the first bin, where all is that is smaller
    used = np.flatnonzero((share > 1e-3 * share[-1]) & (np.r_[0, share[:-1]] < share[-1]))
    used = used if len(used) else np.arange(len(centres))
    drawn, [axis] = figure(size=(6.4, 1.3 + 0.75 * len(shown)))
    for row, (found, density) in enumerate(zip(shown.values(), densities, strict=True)):
        colour, base = COLOURS[row % len(COLOURS)], len(shown) - 1 - row
        top = base + 0.85 * density / (density.max() or 1.0)
        axis.fill_between(centres, base, top, step="mid", color=colour, alpha=0.6, linewidth=0)
        marks = {"median": found["percentiles"]["50"], "RMSE": found["force_rmse_eV_per_A"]}
        for (mark, value), line in zip(marks.items(), ("-", ":"), strict=True):
            if value is not None:
                label = mark if row == 0 else "_"
                axis.vlines(value, base, base + 0.9, color="black", linestyle=line, label=label)
    axis.set(xscale="log", xlim=(edges[used[0]], edges[used[-1] + 1]), ylim=(-0.05, len(shown) + 0.3))
    names = [f"{name} ({found['n_atoms']})" for name, found in shown.items()]
    axis.set_yticks(np.arange(len(shown))[::-1] + 0.3, names)
    axis.tick_params(axis="y", length=0)
    axis.set(xlabel="|error of a force component| / (eV/Å)", title="force errors by element (atoms)")
    axis.legend(loc="upper left", ncols=2)
    return png(drawn)


@rc_context(STYLE)
def errors_against_spread(
    atoms: tuple[Float, Float],
    frames: tuple[Float, Float],
    bins: Sequence[Mapping[str, float]],
    factor: float | None,
) -> bytes:
    """(force_std, |ΔF|) of atoms, with the root mean squares of bins; and the largest of frames, with their bound."""
    drawn, axes = figure(2, size=(5.0, 4.2))
    for axis, (std, size), what in zip(axes, (atoms, frames), ("atoms", "frames"), strict=True):
        shown = np.isfinite(std) & np.isfinite(size) & (std > 0) & (size > 0)
        _logarithmic_cloud(drawn, axis, std[shown], size[shown], what)
        if shown.any():
            line = np.array([std[shown].min(), std[shown].max()])
            axis.plot(line, line, color="black", linestyle="--", label="error = force_std")
        if what == "frames" and factor is not None and shown.any():
            label = f"bound: {factor:.3g} × force_std"
            axis.plot(line, factor * line, color=COLOURS[1], linewidth=2, label=label)
        if what == "atoms":
            rms = [[b[key] for b in bins] for key in ("sigma_rms", "error_rms")]
            axis.plot(
                *rms, color="black", marker="o", markerfacecolor="white", label="root mean squares of bins"
            )
        _decimal_ticks(axis)
        axis.legend(loc="lower right", fontsize=8.5, frameon=True, framealpha=0.85, edgecolor="none")
    axes[0].set(xlabel="force_std of the atom / (eV/Å)", ylabel="|ΔF| of the atom / (eV/Å)", title="by atom")
    axes[1].set(xlabel="force_std of the frame / (eV/Å)", ylabel="largest |ΔF| / (eV/Å)", title="by frame")
    return png(drawn)


def _decimal_ticks(axis: Axes) -> None:
    """Labels 0.02, 0.05, 0.1 … on logarithmic axes: over a decade or two, powers of ten alone are too few."""
    for one in (axis.xaxis, axis.yaxis):
        low, high = one.get_view_interval()
        if low > 0 and high / low < 300:
            one.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 30 else (1.0, 3.0)))
            one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        one.set_minor_formatter(NullFormatter())


def _logarithmic_cloud(drawn: Figure, axis: Axes, x: Float, y: Float, what: str) -> None:
    """Points where they are few, their density where they are many, on logarithmic axes."""
    if len(x) <= MANY // 3:
        axis.set(xscale="log", yscale="log")
        axis.scatter(x, y, s=14, alpha=0.55, linewidths=0, color=COLOURS[0])
        return
    logs: Any = {"bins": "log", "xscale": "log", "yscale": "log"}
    cells = axis.hexbin(x, y, gridsize=45, mincnt=1, linewidths=0.2, cmap="cividis", **logs)
    drawn.colorbar(cells, ax=axis, label=f"number of {what}", shrink=0.85)


@rc_context(STYLE)
def reliability_diagram(
    raw: Mapping[str, Any], scaled: Mapping[str, Any] | None, scale: float | None
) -> bytes:
    """Fractions of force components inside central intervals, observed against expected."""
    drawn, [axis] = figure(size=(4.6, 4.3))
    axis.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    curves = [("σ as it is", raw, COLOURS[1], "s")]
    if scaled is not None and scale is not None:
        curves.append((f"σ × {scale:.3g}, other half", scaled, COLOURS[0], "o"))
    for name, curve, colour, marker in curves:
        label = f"{name}: area {curve['miscalibration_area']:.3f}"
        axis.plot(
            curve["expected"], curve["observed"], color=colour, marker=marker, markersize=4, label=label
        )
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title="reliability of force_std / √3")
    axis.set(xlabel="expected fraction inside", ylabel="observed fraction inside")
    axis.legend(loc="upper left", fontsize=8.5)
    return png(drawn)


@rc_context(STYLE)
def curves(structures: Sequence[Mapping[str, Any]]) -> bytes:
    """Energy against volume of each structure: reference and model, each from its own lowest point."""
    drawn, axes = figure(len(structures), size=(4.2, 3.5))
    for axis, found in zip(axes, structures, strict=True):
        volume = found["volumes_A3_per_atom"]
        for name, colour, marker in (("reference", COLOURS[6], "o"), ("model", COLOURS[1], "s")):
            energy = np.array([np.nan if e is None else e for e in found[f"{name}_eV_per_atom"]], float)
            rise = 1000 * (energy - np.nanmin(energy)) if np.isfinite(energy).any() else energy
            axis.plot(volume, rise, color=colour, marker=marker, markersize=4, label=name)
        delta = found["delta_meV_per_atom"]
        more = "" if delta is None else f", Δ = {delta:.2g} meV/atom"
        axis.set(
            title=found["formula"] + more,
            xlabel="volume / (Å³/atom)",
            ylabel="E − E$_{min}$ / (meV/atom)",
        )
        axis.legend()
    return png(drawn)


@rc_context(STYLE)
def survival(temperatures: Sequence[Mapping[str, Any]], end: float) -> bytes:
    """Fraction of walkers that still run, by temperature: staircases with their intervals; watched for `end` ps."""
    drawn, [axis] = figure(size=(5.6, 3.8))
    for found, colour, line in zip(temperatures, COLOURS, DASHES, strict=False):
        curve = found["survival"]
        time = np.r_[0.0, np.asarray(curve["time_ps"], float), end]
        steps = {}
        for key in ("survival", "lower", "upper"):
            # where nothing survives no interval is known: it ends there
            values = np.array([0.0 if v is None else v for v in curve[key]], float)
            steps[key] = np.r_[1.0, values, values[-1:] if len(values) else 1.0]
        bounds = (steps["lower"], steps["upper"])
        axis.fill_between(time, *bounds, step="post", color=colour, alpha=0.18, linewidth=0)
        label = f"{found['temperature_K']:g} K: median {found['median_text']}"
        axis.step(
            time, steps["survival"], where="post", color=colour, linewidth=2, linestyle=line, label=label
        )
    axis.set(xlim=(0, end), ylim=(0, 1.05), xlabel="time / ps", ylabel="fraction of walkers that run on")
    axis.legend(loc="lower left")
    return png(drawn)

"""Pictures of a campaign, round by round, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from alfw.core.frame import Float
from alfw.io._plots import COLOURS, DASHES, GREY, MARKERS, STYLE, figure, png


@rc_context(STYLE)
def learning_curve(
    points: Mapping[str, tuple[Float, Float]],
    interval: Float,
    band: tuple[Float, Float] | None,
    now: float,
) -> bytes:
    """Error on the sealed test set against the number of labels, with the law and its band.

    Parameters
    ----------
    points : {name: ((n,) labels, (n,) eV/Å)}
        The first is the whole test set, the others its regions.
    interval : (2, n) float64, eV/Å
        95 % of the first; NaN where it is not known.
    band : ((M,) labels, (3, M) eV/Å) or None
    now : float
        Labels so far: what lies beyond is predicted.
    """
    drawn, [axis] = figure(size=(6.6, 4.3))
    for i, (name, (labels, error)) in enumerate(points.items()):
        colour, marker, line = (cycle[i % len(cycle)] for cycle in (COLOURS, MARKERS, DASHES))
        if i == 0:
            known = np.isfinite(interval).all(0)
            axis.vlines(labels[known], *interval[:, known], color=colour, linewidth=1.5)
            axis.plot(labels, error, marker=marker, color=colour, linestyle="none", label=name, zorder=4)
        else:
            axis.plot(labels, error, marker=marker, color=colour, linestyle=line, alpha=0.75, label=name)
    if band is not None:
        where, (low, middle, high) = band
        axis.fill_between(
            where, low, high, color=COLOURS[0], alpha=0.18, linewidth=0, label="law, 90 % interval"
        )
        axis.plot(where, middle, color=COLOURS[0], linewidth=1.5)
        axis.axvline(now, color=GREY, linestyle=":", linewidth=1)
    axis.set(xlabel="labels trained on", ylabel="force RMSE / (eV/Å)", xscale="log", yscale="log")
    _decimal(axis)
    axis.legend(loc="best")
    return png(drawn)


def _decimal(axis: Axes) -> None:
    """Numbers that are written out on logarithmic axes."""
    for one in (axis.xaxis, axis.yaxis):
        low, high = one.get_view_interval()
        one.set_major_locator(
            LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high / low < 12 else (1.0, 2.0, 5.0))
        )
        one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        one.set_minor_formatter(NullFormatter())


@rc_context(STYLE)
def audit(rounds: Sequence[int], temperatures: Mapping[str, Float], test: Float) -> bytes:
    """Audit error by temperature and round, beside that on the sealed test set; eV/Å, NaN where there is none."""
    drawn, [axis] = figure(size=(5.6, 3.8))
    axis.plot(rounds, test, color=GREY, linestyle="--", linewidth=1.5, label="sealed test")
    for i, (name, error) in enumerate(temperatures.items()):
        style: Any = {"marker": MARKERS[i % len(MARKERS)], "linestyle": DASHES[i % len(DASHES)]}
        axis.plot(rounds, error, color=COLOURS[i % len(COLOURS)], label=name.replace("_", "."), **style)
    axis.set(xlabel="round", ylabel="force RMSE / (eV/Å)", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="best")
    return png(drawn)


@rc_context(STYLE)
def coverage(rounds: Sequence[int], checked: Sequence[Mapping[str, Any]], promised: float) -> bytes:
    """How many audit frames were within their error bars in each round, with 95 and 99 % intervals."""
    drawn, [axis] = figure(size=(5.6, 3.8))
    axis.axhline(promised, color="black", linestyle="--", linewidth=1, label=f"promised: {promised:.0%}")
    for number, found in zip(rounds, checked, strict=True):
        colour = COLOURS[1] if found["off"] else COLOURS[0]
        axis.vlines(number, *found["interval_99"], color=colour, linewidth=1)
        axis.vlines(number, *found["interval_95"], color=colour, linewidth=4, alpha=0.6)
        axis.plot(number, found["fraction"], marker="o", color=colour)
    axis.set(xlabel="round", ylabel="fraction within the error bar", ylim=(0, 1.03))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="lower left")
    return png(drawn)


@rc_context(STYLE)
def costs(rounds: Sequence[int], stages: Mapping[str, Float]) -> bytes:
    """CPU-hours of each round, by stage."""
    drawn, [axis] = figure(size=(5.6, 3.8))
    below = np.zeros(len(rounds))
    for i, (name, hours) in enumerate(stages.items()):
        hatch = "//" if i >= len(COLOURS) else None
        axis.bar(
            rounds, hours, bottom=below, color=COLOURS[i % len(COLOURS)], label=name, hatch=hatch, width=0.7
        )
        below = below + hours
    axis.set(xlabel="round", ylabel="CPU-hours")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, names = axis.get_legend_handles_labels()
    axis.legend(handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5))
    return png(drawn)

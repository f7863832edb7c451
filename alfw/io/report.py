"""Reports as single files: text by a template of ``fw_templates/report``, in HTML with the pictures inside."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

NOTHING = "–"


@dataclass(frozen=True)
class Picture:
    """A PNG, its place in the report, and what a reader has to know."""

    section: str
    name: str
    png: bytes
    caption: str


def render(template: str, **values: Any) -> str:
    """The page that this template makes of these values; in HTML text in them is escaped."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, interval=interval, inline=inline)
    return environment.get_template(template).render(**values)


def _template(name: str) -> str:
    return (files("alfw.fw_templates") / "report" / name).read_text(encoding="utf-8")


def number(value: Any, digits: int = 3, factor: float = 1.0) -> str:
    """A number with so many significant digits, whole ones as they are; – where there is none."""
    if value is None:
        return NOTHING
    if isinstance(value, int) and factor == 1.0:
        return str(value)
    scaled = float(value) * factor
    if scaled and not 1e-4 <= abs(scaled) < 1e6:
        return f"{scaled:.{digits - 1}e}"
    text = f"{scaled:.0f}" if abs(scaled) >= 10**digits else f"{scaled:#.{digits}g}"
    return text.removesuffix(".")


def interval(bounds: Sequence[float | None] | None, digits: int = 3) -> str:
    """Two bounds; – where there are none, > with a lower one alone."""
    low, high = bounds or (None, None)
    if high is None:
        return NOTHING if low is None else f"> {number(low, digits)}"
    return f"{number(low, digits)} – {number(high, digits)}"


def inline(png: bytes) -> str:
    """A picture as the address of itself."""
    return "data:image/png;base64," + b64encode(png).decode()

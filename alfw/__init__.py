"""alfw: active-learning campaigns for machine-learned interatomic potentials, on FireWorks."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "calculator"]


def __getattr__(name: str) -> Any:
    """``alfw.calculator``, loaded when it is used: ``import alfw`` stays free of ASE and JAX."""
    if name == "calculator":
        from alfw.models.calculator import calculator

        return calculator
    raise AttributeError(f"module 'alfw' has no attribute {name!r}")

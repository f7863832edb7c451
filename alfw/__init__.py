"""alfw: active-learning campaigns for machine-learned interatomic potentials, on FireWorks."""

__version__ = "0.1.0"
__all__ = ["__version__"]

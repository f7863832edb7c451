"""Labelers: what gives reference energies and forces, one file a code."""

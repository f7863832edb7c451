"""Selectors: which frames of a pool are worth a label."""

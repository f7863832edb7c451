"""Kinds of potentials that can be trained."""

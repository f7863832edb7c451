"""Samplers: ways to explore with a Potential, or to bring frames from elsewhere."""

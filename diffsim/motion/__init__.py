"""Parametric paddle trajectories."""

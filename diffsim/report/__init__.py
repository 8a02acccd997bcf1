"""Figures, animations and tables."""

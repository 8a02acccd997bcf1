"""Gradient estimators on a ball kept up by a paddle: which is right when, and what it costs."""

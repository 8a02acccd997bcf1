"""Studies: what compares, measures and reproduces. Run from the checkout, not installed."""

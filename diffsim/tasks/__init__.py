"""Tasks: worlds with something to achieve."""

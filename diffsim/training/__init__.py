"""The training loop, policies and checkpoints."""

"""One task learned by several gradients from several seeds."""

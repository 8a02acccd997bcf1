"""Differentiable ball/paddle physics, and the gradients that go through it."""

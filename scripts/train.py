"""Train a network to hit a ball to a target, and show what it learned.

The paddle moves freely (--task paddle) or at the end of a seven-joint arm (--task arm), in the
event-driven world, which JAX differentiates, or in MuJoCo, a black box (--simulator mujoco)."""

import sys


def main() -> object:
    from _entry import grouped
    from diffsim.report import training
    from diffsim.training import Settings

    return grouped(Settings, training.run, __doc__, default=lambda: Settings.defaults(sys.argv))


if __name__ == "__main__":
    from _entry import entry

    entry(main)

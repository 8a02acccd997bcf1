"""Train a policy in a step-wise task: scripts/train_closed_loop.py --gradient shac."""

import os


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    from diffsim.report import closed_loop
    from diffsim.training import LoopSettings
    from diffsim.training.command import command

    command(LoopSettings, closed_loop.run, __doc__)


if __name__ == "__main__":
    main()

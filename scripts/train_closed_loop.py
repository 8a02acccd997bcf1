"""Train a policy in a step-wise task: scripts/train_closed_loop.py --gradient shac."""

import os
import sys

import tyro


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    from diffsim.training.closed_loop import LoopSettings

    settings = tyro.cli(LoopSettings, description=__doc__)

    from diffsim.report import closed_loop

    try:
        closed_loop.run(settings)
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with --resume --out {settings.out}", file=sys.stderr)
        sys.exit(130)
    except (FileExistsError, FileNotFoundError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

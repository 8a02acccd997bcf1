"""Train a network to hit a ball to a target, and show what it learned.

The paddle moves freely (--task paddle) or at the end of a seven-joint arm (--task arm), in the
event-driven world, whose gradient is exact, or in MuJoCo, a black box (--simulator mujoco)."""

import os
import sys

import tyro


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    from diffsim.training import Settings

    settings = tyro.cli(Settings, default=Settings.defaults(sys.argv), description=__doc__)

    from diffsim.report import training as report
    from diffsim.training.sharding import ProcessLostError

    try:
        report.run(settings)
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with --resume --out {settings.out}", file=sys.stderr)
        sys.exit(130)
    except ProcessLostError as error:
        fail(error)
        os._exit(2)  # an orderly end would wait for the other process
    except (FileExistsError, FileNotFoundError, FloatingPointError, TypeError, ValueError) as error:
        sys.exit(fail(error))


def fail(error: Exception) -> int:
    """One line on the error stream, and the exit code of a usage error."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    return 2


if __name__ == "__main__":
    main()

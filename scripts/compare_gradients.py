"""Compare gradients: python scripts/compare_gradients.py, or --case ball-with-wall."""

import os
import sys

import tyro


def main() -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    from diffsim.report import gradients as report

    options = tyro.cli(report.Options)
    try:
        return 0 if report.run(options) else 1
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

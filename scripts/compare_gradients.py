"""Compare gradients: python scripts/compare_gradients.py, or --case ball-with-wall."""

import sys

import tyro


def main() -> int:
    from studies.gradients import report

    options = tyro.cli(report.Options)
    try:
        return 0 if report.run(options) else 1
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    from _entry import entry

    entry(main)

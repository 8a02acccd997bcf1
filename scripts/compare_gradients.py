"""Compare gradients: python scripts/compare_gradients.py, or --case ball-with-wall."""

import tyro


def main() -> int:
    from _entry import hinting
    from studies.gradients import report

    options = tyro.cli(report.Options)
    with hinting("run the same command again to go on"):
        return 0 if report.run(options) else 1


if __name__ == "__main__":
    from _entry import entry

    entry(main)

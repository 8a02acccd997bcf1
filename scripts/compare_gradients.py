"""Compare gradients: python scripts/compare_gradients.py, or --case ball-with-wall."""

import tyro


def main() -> object:
    from _entry import hinting
    from studies.gradients import report

    options = tyro.cli(report.Options)
    with hinting("run the same command again to go on"):
        agrees, rows = report.run(options)
        return 0 if agrees else 1, rows


if __name__ == "__main__":
    from _entry import entry

    entry(main)

"""Train on digits with cross-entropy and with infogain: python scripts/digits.py --seeds 10."""

import os
import sys

import tyro


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    from diffsim.report import digits

    options = tyro.cli(digits.Options)
    try:
        digits.run(options)
    except (ImportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

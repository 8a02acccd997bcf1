"""Hit the ball to a wanted point by inverting a learned model, against optimising: in cm."""

import os
import sys

import tyro


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    from diffsim.training import landing

    settings = tyro.cli(landing.Settings, description=__doc__)
    try:
        print("\n".join(landing.rows(settings, landing.compare(settings))))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

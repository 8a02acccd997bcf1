"""Train with several gradients and seeds, and draw landing error against cost."""

import dataclasses
import os
import sys

import tyro


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    from diffsim.training.comparison import Plan

    @dataclasses.dataclass(frozen=True)
    class Options(Plan):
        quick: bool = False
        """A small form, in the folder's subfolder quick: two seeds, 150 updates of 64 serves."""

    options = tyro.cli(Options, description=__doc__)
    if options.quick:
        options = dataclasses.replace(
            options, seeds=(0, 1), steps=150, batch=64, out=options.out / "quick"
        )

    from diffsim.report import comparison

    try:
        comparison.run(options)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except (FileExistsError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

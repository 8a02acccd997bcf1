"""Train with several gradients and seeds, and draw landing error against cost."""

import dataclasses


def main() -> object:
    from _entry import grouped
    from studies.training import report
    from studies.training.plan import Plan

    @dataclasses.dataclass(frozen=True)
    class Options(Plan):
        quick: bool = False
        """Two seeds and 150 updates of 64 serves, in the subfolder quick."""

    def run(options: Options) -> object:
        if options.quick:
            options = dataclasses.replace(
                options, seeds=(0, 1), steps=150, batch=64, out=options.out / "quick"
            )
        return report.summary(report.run(options), options.error, options.clock)

    return grouped(Options, run, __doc__, again="the same command goes on from here")


if __name__ == "__main__":
    from _entry import entry

    entry(main)

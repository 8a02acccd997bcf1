"""Train a policy in a step-wise task: scripts/train_closed_loop.py --gradient shac."""


def main() -> object:
    from _entry import grouped
    from diffsim.report import closed_loop
    from diffsim.training import LoopSettings

    return grouped(LoopSettings, closed_loop.run, __doc__)


if __name__ == "__main__":
    from _entry import entry

    entry(main)

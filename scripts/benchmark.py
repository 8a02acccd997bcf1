"""Benchmarks, one subcommand each: python scripts/benchmark.py sphere --largest 120."""

from typing import Any


def main() -> None:
    import tyro

    import studies.delay
    import studies.invertible
    import studies.losses
    import diffsim.tasks.mujoco_contact
    import studies.quadrature
    import studies.accelerator
    import diffsim.report.closed_loop
    import studies.scaling

    benchmarks: dict[str, Any] = {
        "accelerator": studies.accelerator.benchmark,
        "closed-loop": diffsim.report.closed_loop.compare,
        "delay": studies.delay.benchmark,
        "mujoco-contact": diffsim.tasks.mujoco_contact.benchmark,
        "infogain": studies.losses.benchmark,
        "invertible": studies.invertible.main,
        "growth": diffsim.report.closed_loop.growth,
        "scale": studies.scaling.benchmark,
        "sphere": studies.quadrature.main,
    }
    tyro.extras.subcommand_cli_from_dict(benchmarks)


if __name__ == "__main__":
    from _entry import entry

    entry(main)

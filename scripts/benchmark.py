"""Benchmarks, one subcommand each: python scripts/benchmark.py sphere --largest 120."""

from typing import Any


def main() -> None:
    import tyro

    import diffsim.delay.benchmark
    import diffsim.invertible.benchmark
    import diffsim.losses.benchmark
    import diffsim.physics.mujoco_contact
    import diffsim.quadrature.benchmark
    import diffsim.report.accelerator
    import diffsim.report.closed_loop
    import diffsim.report.scaling

    benchmarks: dict[str, Any] = {
        "accelerator": diffsim.report.accelerator.benchmark,
        "closed-loop": diffsim.report.closed_loop.compare,
        "delay": diffsim.delay.benchmark.benchmark,
        "mujoco-contact": diffsim.physics.mujoco_contact.benchmark,
        "infogain": diffsim.losses.benchmark.benchmark,
        "invertible": diffsim.invertible.benchmark.main,
        "growth": diffsim.report.closed_loop.growth,
        "scale": diffsim.report.scaling.benchmark,
        "sphere": diffsim.quadrature.benchmark.main,
    }
    tyro.extras.subcommand_cli_from_dict(benchmarks)


if __name__ == "__main__":
    from _entry import entry

    entry(main)

"""Benchmarks, one subcommand each: python scripts/benchmark.py sphere --largest 120."""

from typing import Any

import tyro

import diffsim.delay.benchmark
import diffsim.losses.benchmark
import diffsim.physics.mujoco_contact
import diffsim.quadrature.benchmark
import diffsim.report.scaling

BENCHMARKS: dict[str, Any] = {
    "delay": diffsim.delay.benchmark.benchmark,
    "mujoco-contact": diffsim.physics.mujoco_contact.benchmark,
    "infogain": diffsim.losses.benchmark.benchmark,
    "scale": diffsim.report.scaling.benchmark,
    "sphere": diffsim.quadrature.benchmark.main,
}

if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(BENCHMARKS)

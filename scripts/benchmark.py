"""Benchmarks, one subcommand each: python scripts/benchmark.py sphere --largest 120."""

from typing import Any


def main() -> object:
    import tyro

    import studies.accelerator
    import studies.closed_loop
    import studies.delay
    import studies.growth
    import studies.invertible
    import studies.losses
    import studies.mujoco_contact
    import studies.physics
    import studies.quadrature
    import studies.scaling
    from studies.harness import checking

    benchmarks: dict[str, Any] = {
        "accelerator": studies.accelerator.benchmark,
        "closed-loop": studies.closed_loop.compare,
        "delay": studies.delay.benchmark,
        "growth": studies.growth.benchmark,
        "infogain": studies.losses.benchmark,
        "invertible": studies.invertible.benchmark,
        "mujoco-contact": studies.mujoco_contact.benchmark,
        "physics": studies.physics.benchmark,
        "scale": studies.scaling.benchmark,
        "sphere": studies.quadrature.benchmark,
    }
    checked = {name: checking(call) for name, call in benchmarks.items()}
    return tyro.extras.subcommand_cli_from_dict(checked, description=__doc__)


if __name__ == "__main__":
    from _entry import entry

    entry(main, timed=True)

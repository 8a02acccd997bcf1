"""Integrate samples on the sphere: python scripts/integrate.py SAMPLES.npy --measure flat."""

import sys

import jax
import tyro

from diffsim.quadrature import command


def main() -> int:
    options = tyro.cli(command.Options, config=(tyro.conf.PositionalRequiredArgs,))
    jax.config.update("jax_enable_x64", True)
    try:
        print("\n".join(command.run(options)))
    except (TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Train on a task with one of brax's own trainers, and write how it went."""

import json
import time
import warnings
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Options:
    """Train on a task with one of brax's own trainers."""

    env: str = "paddle-juggle"
    """paddle-juggle, hit-to-target or rally."""
    algorithm: Literal["ppo", "sac", "apg", "es"] = "ppo"
    """One of brax's trainers."""
    budget: int = 500_000
    """Environment steps; for apg, updates of the policy."""
    limit: int | None = None
    """Control steps of an episode, in place of the task's own."""
    evaluations: int = 6
    """Number of evaluations, the first before training."""
    seed: int = 0
    """Seed of everything drawn at random."""
    out: Path = Path("runs/brax")
    """Folder for settings.json, metrics.csv and TensorBoard files."""
    set: dict[str, float] = field(default_factory=dict)
    """Settings of brax's trainer, e.g. --set num_envs 64 learning_rate 1e-3."""


def run(options: Options) -> list[dict[str, float]] | None:
    from diffsim._files import folder, replacing

    folder(options.out)
    if options.budget < 1:
        raise ValueError(f"budget: expected at least 1, got {options.budget}")
    file = options.out / "metrics.csv"
    if file.is_file() and file.stat().st_size:  # one without rows is of a run that did not begin
        raise FileExistsError(f"{options.out}: has a metrics.csv; expected another --out")
    from diffsim.envs import brax_adapter, make
    from diffsim.report.progress import counting
    from diffsim.training.folder import locked
    from diffsim.training.metrics import MetricsWriter
    from diffsim.training.processes import first

    started = time.perf_counter()

    def progress(step: int, row: dict) -> None:  # brax calls it in the first process alone
        seconds = time.perf_counter() - started
        reward, length = row["eval/episode_reward"], row["eval/avg_episode_length"]
        metrics.write(
            {"step": step, "seconds": seconds, "return": float(reward), "length": float(length)}
        )
        if step:  # the first evaluation is before training
            tell(min(step, options.budget))
        print(f"{step:>9}  {seconds:7.1f} s  return {reward:8.2f}  length {length:6.1f}")

    env = make(options.env, **({} if options.limit is None else {"limit": options.limit}))
    settings = {k: int(v) if v.is_integer() else v for k, v in options.set.items()}
    with ExitStack() as stack:
        if first():
            stack.enter_context(locked(options.out))
            with replacing(options.out / "settings.json") as made:
                made.write_text(json.dumps(asdict(options), default=str, indent=2))
            metrics = stack.enter_context(MetricsWriter(options.out))
            tell = stack.enter_context(counting("training", options.budget))
        brax_adapter.train(
            env, options.algorithm, options.budget, seed=options.seed,
            evaluations=options.evaluations, progress=progress, **settings,
        )  # fmt: skip
    if not first():
        return None
    print(f"wrote {metrics.path}")
    return metrics.rows


def main() -> object:
    from _entry import grouped

    warnings.filterwarnings("ignore", category=DeprecationWarning)  # brax's own

    return grouped(Options, run, __doc__, again="brax's trainers keep no checkpoints; start again")


if __name__ == "__main__":
    from _entry import entry

    entry(main)

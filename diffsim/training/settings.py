"""All settings of a training run, from which flags, checkpoints and evaluation are made."""

import dataclasses
import itertools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, cast

import optax
import tyro

from diffsim import _check, gradients
from diffsim.motion import GENERATORS
from diffsim.motion.arm import arm_generator
from diffsim.tasks import TASKS, ArmHitsTarget, HitToTarget, HostTask, Serves, Task
from diffsim.tasks.arm import REACH
from diffsim.tasks.hit_target import SWING, SWING_TIME
from diffsim.tasks.mujoco_task import MujocoHits
from diffsim.tasks.radar_view import RadarView
from diffsim.tasks.randomise import USUAL, Randomisation
from diffsim.training.player import Hosted, Player, Traced
from diffsim.training.stored import Stored

# A simulator with noise from its time steps wants larger differences, a slow one fewer of them.
NOISY = {"samples": 2, "step": 0.05}
# Those that can end at rest at home do, with a via point or a Bézier curve.
SWINGS: dict[str, dict[str, Any]] = {
    "bspline": SWING,
    "minimum-jerk": {"via_times": [0.7], "returns": True},
}
# What to hit the ball for: at one place, or as soon as can be somewhere well on the other half.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "target": {},
    "fastest": {  # a fast ball wants finer steps
        "target": (0.685, 0.0),
        "tolerance": (0.5, 0.55),
        "hurry_weight": 0.5,
        "step": 0.05,
    },
}
HALF = ((0.3, -0.5), (1.2, 0.5))  # where targets are drawn, m
# What estimators were called in closed loops.
RENAMED = {
    "analytic": "pathwise",
    "reinforce": "score-function",
    "interpolated": "inverse-variance",
}


def muon(rate: optax.ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999):
    """Momentum of which each matrix has singular values of 1; Adam, with β₁ and β₂, of vectors.

    Source: K. Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024).
    """
    return optax.contrib.muon(rate, adam_b1=b1, adam_b2=b2)


# What makes an update of a gradient, each with the rate that suits it.
OPTIMIZERS: dict[str, tuple[Any, float]] = {"muon": (muon, 3e-2), "adam": (optax.adam, 3e-3)}


@dataclasses.dataclass(frozen=True)
class RunSettings(Stored):
    """What every run has; a kind of run adds its own, and says which player it is for."""

    gradient: str = "pathwise"
    """How the gradient gets through the simulator."""
    steps: int = 800
    """Updates of the network."""
    batch: int | None = 128
    """Starts for each update."""
    optimizer: str = "muon"
    """muon, or adam, which needs more updates."""
    learning_rate: float | None = None
    """Peak learning rate; None takes 0.03 for muon, 0.003 for adam."""
    clip: float = 1.0
    """Largest norm of the gradient; larger ones are scaled down."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the network's hidden layers."""
    seed: int = 0
    """Seed of everything drawn at random."""
    log_every: int = 25
    """Updates between two rows of metrics."""
    checkpoint_every: int = 250
    """Updates between two checkpoints."""
    out: Path = Path("runs/hit")
    """Folder for metrics, checkpoints and pictures."""
    resume: bool = False
    """Go on from the last checkpoint in the folder, with that run's settings."""
    warm_start: Path | None = None
    """Folder of another run whose network to start from; its simulator may be another."""

    betas: ClassVar[dict[str, float]] = {}  # β₁ and β₂ of Adam, where they are not its own

    def __post_init__(self):
        self.check_positive(
            ("steps", "batch", "log_every", "checkpoint_every", "learning_rate", "clip", "hidden")
        )
        if self.gradient in RENAMED:
            raise ValueError(
                f"gradient: expected {RENAMED[self.gradient]!r}, as {self.gradient!r} is called now"
            )
        _check.one_of("gradient", self.gradient, self.estimators())
        _check.one_of("optimizer", self.optimizer, OPTIMIZERS)

    def filled(self) -> Self:
        rate = self.learning_rate or OPTIMIZERS[self.optimizer][1]
        return dataclasses.replace(self, learning_rate=rate)

    def estimators(self) -> Collection[str]:
        """Names that ``gradient`` may have."""
        raise NotImplementedError

    def schedule(self, top: float) -> optax.Schedule:
        """The learning rate at each update, at most ``top``."""
        raise NotImplementedError

    def transformation(self) -> optax.GradientTransformation:
        """What makes an update of a gradient."""
        make, _ = OPTIMIZERS[self.optimizer]
        rate = self.schedule(cast(float, self.filled().learning_rate))
        return optax.chain(optax.clip_by_global_norm(self.clip), make(rate, **self.betas))

    def player(self) -> Player:
        """How the task that these settings describe is played."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Settings(RunSettings):
    """How to train a network to hit a ball to a target."""

    gradient: str = "pathwise"
    """pathwise (differentiates the simulator) or another name in diffsim.gradients.METHODS."""
    steps: int = 500
    """Updates of the network."""
    batch: int = 128
    """Serves for each update."""
    learning_rate: float | None = None
    """Peak of a warm-up and a cosine to a hundredth; None takes 0.03 for muon, 0.003 for adam."""
    robot: Annotated[str, tyro.conf.arg(name="task", aliases=("--robot",))] = "paddle"
    """paddle, which moves freely, or arm: seven joints, with limits of angles and torques."""
    simulator: str = "events"
    """events, which JAX differentiates, or mujoco, a black box: with the arm, and e.g. spsa."""
    workers: int = 2
    """Worker processes for a black-box simulator; 0 runs it in this one."""
    generator: str = "bspline"
    """Trajectory generator: bspline or minimum-jerk, which return home; polynomial, promp, dmp."""
    spin: float = 10.0
    """Standard deviation of each component of a serve's spin, rad/s."""
    observe_spin: bool = False
    """Show the network the serve's spin too."""
    target: tuple[float, float] = (0.9, 0.0)
    """Where on the table the ball is to land, (x, y), m."""
    any_target: bool = False
    """Draw another target on the far half for each serve, and show it to the network."""
    objective: str = "target"
    """target, or fastest: the fastest return that lands safely on the far half."""
    randomise: bool = False
    """Draw restitution, friction and drag anew for each serve, and show it late and with noise."""
    radar: bool = False
    """Show the network the ball as a radar around the table measures it."""
    sigma: float | None = None
    """Standard deviation of the noise that a sampling estimator adds to the trajectory weights."""
    samples: int | None = None
    """Samples, or pairs of them, that a sampling estimator takes for each serve."""
    step: float | None = None
    """Step of a finite-difference method, in the trajectory weights."""
    floor: int = 8
    """Serves for which to search the best swing at the end, as a floor of the error; 0 for none."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("spin", "floor"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected >= 0, got {getattr(self, name)}")
        _check.one_of("generator", self.generator, GENERATORS)
        _check.one_of("task", self.robot, TASKS)
        _check.one_of("objective", self.objective, OBJECTIVES)
        own = self.any_target or self.objective != "target" or self.randomise or self.radar
        if self.simulator != "events" and own:
            raise ValueError("simulator: expected events for any target, fastest, randomise, radar")
        if self.radar and self.observe_spin:
            raise ValueError("observe_spin: expected off with a radar, which does not see the spin")
        if self.any_target and self.objective != "target":
            raise ValueError(f"objective: expected target where any is drawn, got {self.objective}")
        _check.one_of("simulator", self.simulator, ("events", "mujoco"))
        if self.gradient == "complex-step":
            raise ValueError("gradient: expected a method for real weights, got 'complex-step'")
        self.method()

    def estimators(self) -> Collection[str]:
        return gradients.METHODS

    def schedule(self, top: float) -> optax.Schedule:
        warm = min(50, self.steps // 10)
        return optax.warmup_cosine_decay_schedule(
            0.0 if warm else top, top, warm, self.steps, 0.01 * top
        )

    def player(self) -> Player:
        task: Any = self.task()
        return Traced(task) if self.simulator == "events" else Hosted(task)

    def method(self) -> gradients.Method:
        """The gradient estimator, with ``sigma`` and ``samples`` where they are given."""
        fields = [f.name for f in dataclasses.fields(cast(Any, gradients.METHODS[self.gradient]))]
        asked = {"samples": self.samples, "step": self.step}
        changes: dict = {name: value for name, value in asked.items() if value is not None}
        if self.simulator != "events":
            changes = {k: v for k, v in NOISY.items() if k in fields} | changes
        if self.sigma is not None:
            direct = "sigma" in fields
            if not direct and "law" not in fields:
                raise ValueError(f"sigma: expected none for {self.gradient}, got {self.sigma}")
            changes["sigma" if direct else "law"] = (
                self.sigma if direct else gradients.Gaussian(self.sigma)
            )
        return gradients.make(self.gradient, **changes)

    def task(self) -> Task | HostTask:
        """The task these settings describe."""
        kind: Any = GENERATORS[self.generator]
        extra = SWINGS.get(self.generator, {})
        drawn: dict[str, Any] = USUAL if self.randomise else {}
        if self.radar:
            drawn = drawn | {"radar": RadarView.create()}
        goal: dict[str, Any] = {
            "target": self.target,
            "targets": HALF if self.any_target else None,
            "randomisation": Randomisation.create(**drawn) if drawn else None,
            "observe_spin": self.observe_spin,
        } | OBJECTIVES[self.objective]
        if self.robot == "arm" or self.simulator == "mujoco":
            serves = Serves.create(**REACH, spin=self.spin)
            arm = ArmHitsTarget.create(
                generator=arm_generator(kind, SWING_TIME, **extra), serves=serves, **goal
            )
            return arm if self.simulator == "events" else MujocoHits.create(arm, self.workers)
        generator = HitToTarget.create().generator
        if not isinstance(generator, kind):
            generator = kind.create(
                duration=generator.duration,
                home=generator.home,
                normal=generator.orientation[:, 2],
                scale=generator.scale,
                **extra,
            )
        return HitToTarget.create(generator=generator, serves=Serves.create(spin=self.spin), **goal)

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "Settings":
        """What holds unless a command line says otherwise: what suits an arm, or a slow simulator.

        >>> Settings.defaults(["--simulator", "mujoco"]).batch
        32
        """
        words = [word for argument in arguments for word in argument.split("=")]
        flags = ("--task", "--robot", "--simulator")
        asked = {value for flag, value in itertools.pairwise(words) if flag in flags}
        arm = cls(robot="arm", hidden=(128, 128), steps=1500)
        if "mujoco" in asked:
            return dataclasses.replace(
                arm,
                gradient="spsa",
                simulator="mujoco",
                steps=300,
                batch=32,
                checkpoint_every=50,
                out=Path("runs/mujoco"),
            )
        return arm if "arm" in asked else cls()

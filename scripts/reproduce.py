"""The published figures, each with the command behind it; those that are named are made again."""

import sys
from pathlib import Path
from signal import SIGINT
from subprocess import PIPE, Popen

import tyro
from rich.console import Console
from rich.table import Table

SCRIPTS = Path(__file__).parent
_LOOP = "train_closed_loop.py --out OUT"
# Name → what, on the page measured.md or as said, and the command; OUT is the figure's own folder.
FIGURES: dict[str, tuple[str, str]] = {
    "returns": ("README; data/rallies.png, data/rallies.gif", "train.py --out OUT"),
    **{f"returns-{n}": ("the same, another seed", f"train.py --seed {n} --out OUT") for n in "12"},
    **{name: ("returns under other conditions", f"train.py {flags} --out OUT")
        for name, flags in {
            "spin": "--spin 35", "spin-seen": "--spin 35 --observe-spin",
            "spin-slow": "--spin 35 --learning-rate 1e-2",
            "spin-long": "--spin 35 --learning-rate 1e-2 --steps 1600",
            "spin-adam": "--spin 35 --optimizer adam --steps 1600",
            "any-target": "--any-target", "fastest": "--objective fastest",
            "randomised": "--randomise",
        }.items()},
    **{f"shifted-{name}": (f"the figure {name} in other worlds",
        f"evaluate.py runs/figures/{name} --shifted") for name in ("returns", "randomised")},
    "returns-radar": ("the figure returns gone on with, seen by radar", "train.py --radar "
        "--warm-start runs/figures/returns --steps 100 --learning-rate 3e-3 --out OUT"),
    "returns-score-function": ("the same without differentiating the simulator",
        "train.py --gradient score-function --samples 16 --sigma 0.05 --out OUT"),
    "gradients": ("gradients on a ball kept up by a paddle", "compare_gradients.py --out OUT"),
    **{case: ("a published case", f"compare_gradients.py --case {case} --out OUT")
        for case in ("ball-with-wall", "pushing", "friction", "tennis", "chaos")},
    "training": ("data/training.png", "compare_training.py --clock cpu_seconds --out OUT"),
    "arm": ("returns by an arm", "train.py --task arm --out OUT"),
    "mujoco": ("returns in MuJoCo", "train.py --simulator mujoco --steps 300 --out OUT"),
    "mujoco-warm": ("the same from the network of the figure arm", "train.py --simulator mujoco "
        "--warm-start runs/figures/arm --steps 120 --optimizer adam --learning-rate 1e-3 "
        "--out OUT"),
    "mujoco-contact": ("restitution in MuJoCo", "benchmark.py mujoco-contact"),
    "juggling": ("data/juggling.png, data/juggling_seconds.png",
        "benchmark.py closed-loop --out OUT"),
    **{f"juggling-{gradient}": ("juggling, one seed", f"{_LOOP} --gradient {gradient} --steps 300")
        for gradient in ("evolution-strategies", "inverse-variance")},
    **{f"hit-to-target{n and f'-{n}'}": ("a closed loop",
        f"{_LOOP} --env hit-to-target --steps 600 --seed {n or 0}") for n in ("", "1", "2")},
    "hit-to-target-score-function": ("the same without derivatives",
        f"{_LOOP} --env hit-to-target --gradient score-function --steps 600"),
    **{f"rally{n and f'-{n}'}": (f"the network of the figure hit-to-target{n and f'-{n}'} plays on",
        f"{_LOOP} --env rally --steps 300 --seed {n or 0} --learning-rate 1e-2 --warm-start "
        f"runs/figures/hit-to-target{n and f'-{n}'}") for n in ("", "1", "2")},
    "scale": ("data/scale.png", "benchmark.py scale --path OUT/scale.png"),
    "flights": ("constants found", "identify.py data/flights.csv --plot OUT/fit.png"),
    "radar": ("data/radar.png", "radar.py --plot OUT/radar.png"),
    "digits": ("infogain on images", "digits.py --seed 1000 --out OUT/confusion.png"),
    "physics": ("flights beside other simulators", "benchmark.py physics --plot OUT/physics.png"),
    "infogain": ("times of the loss", "benchmark.py infogain"),
    "invertible": ("times and errors of layers", "benchmark.py invertible"),
    **{f"invert-landing-{n}": ("inverted model", f"invert_landing.py --seed {n}") for n in "012"},
}  # fmt: skip


def main(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    out: Path = Path("runs/figures"),
) -> object:
    """List the published figures, or make the named ones again, one after the other.

    Args:
        names: names of figures; none lists them.
        out: folder, with one in it for each figure.
    """
    for name in set(names) - set(FIGURES):
        raise ValueError(f"names: expected some of {', '.join(FIGURES)}, got {name!r}")
    if names:
        codes = {name: _made(name, out.absolute() / name) for name in names}
        return max(codes.values()), codes
    from studies.harness import wide

    table = Table("name", "what", "command", box=None)
    for name, told in FIGURES.items():
        table.add_row(name, *told)
    wide(Console()).print(table)
    rows = FIGURES.items()
    return [{"name": n, "what": what, "command": line.split()} for n, (what, line) in rows]


def _made(name: str, folder: Path) -> int:
    """Run a figure's command from the root of the checkout; its code, above 128 for a signal."""
    words = [word.replace("OUT", str(folder)) for word in FIGURES[name][1].split()]
    words = [sys.executable, str(SCRIPTS / words[0]), *words[1:]]
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{name}: {' '.join(words)}", flush=True)
    child = Popen(words, cwd=SCRIPTS.parent, stdout=PIPE, text=True, start_new_session=True)
    with child, (folder / "output.txt").open("w") as kept:
        try:
            for line in child.stdout or ():
                print(line, end="", flush=True)
                kept.write(line)
        except KeyboardInterrupt:
            child.send_signal(SIGINT)  # in a session of its own it hears of it here, and once
            child.communicate()
            raise
    if child.returncode:
        print(f"{name}: ended with {child.returncode}", file=sys.stderr)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    from _entry import entry

    entry(lambda: tyro.cli(main))

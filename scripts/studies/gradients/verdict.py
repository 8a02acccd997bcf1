"""The comparison in words: where which gradient is right, and what it costs."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

AXES = ("horizon", "bounces", "contact", "radius", "sigma", "samples")


def winner(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of the methods at one setting, the right one that gets to a tenth in the least time."""
    right = [row for row in rows if row["verdict"] == "right"]
    return min(right, key=lambda row: row["seconds_to_tenth"], default=None)


def varied(rows: Sequence[Mapping[str, Any]], base: Mapping[str, Any], axis: str) -> list:
    """The settings that differ from the base in this axis only, with their rows, in order."""
    found: dict[Any, list] = {}
    for row in rows:
        if all(row[other] == base[other] for other in AXES if other != axis):
            found.setdefault(row[axis], []).append(row)
    order = sorted(found) if axis != "contact" else list(found)
    return [(value, found[value]) for value in order]


def words(rows: Sequence[Mapping[str, Any]], base: Mapping[str, Any]) -> list[str]:
    """Sentences: one a method over all settings, then one an axis.

    Args:
        rows: records of :func:`studies.gradients.sweep.sweep`.
        base: the setting that the axes vary.
    """
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault(tuple(row[axis] for axis in AXES), []).append(row)
    best = [winner(group) for group in groups.values()]
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        if all(row["verdict"] is None for row in own):
            cosine = median(row["cosine"] for row in own)
            lines.append(f"{name}: another objective, whose cosine is {cosine:.2f}, median.")
            continue
        right, wrong, unknown = (
            [row for row in own if row["verdict"] == verdict]
            for verdict in ("right", "wrong", "cannot tell")
        )
        wins = sum(row is not None and row["method"] == name for row in best)
        line = f"{name}: right in {len(right)} of {len(own)} settings"
        line += f", cannot tell in {len(unknown)}" if unknown else ""
        line += f", cheapest in {wins}"
        if right:
            calls = median(row["evaluations_to_tenth"] for row in right)
            seconds = median(row["seconds_to_tenth"] for row in right)
            line += (
                f"; where right, {calls:.3g} evaluations ({seconds:.2g} s) to 10 % error, median"
            )
        if wrong:
            worst = max(wrong, key=lambda row: row["relative_bias"])
            line += f"; wrong in {len(wrong)}, worst bias {worst['relative_bias']:.0%} at "
            line += place(worst, base)
        lines.append(line + ".")
    for axis in AXES:
        points = varied(rows, base, axis)
        if len(points) > 1:
            told = ", ".join(f"{value}: {_told(winner(group), group)}" for value, group in points)
            lines.append(f"Over {axis}: {told}.")
    return lines


def place(row: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """How a setting differs from the base, in words."""
    changed = [f"{axis} {row[axis]}" for axis in AXES if row[axis] != base[axis]]
    return ", ".join(changed) or "the base setting"


def _told(best: Mapping[str, Any] | None, group: Sequence[Mapping[str, Any]]) -> str:
    """The winner, and how much more the next right one takes or what is known of the others."""
    others = [row for row in group if row is not best]
    unknown = any(row["verdict"] == "cannot tell" for row in others)
    if best is None:
        return "cannot tell" if unknown else "none is right"
    right = [row for row in others if row["verdict"] == "right"]
    if not right:
        alone = ", alone shown right" if unknown else ", alone right"
        return f"{best['method']}{alone if others else ''}"
    ratio = min(row["seconds_to_tenth"] for row in right) / best["seconds_to_tenth"]
    return (
        f"{best['method']} by {ratio:.0f}×" if ratio >= 10 else f"{best['method']} by {ratio:.2g}×"
    )

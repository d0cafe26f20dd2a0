"""Figures that hardly vary: names and numbers, and the comparison of two sets of them. Less is better in all."""

import json


def save(figures, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")


def change(before, after):
    if before == after:
        return 0.0
    return float("inf") if before == 0 else (after / before - 1) * 100


def line(name, before, after):
    return f"{name}: {before:,} -> {after:,} ({change(before, after):+,.1f} %)"


def compare(before, after, limit_percent):
    """Lines for what is worse than the limit allows, and for what is better by as much."""
    worse, better = [], []
    for name in sorted(before.keys() & after.keys()):
        percent = change(before[name], after[name])
        if percent > limit_percent:
            worse.append(f"{line(name, before[name], after[name])}, limit {limit_percent:g} %")
        elif percent < -limit_percent:
            better.append(line(name, before[name], after[name]))
    return worse, better

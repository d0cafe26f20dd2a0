"""`scripts/bench-gate`: a candidate against its base. One line for each figure that got worse, and then a failure."""

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import counts
import figures
import memory
import system
from checkout import RESULTS, ROOT, Checkout, Failure, commit_of, drop_worktree, say

PARTS = ["counts", "memory", "system"]
# The same in every run of the same code: what is allowed is what a good reason may cost.
COUNTS_PERCENT = 2
STATE_PERCENT = 2
# Pages of a process, medians of three: they vary by some percent.
PROCESS_PERCENT = 10
# Beyond chance besides, and in two measurements.
SYSTEM_PERCENT = 10
TIMING = "--warmup 0.5 -d 1 --windows 3"


@dataclass
class Side:
    """What was measured of a commit; None of what it has no bench for."""

    name: str
    counts: dict | None = None
    state: dict | None = None
    server: Path | None = None
    loadgen: Path | None = None


def prepare(checkout, folder, parts, with_loadgen):
    """Builds what must be built in the tree, and measures what is the same in every run."""
    side = Side(checkout.name)
    if "counts" in parts and counts.has_counts(checkout):
        say(f"{side.name}: counting instructions and heap")
        side.counts = counts.measure(checkout, folder)
        figures.save(side.counts, folder / "counts.json")
    if "memory" in parts:
        say(f"{side.name}: counting bytes of state")
        side.state = memory.state(checkout)
        figures.save(side.state, folder / "state.json")
    if {"memory", "system"} & set(parts):
        say(f"{side.name}: building")
        side.server = checkout.binary("fanfare-server", "fanfare", folder / "bin")
        if with_loadgen:
            side.loadgen = checkout.binary("fanfare-loadgen", "fanfare-loadgen", folder / "bin")
    return side


class Gate:
    def __init__(self):
        self.failures = []

    def fail(self, part, line):
        self.failures.append(f"FAILED {part}: {line}")

    def exact(self, part, before, after, limit_percent):
        if not before or not after:
            which = "base" if not before else "candidate"
            say(f"{part}: the {which} has none; nothing is compared")
            return
        if only := sorted(before.keys() ^ after.keys()):
            say(f"{part}: not in both, and so not compared: {', '.join(only)}")
        worse, better = figures.compare(before, after, limit_percent)
        for line in worse:
            self.fail(part, line)
        for line in better:
            say(f"better {part}: {line}")

    def processes(self, base, candidate, loadgen, folder):
        measured = []
        for side in (base, candidate):
            say(f"{side.name}: memory of connections at rest")
            process = memory.process(side.server, loadgen, folder, 15_000, 3)
            figures.save(process, folder / f"process-{len(measured)}.json")
            measured.append(process)
        before, after = ({name: of[name] for name in memory.COMPARED} for of in measured)
        self.exact("memory", before, after, PROCESS_PERCENT)
        for line in memory.beyond_bounds(measured[1]):
            self.fail("memory", line)

    def systems(self, base, candidate, loadgen, folder, rounds):
        binaries = {"base": base.server, "candidate": candidate.server}

        def measure(scenarios):
            return system.compare(binaries, loadgen, folder, scenarios, TIMING, rounds, SYSTEM_PERCENT)

        suspects = measure(list(system.SCENARIOS))
        if not suspects:
            return
        for line in suspects.values():
            say(f"system: suspect: {line}")
        # Among twenty numbers one is beyond chance by chance: what counts is what is worse a second time.
        again = measure(sorted({scenario for scenario, _ in suspects}))
        for key in sorted(suspects.keys() & again.keys()):
            self.fail("system", again[key])


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench-gate", description="Fails if the candidate is worse.")
    parser.add_argument("base", metavar="BASE", help="a commit")
    parser.add_argument("candidate", metavar="CANDIDATE", nargs="?", help="a commit; the current checkout if left out")
    parser.add_argument("--only", metavar="PART,…", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="of four server processes each: base, candidate, candidate, base")
    args = parser.parse_args()
    parts = args.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")

    folder = RESULTS / "gate"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        base = prepare(Checkout.of(commit_of(args.base)), folder / "base", parts, with_loadgen=False)
        tree = Checkout.of(commit_of(args.candidate)) if args.candidate else Checkout.current()
        candidate = prepare(tree, folder / "candidate", parts, with_loadgen=True)
    finally:
        drop_worktree()

    gate = Gate()
    if "counts" in parts:
        gate.exact("counts", base.counts, candidate.counts, COUNTS_PERCENT)
    if "memory" in parts:
        gate.exact("memory", base.state, candidate.state, STATE_PERCENT)
        gate.processes(base, candidate, candidate.loadgen, folder)
    if "system" in parts:
        gate.systems(base, candidate, candidate.loadgen, folder, args.rounds)
    verdict = f"{candidate.name} against {base.name}, {', '.join(parts)}"
    lines = gate.failures + [f"bench-gate: {'FAILED' if gate.failures else 'passed'}: {verdict}"]
    (folder / "verdict.txt").write_text("\n".join(lines) + "\n")
    say("\n".join(lines))
    say(f"results are in {folder.relative_to(ROOT)}")
    return 1 if gate.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"bench-gate: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)

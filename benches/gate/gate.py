"""`scripts/bench-gate`: a candidate against its base. One line for each figure that got worse, and then a failure."""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

import counts
import figures
import memory
import system
from checkout import RESULTS, ROOT, Checkout, commit_of, drop_worktree, run_alone, say

PARTS = ["counts", "state", "memory", "system"]
# Counts and state are the same in every run of the same code: what is allowed is what a good reason may cost.
COUNTS_PERCENT = 2
STATE_PERCENT = 2
# Pages of a process, medians of three: they vary by some percent.
MEMORY_PERCENT = 10
# Of CPU time; beyond chance besides, and in two measurements.
SYSTEM_PERCENT = 10
TIMING = "--warmup 0.5 -d 1 --windows 3"
ROUNDS = 3


@dataclass
class Side:
    """What was measured of a commit, and built from it; None of what it has no bench for, or was not asked for."""

    name: str
    counts: dict | None = None
    state: dict | None = None
    server: Path | None = None
    loadgen: Path | None = None


def prepare(checkout, folder, parts, with_loadgen=False):
    """Measures what is the same in every run, and builds what the rest takes."""
    side = Side(checkout.name)
    if "counts" in parts and counts.has_counts(checkout):
        say(f"{side.name}: counting instructions and heap")
        side.counts = counts.measure(checkout, folder)
        figures.save(side.counts, folder / "counts.json")
    if "state" in parts:
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
    """Judges a candidate. One load generator measures both sides."""

    def __init__(self, base, candidate, loadgen, folder):
        self.base, self.candidate, self.loadgen, self.folder = base, candidate, loadgen, folder
        self.failures, self.inconclusive = [], []

    def judge(self, parts, rounds):
        """Lines for what failed; none if nothing did."""
        if "counts" in parts:
            self._compare("counts", self.base.counts, self.candidate.counts, COUNTS_PERCENT)
        if "state" in parts:
            self._compare("state", self.base.state, self.candidate.state, STATE_PERCENT)
        if "memory" in parts:
            self._processes()
        if "system" in parts:
            self._systems(rounds)
        return self.failures

    def _fail(self, part, line):
        self.failures.append(f"FAILED {part}: {line}")

    def _compare(self, part, before, after, limit_percent):
        if not before or not after:
            which = self.candidate.name if before else f"{self.base.name}, the base,"
            say(f"{part}: {which} has none of these figures, so that nothing is compared")
            return
        if only := sorted(before.keys() ^ after.keys()):
            say(f"{part}: not on both sides, and so not compared: {', '.join(only)}")
        worse, better = figures.compare(before, after, limit_percent)
        for line in worse:
            self._fail(part, line)
        for line in better:
            say(f"better {part}: {line}")
        say(f"{part}: {len(before.keys() & after.keys())} figures compared, {len(worse)} worse")

    def _processes(self):
        measured = []
        for side in (self.base, self.candidate):
            say(f"{side.name}: memory of connections at rest")
            process = memory.process(side.server, self.loadgen, self.folder, 15_000, 3)
            figures.save(process, self.folder / f"memory-{side.name}.json")
            measured.append(process)
        before, after = ({name: of[name] for name in memory.COMPARED} for of in measured)
        self._compare("memory", before, after, MEMORY_PERCENT)
        for line in memory.beyond_bounds(measured[1]):
            self._fail("memory", line)

    def _systems(self, rounds):
        binaries = {"base": self.base.server, "candidate": self.candidate.server}

        def measure(scenarios, name, rounds):
            folder = self.folder / name
            return system.compare(binaries, self.loadgen, folder, scenarios, TIMING, rounds, SYSTEM_PERCENT)

        first = measure(list(system.SCENARIOS), "system", rounds)
        suspects = first.worse | first.inconclusive
        for line in suspects.values():
            say(f"system: suspect: {line}")
        if not suspects:
            return
        # What counts is what is worse a second time; what the first runs could not say has twice as many now.
        again = measure(sorted({scenario for scenario, _ in suspects}), "system-again", 2 * rounds)
        for key in sorted(suspects.keys() & again.worse.keys()):
            self._fail("system", again.worse[key])
        for key in sorted(suspects.keys() & again.inconclusive.keys()):
            self.inconclusive.append(f"INCONCLUSIVE system: {again.inconclusive[key]}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench-gate", description="Fails if the candidate is worse.")
    parser.add_argument("base", metavar="BASE", help="a commit")
    parser.add_argument("candidate", metavar="CANDIDATE", nargs="?", help="a commit; the current checkout if left out")
    parser.add_argument("--only", metavar="PART,…", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    rounds = "rounds of four server processes each: base, candidate, candidate, base"
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=rounds)
    args = parser.parse_args()
    parts = args.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")

    folder = RESULTS / "gate"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        base = prepare(Checkout.of(commit_of(args.base)), folder / "base", parts)
        tree = Checkout.of(commit_of(args.candidate)) if args.candidate else Checkout.current()
        candidate = prepare(tree, folder / "candidate", parts, with_loadgen=True)
    finally:
        drop_worktree()
    gate = Gate(base, candidate, candidate.loadgen, folder)
    failures = gate.judge(parts, args.rounds)
    word = "FAILED" if failures else "INCONCLUSIVE" if gate.inconclusive else "passed"
    verdict = f"bench-gate: {word}: {candidate.name} against {base.name}"
    lines = [*failures, *gate.inconclusive, f"{verdict} ({', '.join(parts)})"]
    (folder / "verdict.txt").write_text("\n".join(lines) + "\n")
    say("\n".join(lines))
    say(f"results are in {folder.relative_to(ROOT)}")
    return 1 if failures else 3 if gate.inconclusive else 0


if __name__ == "__main__":
    run_alone("bench-gate", main)

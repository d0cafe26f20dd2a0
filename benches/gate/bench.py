"""`scripts/bench`: measures the current checkout and prints a summary."""

import argparse
import json

import counts
import figures
import memory
import system
from checkout import RESULTS, ROOT, Checkout, run_alone, say

PARTS = ["criterion", "counts", "memory", "system"]


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures the current checkout.")
    parser.add_argument("--quick", action="store_true", help="shorter runs: to see that all works, not to compare")
    parser.add_argument("--only", metavar="PART,…", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    args = parser.parse_args()
    parts = args.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")

    checkout = Checkout.current()
    folder = RESULTS / checkout.name
    folder.mkdir(parents=True, exist_ok=True)
    summary, problems = [f"commit {checkout.name}"], []
    if "criterion" in parts:
        summary += criterion(checkout, folder, args.quick)
    if "counts" in parts:
        found = counts.measure(checkout, folder)
        figures.save(found, folder / "counts.json")
        summary += ["", "instructions and heap"] + table(found)
    if {"memory", "system"} & set(parts):
        server = checkout.binary("fanfare-server", "fanfare", folder / "bin")
        loadgen = checkout.binary("fanfare-loadgen", "fanfare-loadgen", folder / "bin")
    if "memory" in parts:
        state = memory.state(checkout)
        process = memory.process(server, loadgen, folder, *((4000, 1) if args.quick else (15_000, 3)))
        figures.save(state | process, folder / "memory.json")
        summary += ["", "bytes"] + table(state | process)
        problems += memory.beyond_bounds(process)
    if "system" in parts:
        timing = "--warmup 0.3 -d 0.5 --windows 1" if args.quick else "--warmup 1 -d 2 --windows 3"
        summary += ["", "server CPU time and rates, server and generator on a core each"]
        for name in system.SCENARIOS:
            say(f"system: {name}")
            report = system.run(server, loadgen, name, timing, folder / f"{name}.json")
            summary.append(f"{name:>52}  {system.summary(report)}")
    summary += [""] + [f"FAILED memory: {problem}" for problem in problems]
    text = "\n".join(summary).rstrip()
    (folder / "summary.txt").write_text(text + "\n")
    say(text)
    say(f"results are in {folder.relative_to(ROOT)}")
    return 1 if problems else 0


def table(found):
    return [f"{name:>52}  {value:,}" for name, value in found.items()]


def criterion(checkout, folder, quick):
    """Times of each group's contenders, beside each other."""
    home = folder / "criterion"
    names = [file.stem for file in sorted((ROOT / "benches" / "benches").glob("*.rs")) if file.stem != "counts"]
    benches = [word for name in names for word in ("--bench", name)]
    environment = {"CRITERION_HOME": str(home)} | ({"FANFARE_BENCH_LARGE": "0"} if quick else {})
    say(f"criterion: {', '.join(names)}")
    arguments = ["bench", "--locked", "--package", "fanfare-benches", *benches, "--"]
    out = checkout.cargo(*arguments, *(["--quick"] if quick else []), environment=environment)
    (folder / "criterion.txt").write_text(out)
    rows = []
    for file in sorted(home.glob("**/new/estimates.json")):
        named = json.loads((file.parent / "benchmark.json").read_text())
        nanoseconds = json.loads(file.read_text())["median"]["point_estimate"]
        rows.append(f"{named['full_id']:>52}  {nanoseconds:,.1f} ns")
    return ["", "times"] + rows


if __name__ == "__main__":
    run_alone("bench", main)

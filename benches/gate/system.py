"""Whole servers under load: a few short scenarios, each of them against a fresh process."""

import json
import subprocess

from checkout import Failure, say
from server import Server

SCENARIOS = {
    "fanout-w1": "fanout -n 1000 --payload 64 --window 1",
    "fanout-w32": "fanout -n 1000 --payload 64 --window 32",
    "send-w4": "send --channels 500 --members 2 --payload 64 --window 4",
    "connect": "connect --cycles 32",
}
# What a summary shows of a report.
SHOWN = {
    "server_s_per_million_deliveries": "s/M deliveries",
    "server_s_per_million_operations": "s/M operations",
    "deliveries_per_second": "deliveries/s",
    "operations_per_second": "operations/s",
}


def run(server_binary, loadgen, scenario, timing, report):
    """One report. A run that is no result is done once more, and then a failure."""
    for _ in range(2):
        with Server(server_binary) as server:
            problem = server.load(loadgen, f"{SCENARIOS[scenario]} {timing}", report)
        if not problem:
            return report
    raise Failure(f"system: {scenario}: {problem}")


def summary(report):
    median = json.loads(report.read_text())["runs"][0]["report"]["median"]
    return ", ".join(f"{median[key]:,.3g} {unit}" for key, unit in SHOWN.items() if median.get(key))


def compare(binaries, loadgen, folder, scenarios, timing, rounds, gate_percent):
    """Interleaves the two servers (base, candidate, candidate, base, and so on) and lets the load generator judge.

    Returns a line for each number that failed, by scenario and number, and writes all tables to `folder`.
    """
    reports = {(name, side): [] for name in scenarios for side in binaries}
    base, candidate = binaries
    for turn, side in enumerate([base, candidate, candidate, base] * rounds):
        for name in scenarios:
            report = folder / f"{name}-{side}-{turn}.json"
            reports[name, side].append(run(binaries[side], loadgen, name, timing, report))
        say(f"system: process {turn + 1} of {4 * rounds}")
    failed = {}
    with (folder / "tables.txt").open("w") as tables:
        for name in scenarios:
            before, after = (",".join(map(str, reports[name, side])) for side in binaries)
            command = [loadgen, "compare", before, after, "--gate", str(gate_percent)]
            judged = subprocess.run(command, capture_output=True, text=True)
            tables.write(f"{name}\n{judged.stdout}{judged.stderr}\n")
            if judged.returncode not in (0, 1):
                raise Failure(f"system: {name}: {judged.stderr.strip()}")
            for line in judged.stdout.splitlines():
                if line.endswith("FAILED"):
                    # Names stand in the first 24 columns.
                    failed[name, line[:24].strip()] = f"{name} {' '.join(line.removesuffix('FAILED').split())}"
            if judged.returncode == 1 and not any(scenario == name for scenario, _ in failed):
                raise Failure(f"system: {name}: the comparison failed without naming a number.")
    return failed

"""Whole servers under load: a few short scenarios, each of them against a fresh process."""

import json
import subprocess
from dataclasses import dataclass

from checkout import Failure, say
from server import Server

SCENARIOS = {
    "fanout-w1": "fanout -n 1000 --payload 64 --window 1",
    "fanout-w32": "fanout -n 1000 --payload 64 --window 32",
    "send-w4": "send --channels 500 --members 2 --payload 64 --window 4",
    "connect": "connect --cycles 32",
}
# Those that are judged by the cost of an operation.
OPERATIONS = {"connect"}
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
    row = json.loads(report.read_text())["runs"][0]["report"]["summary"]
    return ", ".join(f"{row[key]:,.3g} {unit}" for key, unit in SHOWN.items() if row.get(key))


@dataclass
class Judged:
    """Numbers of scenarios that are worse, and those of which the runs cannot say whether they are: a line for each."""

    worse: dict
    inconclusive: dict


def compare(binaries, loadgen, folder, scenarios, timing, rounds, gate_percent):
    """Interleaves the two servers (base, candidate, candidate, base, and so on) and lets the load generator judge.

    All tables go to `folder`. What is judged is the server's CPU time, which holds whichever side is the limit.
    """
    reports = {(name, side): [] for name in scenarios for side in binaries}
    base, candidate = binaries
    for turn, side in enumerate([base, candidate, candidate, base] * rounds):
        for name in scenarios:
            report = folder / f"{name}-{side}-{turn}.json"
            reports[name, side].append(run(binaries[side], loadgen, name, timing, report))
        say(f"system: process {turn + 1} of {4 * rounds}")
    judged = Judged({}, {})
    with (folder / "tables.txt").open("w") as tables:
        for name in scenarios:
            before, after = (",".join(map(str, reports[name, side])) for side in binaries)
            judge(loadgen, name, (before, after), folder / f"{name}.json", gate_percent, judged, tables)
    return judged


def judge(loadgen, name, sides, path, gate_percent, judged, tables):
    gate = f"cpu-{'operations' if name in OPERATIONS else 'deliveries'}={gate_percent}"
    done = subprocess.run(
        [loadgen, "compare", *sides, "--gate", gate, "--json", path], capture_output=True, text=True
    )
    tables.write(f"{name}\n{done.stdout}{done.stderr}\n")
    if done.returncode not in (0, 1, 3):
        raise Failure(f"system: {name}: {done.stderr.strip()}")
    for number in (number for section in json.loads(path.read_text())["sections"] for number in section["numbers"]):
        into = {"worse": judged.worse, "inconclusive": judged.inconclusive}.get(number["finding"])
        if into is not None:
            into[name, number["name"]] = line(name, number)
    if done.returncode and not any(scenario == name for scenario, _ in judged.worse | judged.inconclusive):
        raise Failure(f"system: {name}: the comparison failed without naming a number.")


def line(scenario, number):
    """One number of a comparison in words."""
    text = f"{scenario} {number['name']}"
    if number["change_percent"] is not None:
        text += f" {number['before']:.3f} -> {number['after']:.3f} ({number['change_percent']:+.1f} %)"
    if number["interval_percent"]:
        text += ", 95 %: {:+.1f} to {:+.1f} %".format(*number["interval_percent"])
    if number["finding"] == "inconclusive":
        text += f", {number['runs_needed'] or 'no number of'} runs a side would do"
    return text

"""Whole servers under load: a few short scenarios, each of them against a fresh process."""

import json
import os
import shlex
import socket
import subprocess
from dataclasses import dataclass

from checkout import Failure, say
from server import KEY, Server, cores, write_config

# The options of the load generator's scenarios.
SCENARIOS = {
    "fanout-w1": {"scenario": "fanout", "subscribers": 1000, "payload": 64, "window": 1},
    "fanout-w32": {"scenario": "fanout", "subscribers": 1000, "payload": 64, "window": 32},
    "send-w4": {"scenario": "send", "channels": 500, "members": 2, "payload": 64, "window": 4},
    "connect": {"scenario": "connect", "cycles": 32},
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


def options(scenario):
    """A scenario as it stands on a command line."""
    of = SCENARIOS[scenario]
    return " ".join([of["scenario"], *(f"--{name} {value}" for name, value in of.items() if name != "scenario")])


def plan(scenario):
    """A scenario as a file."""
    part = ", ".join(f"{name} = {json.dumps(value)}" for name, value in SCENARIOS[scenario].items())
    return f'[[phase]]\nname = "{scenario}"\npart = [{{ {part} }}]\n'


def run(server_binary, loadgen, scenario, timing, report):
    """One report. A run that is no result is done once more, and then a failure."""
    for _ in range(2):
        with Server(server_binary) as server:
            problem = server.load(loadgen, f"{options(scenario)} {timing}", report)
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
    """Has the load generator start the two servers in turns (base, candidate, candidate, base, and so on) and judge.

    All reports and tables go to `folder`. What is judged is the server's CPU time, which holds whichever side is the
    limit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    judged = Judged({}, {})
    with (folder / "tables.txt").open("w") as tables:
        for name in scenarios:
            say(f"system: {name}: {4 * rounds} processes")
            judge(binaries, loadgen, name, folder, f"{timing} --rounds {rounds}", gate_percent, judged, tables)
    return judged


def judge(binaries, loadgen, name, folder, timing, gate_percent, judged, tables):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config, path, comparison = folder / "fanfare.toml", folder / f"{name}.toml", folder / f"{name}.json"
    write_config(config, f"127.0.0.1:{port}", '"off"')
    path.write_text(plan(name))
    base, candidate = (shlex.join([str(binary), "--config", str(config)]) for binary in binaries.values())
    server_cpu, generator_cpu = cores()
    gate = f"cpu-{'operations' if name in OPERATIONS else 'deliveries'}={gate_percent}"
    url = f"ws://127.0.0.1:{port}"
    command = [
        loadgen, "ab", path, "--a", base, "--b", candidate, "--ready", url, "--url", url, "--key", KEY, *timing.split(),
        "--server-cpu", str(server_cpu), "--pin", str(generator_cpu), "--lower-bound", "--gate", gate,
        "--out", folder / name, "--json", comparison,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FANFARE_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    tables.write(f"{name}\n{done.stdout}{done.stderr}\n")
    # Without a comparison, a run was no result.
    if done.returncode not in (0, 1, 3) or not comparison.exists():
        raise Failure(f"system: {name}: {' '.join(done.stderr.split()) or f'exit status {done.returncode}'}")
    sections = json.loads(comparison.read_text())["sections"]
    for number in (number for section in sections for number in section["numbers"]):
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

"""What state costs: counted by the allocator in the core's tests, and seen from outside in a server at rest.

The tests print a line `bytes: NAME NUMBER` for each of their figures, and bound it: a new figure is one more
such line in a test whose name begins with `state_bytes`.
"""

import json
import re
import statistics

from checkout import Failure
from server import Server

# Bytes for each connection, as the kernel counts pages. What is kept after all have gone is for those who come next:
# the allocator gives nothing back while nothing happens, and the second generation shows that it is used again.
BOUNDS = {
    "idle connection": 400,
    "kept of a connection after all have gone": 420,
    "growth for each connection of a second generation": 100,
}
# The other two are small differences of large numbers: they are bounded, not compared.
COMPARED = ["idle connection"]


def state(checkout):
    out = checkout.cargo(
        "test", "--locked", "--package", "fanfare-core", "--test", "state_bytes*", "--", "--nocapture"
    )
    figures = {name: int(number) for name, number in re.findall(r"^bytes: ([^,\n]+) (\d+)$", out, re.MULTILINE)}
    return {f"state/{name}": number for name, number in figures.items()}


def process(server_binary, loadgen, folder, connections, servers):
    """Medians over some fresh servers."""
    runs = [generations(server_binary, loadgen, folder, connections) for _ in range(servers)]
    return {name: round(statistics.median(run[name] for run in runs)) for name in BOUNDS}


def generations(server_binary, loadgen, folder, connections):
    """Connections come, rest and go, twice, at one server."""
    idle = f"idle -n {connections} --base {connections // 10} --members 10 --settle 1"
    with Server(server_binary) as server:
        # Code and buffers that any server has after its first connections.
        load(server, loadgen, "connect --warmup 0 -d 0.5 --windows 1", folder / "memory-warm-up.json")
        resident = [server.resident_bytes()]
        at_rest = []
        for generation in (1, 2):
            report = load(server, loadgen, idle, folder / f"memory-{generation}.json")
            at_rest.append(report["idle_bytes"])
            resident.append(server.resident_bytes())
    growth = [max(0, after - before) / connections for before, after in zip(resident, resident[1:])]
    return dict(zip(BOUNDS, [at_rest[0], *growth]))


def load(server, loadgen, arguments, report):
    problem = server.load(loadgen, arguments, report)
    if problem:
        raise Failure(f"memory: {problem}")
    server.await_no_connections()
    return json.loads(report.read_text())["runs"][0]["report"]


def beyond_bounds(figures):
    return [
        f"{name}: {figures[name]} bytes, bound {bound}" for name, bound in BOUNDS.items() if figures[name] > bound
    ]

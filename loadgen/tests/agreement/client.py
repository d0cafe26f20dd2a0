"""A second opinion on latency: a subscriber that shares no code with the generator.

Runs the generator in an open loop, joins its channel, and takes the latency of every publication itself:
from the due time in its stamp (loadgen/src/stamp.rs) to the moment it was read, both of CLOCK_MONOTONIC. Then holds
the generator's percentiles of the same windows against its own. Only the standard library, so that what stands between
the socket and the clock is one call.

There are two passes: the client joins before the generator's subscriber, and after it. Who joined first is served
first, and where both share a core the one that is woken second waits for the other. What is held against each other
is the mean of both passes.

Exit status: 0 if all compared percentiles agree within 5 % or 20 µs, 1 if not.
"""

import argparse
import base64
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

TOLERANCE_SHARE = 0.05
TOLERANCE_US = 20.0
MAGIC = b"~FF~"
# What the generator calls its first channel.
CHANNEL = "c0"
SHARES = [50, 90, 99]


def connect(host, port, key):
    sock = socket.create_connection((host, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    nonce = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET /v1/ws?key={key}&echo=false HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n\r\n".encode()
    )
    received = b""
    while b"\r\n\r\n" not in received:
        received += sock.recv(4096)
    head, rest = received.split(b"\r\n\r\n", 1)
    if b" 101 " not in head.split(b"\r\n")[0]:
        sys.exit(f"the handshake was refused: {head.decode(errors='replace')}")
    return sock, rest


def send(sock, opcode, payload):
    assert len(payload) < 126
    # A mask of zeros leaves the payload as it is (RFC 6455, 5.3).
    sock.sendall(bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload)


def take_frames(buffered):
    """Splits whole frames off: opcode and payload of each, and what is left."""
    frames = []
    while len(buffered) >= 2:
        length, at = buffered[1] & 0x7F, 2
        if length == 126:
            if len(buffered) < 4:
                break
            (length,), at = struct.unpack(">H", buffered[2:4]), 4
        elif length == 127:
            if len(buffered) < 10:
                break
            (length,), at = struct.unpack(">Q", buffered[2:10]), 10
        if len(buffered) < at + length:
            break
        frames.append((buffered[0] & 0x0F, buffered[at : at + length]))
        buffered = buffered[at + length :]
    return frames, buffered


def word(letters):
    """Eight letters a to p, lowest four bits first."""
    return sum((letter - ord("a")) << (4 * place) for place, letter in enumerate(letters))


def due_ns(payload):
    """When a stamped publication was due, or None for anything else."""
    at = payload.find(MAGIC)
    if at < 0:
        return None
    words = [payload[at + 4 + 8 * n : at + 12 + 8 * n] for n in range(6)]
    return word(words[4]) << 32 | word(words[5])


def listen(sock, spin, ended):
    """Everything that is read until the generator has ended, and when: nothing else is done meanwhile."""
    reads = []
    sock.settimeout(0 if spin else 0.2)
    while not ended.is_set():
        try:
            received = sock.recv(1 << 16)
            reads.append((time.monotonic_ns(), received))
        except (BlockingIOError, TimeoutError):
            continue
        if not received:
            sys.exit("the server closed the connection")
    return reads


def publications(buffered, reads):
    """When each publication was due, and its latency."""
    for now, received in reads:
        frames, buffered = take_frames(buffered + received)
        for opcode, payload in frames:
            due = due_ns(payload) if opcode == 1 else None
            if due is not None:
                yield due, now - due


def wait(generator, sock, ended):
    """Waits for the generator, and now and then says that this client lives."""
    while not ended.is_set():
        try:
            generator.wait(timeout=10)
            ended.set()
        except subprocess.TimeoutExpired:
            send(sock, 10, b"")


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * share // 100) - 1))] / 1e3


def join(args):
    sock, buffered = connect(args.host, args.port, args.key)
    send(sock, 1, json.dumps({"type": "join", "id": 1, "channel": CHANNEL}).encode())
    while b'"id":1' not in buffered:
        buffered += sock.recv(1 << 16)
    return sock, buffered


def measure(args, comes_first):
    """One pass: the generator's percentiles in microseconds, those of this client, and the generator's problems."""
    joined = join(args) if comes_first else None
    unix_minus_monotonic = time.time_ns() - time.monotonic_ns()
    command = [*args.generator, "--json", args.json]
    # What it prints while it measures is a few lines: they fit the pipe.
    generator = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while "warming up" not in (line := generator.stderr.readline()):
        if not line:
            sys.exit("the generator ended early")
    sock, buffered = joined or join(args)
    ended = threading.Event()
    threading.Thread(target=wait, args=(generator, sock, ended), daemon=True).start()
    samples = list(publications(buffered, listen(sock, args.spin, ended)))
    sock.close()

    with open(args.json, encoding="utf-8") as file:
        report = json.load(file)["runs"][0]["report"]
    begin = report["started_unix_ns"] - unix_minus_monotonic
    end = begin + sum(row["seconds"] for row in report["windows"]) * 1e9
    own = sorted(latency for due, latency in samples if begin <= due < end)
    if not own:
        sys.exit("this client received nothing")
    theirs = [report["summary"]["latency"][f"p{share}_us"] for share in SHARES]
    return theirs, [percentile(own, share) for share in SHARES], report["problems"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--cpu", type=int, required=True, help="where this client runs")
    parser.add_argument("--spin", action="store_true", help="never sleep")
    parser.add_argument("--json", required=True, help="where the generator writes its report")
    parser.add_argument("generator", nargs="+", help="the generator's command line")
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cpu})

    first = measure(args, comes_first=True)
    last = measure(args, comes_first=False)
    print(f"{'µs':>10} {'generator':>11} {'client':>9}   {'generator':>11} {'client':>9}   {'mean difference':>15}")
    print(f"{'':>10} {'client joined first':>21}   {'client joined last':>21}")
    agrees = True
    for at, share in enumerate(SHARES):
        (theirs, own), (theirs_last, own_last) = [(each[0][at], each[1][at]) for each in (first, last)]
        difference = (theirs - own + theirs_last - own_last) / 2
        close = abs(difference) <= max(TOLERANCE_US, TOLERANCE_SHARE * (own + own_last) / 2)
        agrees &= close
        verdict = "" if close else "  more than 5 % and 20 µs"
        print(
            f"{'p' + str(share):>10} {theirs:>11.1f} {own:>9.1f}   {theirs_last:>11.1f} {own_last:>9.1f}"
            f"   {difference:>+15.1f}{verdict}"
        )
    for problem in first[2] + last[2]:
        print(f"the generator says: {problem}")
    print("agreement" if agrees else "NO AGREEMENT")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())

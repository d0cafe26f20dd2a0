"""`scripts/test-bench-gate`: does the gate pass what is the same, and fail what is slower or larger?

Each patch in `slowdowns/` is named after the part of the gate that must see it. It becomes a commit that no branch
knows, and that is the candidate; its parent is the base.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from checkout import RESULTS, Checkout, commit_of, drop_worktree, git, run_alone, say
from gate import PARTS, ROUNDS, Gate, prepare

SLOWDOWNS = Path(__file__).parent / "slowdowns"
# What the gate must name: the paths that the patch is in.
NAMED = {
    "counts": ["fanout/of_1000x32 instructions", "publish/to_1 heap blocks"],
    "state": ["state/session"],
    "system": ["fanout-w1 server s/M deliveries"],
}


def slowed_down(head, part):
    """A commit: `head` and a patch."""
    with tempfile.TemporaryDirectory() as scratch:
        index = {"env": os.environ | {"GIT_INDEX_FILE": f"{scratch}/index"}}
        git("read-tree", head, **index)
        git("apply", "--cached", str(SLOWDOWNS / f"{part}.patch"), **index)
        tree = git("write-tree", **index)
    identity = ["-c", "user.name=bench-gate", "-c", "user.email=bench-gate@localhost"]
    return git(*identity, "commit-tree", tree, "-p", head, "-m", f"A slowdown: {part}")


def judge(base, commit, folder, parts, rounds):
    candidate = prepare(Checkout.of(commit), folder, parts)
    failures = Gate(base, candidate, base.loadgen, folder).judge(parts, rounds)
    for line in failures:
        say(line)
    return failures


def main():
    parser = argparse.ArgumentParser(prog="scripts/test-bench-gate", description="Tests scripts/bench-gate.")
    parser.add_argument("--only", metavar="PART,…", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="as in scripts/bench-gate")
    args = parser.parse_args()
    parts = args.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    folder = RESULTS / "self-test"
    shutil.rmtree(folder, ignore_errors=True)
    head = commit_of("HEAD")
    wrong = []
    try:
        base = prepare(Checkout.of(head), folder / "base", parts, with_loadgen=True)
        say("identical code")
        if judge(base, head, folder / "identical", parts, args.rounds):
            wrong.append("identical code failed")
        for part in filter(NAMED.get, parts):
            say(f"slower: {part}")
            failures = judge(base, slowed_down(head, part), folder / part, [part], args.rounds)
            for name in NAMED[part]:
                if not any(line.startswith(f"FAILED {part}: {name}") for line in failures):
                    wrong.append(f"the slowdown of {part} did not fail {name}")
    finally:
        drop_worktree()
    for line in wrong or ["the gate passed what is the same, and failed what is slower or larger"]:
        say(f"test-bench-gate: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    run_alone("test-bench-gate", main)

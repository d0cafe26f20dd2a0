"""Counts the outcomes of an Autobahn report: `count.py INDEX.JSON CASES`. Fails unless all CASES passed."""

import collections
import json
import sys

PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}

path, wanted = sys.argv[1], int(sys.argv[2])
with open(path, encoding="utf-8") as file:
    cases = {case: outcome for agent in json.load(file).values() for case, outcome in agent.items()}
failed = sorted(case for case, outcome in cases.items() if {outcome["behavior"], outcome["behaviorClose"]} - PASSED)
counts = collections.Counter(outcome["behavior"] for outcome in cases.values())
print(f"{len(cases)} cases:", ", ".join(f"{count} {behaviour}" for behaviour, count in counts.most_common()))
if failed or len(cases) != wanted:
    sys.exit(f"failed: {', '.join(failed) or f'{wanted} cases were to run'}")

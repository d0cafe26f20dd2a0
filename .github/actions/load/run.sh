#!/usr/bin/env bash
# Starts the server $START, runs the plan $PLAN against $URL with $OPTIONS, and compares the report with fanfare-last.json by
# $GATE if both are there. A good report becomes the new fanfare-last.json. Exits as the generator does.
set -euo pipefail

setsid bash -c "exec $START" &
server=$!
stop() { kill -- "-$server" 2>/dev/null || true; }
trap stop EXIT

address=${URL#*://}
address=${address%%/*}
host=${address%:*} port=${address##*:}
deadline=$((SECONDS + ${READY_SECONDS:-60}))
until (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; do
  kill -0 "$server" 2>/dev/null || { echo "The server ended before it listened: $START" >&2; exit 2; }
  ((SECONDS < deadline)) || { echo "The server did not listen at $address." >&2; exit 2; }
  sleep 0.2
done

summary=${GITHUB_STEP_SUMMARY:-/dev/null}
status=0
# shellcheck disable=SC2086 # the options are several words
fanfare-loadgen mix "$PLAN" --url "$URL" ${OPTIONS:-} --json fanfare-report.json --html fanfare-report.html |
  tee fanfare-report.txt || status=$?
{ echo '### Load'; echo '```'; cat fanfare-report.txt; echo '```'; } >> "$summary"
((status == 0)) || exit "$status"

if [[ -n "${GATE:-}" && -e fanfare-last.json ]]; then
  fanfare-loadgen compare fanfare-last.json fanfare-report.json --gate "$GATE" --markdown fanfare-report.md || status=$?
  cat fanfare-report.md >> "$summary"
  # One run against one says nothing about chance: it is shown, and only what is worse for certain fails.
  ((status == 3)) && status=0
fi
((status == 0)) && cp fanfare-report.json fanfare-last.json
exit "$status"

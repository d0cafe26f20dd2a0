#!/usr/bin/env bash
# Starts the server $START and runs the plan $PLAN against $URL with $OPTIONS, $RUNS times. If $GATE is not empty, compares the
# reports with those of the last good job in fanfare-last/; those of a good job take their place. Exits as the generator does.
set -euo pipefail

setsid bash -c "exec $START" &
server=$!
# Waits for the server's end, so that its port is free for the next run.
stop() {
  kill -- "-$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
}
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
reports=()
for run in $(seq "${RUNS:-1}"); do
  name=fanfare-report-$run status=0
  # shellcheck disable=SC2086 # the options are several words
  fanfare-loadgen mix "$PLAN" --url "$URL" ${OPTIONS:-} --json "$name.json" --html "$name.html" |
    tee "$name.txt" || status=$?
  { echo "### Load, run $run"; echo '```'; cat "$name.txt"; echo '```'; } >> "$summary"
  ((status == 0)) || exit "$status"
  reports+=("$name.json")
done
[[ -n "${GATE:-}" ]] || exit 0

join() { local IFS=,; echo "$*"; }
status=0
if compgen -G 'fanfare-last/*.json' > /dev/null; then
  fanfare-loadgen compare "$(join fanfare-last/*.json)" "$(join "${reports[@]}")" --gate "$GATE" \
    --html fanfare-report-comparison.html --markdown fanfare-report-comparison.md || status=$?
  cat fanfare-report-comparison.md >> "$summary"
fi
((status == 0)) || exit "$status"
rm -rf fanfare-last
mkdir fanfare-last
cp "${reports[@]}" fanfare-last/

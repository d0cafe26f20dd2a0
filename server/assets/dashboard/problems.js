// The view of errors and drops: the meaning and the rate of each counter.

import { html } from "/assets/preact.js";
import { of, rates, sum } from "./overview.js";
import { Table, number } from "./parts.js";

/** The counters of refused, dropped and broken things, each with a remedy. */
const PROBLEMS = {
  panics_total: "A fault of the server's: report it with the log.",
  overloaded_total: "Workers cannot keep up: more cores, or fewer messages.",
  refused_total: "Raise the limit of open files, or server.limits.connections.",
  accept_pauses_total: "Raise the limit of open files; look for a shortage of memory.",
  app_full_total: "Raise the app's limits.connections, or look for clients that connect in a loop.",
  session_refusals_total: "Look at the clients' keys and tokens.",
  slow_consumers_total: "These clients read too slowly; slow_consumer = \"drop\" keeps them connected.",
  congested_total: "These clients read too slowly, and are told how much they missed.",
  missed_total: "What congested clients did not receive.",
  rate_limited_total: "A client sends more than the app's messages_per_second.",
  command_errors_total: "The answers say why: look at a client's log.",
  protocol_errors_total: "A client that does not speak the protocol, or a proxy that cuts into it.",
  ping_timeouts_total: "Networks that drop connections without a word; some are normal.",
  message_timeouts_total: "A client that begins messages and does not finish them.",
  request_timeouts_total: "Clients that connect and send nothing; scanners do.",
  request_errors_total: "Requests that were refused: the answers say why.",
  stalled_total: "Back ends that do not read their answers.",
  bad_tokens_total: "Tokens of another key, or guesses.",
  unrecovered_total: "Clients were away for longer than the history reaches: raise history_messages.",
  unresumed_total: "Clients came back too late, or not at all: raise resume_ms.",
  history_forgotten_total: "The app remembers as much as it may: raise its limits.history_bytes.",
};

export function Problems({ overview, before }) {
  const known = overview.metrics.filter(({ name }) => name in PROBLEMS);
  const since = (row) => sum(of(overview, row.name));
  const rows = known.sort((a, b) => Number(since(b) > 0) - Number(since(a) > 0));
  const told = ({ help, name }) =>
    html`<span>${help}</span> <span class="note">${PROBLEMS[name]}</span> <code class="small">${name}</code>`;
  const columns = [
    { head: "What, and what it means for you", cell: told, kind: "wide" },
    { head: "Since the start", cell: (row) => html`<b class=${since(row) > 0 ? "seen" : ""}>${number(since(row))}</b>`, kind: "number" },
    { head: "Per second", cell: ({ name }) => number(sum(rates(before, overview, name))), kind: "number" },
  ];
  const others = overview.metrics.filter(({ name }) => !(name in PROBLEMS));
  const plain = [
    { head: "What", cell: ({ help, name }) => html`<span>${help}</span> <code class="small">${name}</code>`, kind: "wide" },
    { head: "Now", cell: ({ values }) => number(sum(values)), kind: "number" },
    { head: "Per second", cell: ({ name, kind }) => (kind === "counter" ? number(sum(rates(before, overview, name))) : ""), kind: "number" },
  ];
  return html`
    <h1>Errors and drops</h1>
    <${Table} label="Errors and drops" columns=${columns} rows=${rows} keyOf=${({ name }) => name} />
    <h2>Everything else that is counted</h2>
    <${Table} label="Other metrics" columns=${plain} rows=${others} keyOf=${({ name }) => name} />`;
}

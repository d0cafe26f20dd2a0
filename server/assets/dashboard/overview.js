// The overview: connections, rates, workers and apps.

import { html, useMemo, useRef } from "/assets/preact.js";
import { Chart } from "./chart.js";
import { Latency, Memory, recent } from "./costs.js";
import { Table, bytes, duration, link, number } from "./parts.js";

const KEPT = 300;

export const sum = (values) => values.reduce((all, value) => all + value, 0);

/** The values of a metric, by worker. */
export const of = (overview, name) => overview.metrics.find((metric) => metric.name === name)?.values ?? [0];

/** The rate of a metric by worker, between two readings. */
export function rates(before, now, name) {
  const s = before ? (now.time_ms - before.time_ms) / 1000 : 0;
  const earlier = before ? of(before, name) : [];
  return of(now, name).map((value, worker) => (s > 0 ? Math.max(0, value - (earlier[worker] ?? 0)) / s : 0));
}

/** The readings of the last minutes, as lines of a chart. */
export function useTrail(overview) {
  const trail = useRef({ last: null, before: null, points: [[], [], [], [], [], []], kept: [], counts: [] });
  return useMemo(() => {
    const { current } = trail;
    if (!overview || current.last === overview) return current;
    current.before = current.last;
    current.last = overview;
    const rate = (name) => sum(rates(current.before, overview, name));
    const values = [
      overview.time_ms / 1000,
      sum(of(overview, "connections")),
      rate("publications_total"),
      rate("deliveries_total"),
      rate("received_bytes_total"),
      rate("sent_bytes_total"),
    ];
    current.points = current.points.map((line, at) => [...line, values[at]].slice(-KEPT));
    Object.assign(current, recent(current.kept, overview.latency));
    return { ...current };
  }, [overview]);
}

function Figure({ name, value, note }) {
  return html`<div class="figure"><dt>${name}</dt><dd>${value}</dd>${note && html`<dd class="note">${note}</dd>`}</div>`;
}

export function Overview({ overview, trail }) {
  const { before, points, counts } = trail;
  const [times, connections, published, delivered, received, sent] = points;
  const lines = useMemo(
    () => ({ connections: [times, connections], messages: [times, published, delivered], bytes: [times, received, sent] }),
    [times],
  );
  const rate = (name) => rates(before, overview, name);
  const workers = of(overview, "connections").map((_, worker) => worker);
  const columns = [
    { head: "Worker", cell: (worker) => worker, kind: "number" },
    { head: "Connections", cell: (worker) => number(of(overview, "connections")[worker]), kind: "number" },
    { head: "Sessions", cell: (worker) => number(of(overview, "sessions")[worker]), kind: "number" },
    { head: "Commands/s", cell: (worker) => number(rate("commands_total")[worker]), kind: "number" },
    { head: "Deliveries/s", cell: (worker) => number(rate("deliveries_total")[worker]), kind: "number" },
    { head: "Turns/s", cell: (worker) => number(rate("turns_total")[worker]), kind: "number" },
    { head: "Mailbox", cell: (worker) => number(of(overview, "mailbox_depth")[worker]), kind: "number" },
  ];
  return html`
    <h1>Now</h1>
    <dl class="figures">
      <${Figure} name="Connections" value=${number(connections.at(-1) ?? 0)} note=${`of ${number(overview.capacity)}`} />
      <${Figure} name="Channels" value=${number(overview.channels)} />
      <${Figure} name="Published per second" value=${number(published.at(-1) ?? 0)} />
      <${Figure} name="Delivered per second" value=${number(delivered.at(-1) ?? 0)} />
      <${Figure} name="Resident memory" value=${bytes(overview.memory.resident)} />
      <${Figure} name="Running for" value=${duration(overview.uptime_ms)} note=${overview.ready ? "ready" : "draining"} />
    </dl>
    <div class="charts">
      <${Chart} label="Connections" series=${["connections"]} points=${lines.connections} format=${number} />
      <${Chart} label="Messages per second" series=${["published", "delivered"]} points=${lines.messages} format=${number} />
      <${Chart} label="Bytes per second" series=${["received", "sent"]} points=${lines.bytes} format=${bytes} />
    </div>
    <div class="columns">
      <section>
        <h2>Time by stage of a delivery</h2>
        <${Latency} latency=${overview.latency} counts=${counts} />
      </section>
      <section>
        <h2>Memory</h2>
        <${Memory} memory=${overview.memory} />
      </section>
    </div>
    <h2>Workers</h2>
    <${Table} label="Workers" columns=${columns} rows=${workers} keyOf=${(worker) => worker} />
    <h2>Apps</h2>
    <${Apps} overview=${overview} />`;
}

function Apps({ overview }) {
  const columns = [
    { head: "App", cell: ({ name }) => html`<a href=${link("channels", name)}>${name}</a>` },
    { head: "Sessions", cell: ({ name, sessions }) => html`<a href=${link("sessions", name)}>${number(sessions)}</a>`, kind: "number" },
    { head: "Parked", cell: ({ parked_sessions }) => number(parked_sessions), kind: "number" },
    { head: "Parked output", cell: ({ parked_bytes }) => bytes(parked_bytes), kind: "number" },
    { head: "History", cell: ({ history_bytes }) => bytes(history_bytes), kind: "number" },
    { head: "Forgotten", cell: ({ history_forgotten }) => number(history_forgotten), kind: "number" },
  ];
  return html`<${Table} label="Apps" columns=${columns} rows=${overview.apps} keyOf=${({ name }) => name} />`;
}

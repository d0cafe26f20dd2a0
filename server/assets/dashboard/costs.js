// What deliveries cost in time, and what the server's memory is used for.

import { html } from "/assets/preact.js";
import { Table, bytes, number } from "./parts.js";

const STAGES = {
  read: "Reading the input, checking it, and giving messages their places in their channels",
  ordered: "Mail and operations of other workers",
  linked: "Linking each member to its frames",
  written: "Handing the output to the kernel",
};
const KINDS = {
  connections: "Sockets that are open, with TLS, and their deadlines",
  sessions: "Sessions, profiles, and the index of users",
  memberships: "Lists of members",
  channels: "Channels, and the workers' parts of them",
  history: "Remembered messages",
  buffers: "Buffers, mail between workers, and output kept for lost sessions",
  other: "The program itself, its stacks, output that waits for slow clients, and free pages of the allocator",
};

/** The readings whose observations are shown. */
const SHOWN = 15;

/** Keeps the last readings of the counts. Returns the counts of the observations between the first and the last. */
export function recent(readings, { stages }) {
  const kept = [...readings, stages.map(({ counts }) => counts)].slice(-SHOWN);
  const [first, last] = [kept[0], kept.at(-1)];
  return { kept, counts: last.map((of, at) => of.map((count, bucket) => Math.max(0, count - first[at][bucket]))) };
}

/** The bound that this part of the observations does not pass; `null` without observations. */
export function quantile(counts, bounds, part) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  let before = 0;
  for (const [bucket, count] of counts.entries()) {
    before += count;
    if (all > 0 && before >= part * all) return bounds[bucket] ?? Infinity;
  }
  return null;
}

/** A time that is not passed, as a text. */
export function atMost(ns) {
  if (ns === null) return "";
  if (ns === Infinity) return "over 1 s";
  const [unit, size] = [["s", 1e9], ["ms", 1e6], ["µs", 1e3]].find(([, size]) => ns >= size);
  return `≤ ${number(ns / size)} ${unit}`;
}

export function Latency({ latency, counts }) {
  const rows = latency.stages.map(({ stage }, at) => ({ stage, counts: counts[at] }));
  const part = (wanted) => ({ counts: of }) => atMost(quantile(of, latency.bounds_ns, wanted));
  const columns = [
    { head: "Stage", cell: ({ stage }) => html`<b>${stage}</b> <span class="small">${STAGES[stage]}</span>` },
    { head: "Half", cell: part(0.5), kind: "number" },
    { head: "99 %", cell: part(0.99), kind: "number" },
    { head: "Turns", cell: ({ counts: of }) => number(of.reduce((sum, count) => sum + count, 0)), kind: "number" },
  ];
  return html`<${Table} label="Latency by stage" columns=${columns} rows=${rows} keyOf=${({ stage }) => stage} />`;
}

export function Memory({ memory }) {
  const share = (part) => (memory.resident > 0 ? `${number((100 * part) / memory.resident)} %` : "");
  const columns = [
    { head: "Kind", cell: ({ kind }) => html`<b>${kind}</b> <span class="small">${KINDS[kind]}</span>` },
    { head: "Memory", cell: ({ bytes: part }) => bytes(part), kind: "number" },
    { head: "Share", cell: ({ bytes: part }) => share(part), kind: "number" },
  ];
  return html`<${Table} label="Memory by kind" columns=${columns} rows=${memory.kinds} keyOf=${({ kind }) => kind} />`;
}

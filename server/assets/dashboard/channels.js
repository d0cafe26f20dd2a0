// The view of an app's channels (the largest, the busiest, and all by name) and the view of one channel.

import { html, useEffect, useState } from "/assets/preact.js";
import { ask, askApp, usePoll } from "./api.js";
import { Confirmed, Pager, Table, Trouble, link, number, seen, short, time, usePages } from "./parts.js";

const PAGE = 50;
/** The most live messages that the view shows. */
const SHOWN = 200;
const LOOK_MS = 500;

const name = (app) => ({ channel }) => html`<a class="data" href=${link("channels", app, channel)}>${seen(channel)}</a>`;

export function Channels({ app }) {
  const { answer, error } = usePoll(() => ask(`census?app=${encodeURIComponent(app)}`), app, 2000);
  const [prefix, setPrefix] = useState("");
  const pages = usePages(async (after) => {
    const { channels, next } = await askApp(app, "channels", { prefix, limit: PAGE, after });
    return { rows: channels, next };
  }, `${app}\n${prefix}`);
  const columns = [
    { head: "Channel", cell: name(app) },
    { head: "Members", cell: ({ members }) => number(members), kind: "number" },
  ];
  const ranked = [...columns, { head: "Messages/s", cell: ({ rate }) => number(rate), kind: "number" }];
  const keyOf = ({ channel }) => channel;
  const busy = answer?.by_rate.filter(({ rate }) => rate > 0) ?? [];
  const find = (event) => {
    event.preventDefault();
    setPrefix(event.target.elements.prefix.value);
  };
  return html`
    <h1>Channels of <span class="data">${app}</span></h1>
    <${Trouble} error=${error} />
    ${answer?.partial && html`<p class="note">There are more channels than are ranked: this is of ${number(answer.seen)} of them.</p>`}
    <div class="columns">
      <section>
        <h2>By members</h2>
        <${Table} label="Channels with the most members" columns=${ranked} rows=${answer?.by_members ?? []} keyOf=${keyOf}
          empty=${answer ? "There is no channel." : "Counting…"} />
      </section>
      <section>
        <h2>By rate</h2>
        <${Table} label="Channels with the most messages" columns=${ranked} rows=${busy} keyOf=${keyOf}
          empty=${answer ? "No channel has messages just now." : "Counting…"} />
      </section>
    </div>
    <h2>All</h2>
    <form class="row" onSubmit=${find}>
      <label>Names that begin with <input name="prefix" autocomplete="off" /></label>
      <button>Find</button>
    </form>
    <${Trouble} error=${pages.error} />
    <${Table} label="Channels" columns=${columns} rows=${pages.rows ?? []} keyOf=${keyOf}
      empty=${pages.rows ? "No channel on this page." : "Reading…"} />
    <${Pager} pages=${pages} />`;
}

export function Channel({ app, channel }) {
  const [view, setView] = useState("live");
  const views = { live: ["Live", Live], members: ["Members", Members], history: ["History", History] };
  const [, View] = views[view];
  return html`
    <p class="crumbs"><a href=${link("channels", app)}>Channels of <span class="data">${app}</span></a></p>
    <h1 class="data">${seen(channel)}</h1>
    <div class="tabs" role="group" aria-label="What to show">
      ${Object.entries(views).map(([key, [label]]) => html`
        <button aria-pressed=${key === view ? "true" : "false"} onClick=${() => setView(key)}>${label}</button>`)}
    </div>
    <${View} key=${`${view} ${app} ${channel}`} app=${app} channel=${channel} />`;
}

function Members({ app, channel }) {
  const [total, setTotal] = useState(null);
  const [problem, setProblem] = useState(null);
  const pages = usePages(async (after) => {
    const answer = await askApp(app, "members", { channel, limit: PAGE, after });
    setTotal(answer.total);
    return { rows: answer.members, next: answer.next };
  }, channel);
  const columns = [
    { head: "Session", cell: ({ id }) => html`<code class="id">${id}</code>` },
    { head: "User", cell: ({ user }) => html`<span class="data">${seen(user ?? "")}</span>` },
    { head: "Profile", cell: ({ data }) => html`<code class="data">${data === undefined ? "" : short(data, 200)}</code>` },
    { head: "", cell: ({ id }) => html`<${Disconnect} app=${app} whom=${{ session: id }} onDone=${pages.again} onError=${setProblem} />` },
  ];
  return html`
    <p class="note">${total === null ? "" : `${number(total)} members`}</p>
    <${Trouble} error=${problem ?? pages.error} />
    <${Table} label="Members" columns=${columns} rows=${pages.rows ?? []} keyOf=${({ id }) => id}
      empty=${pages.rows ? "Nobody is in this channel." : "Reading…"} />
    <${Pager} pages=${pages} />`;
}

/** Ends one session, or all sessions of a user. Their clients do not come back by themselves. */
export function Disconnect({ app, whom, onDone, onError }) {
  const end = async () => {
    try {
      await askApp(app, "disconnect", {}, { method: "POST", body: JSON.stringify(whom) });
      onError(null);
      onDone();
    } catch (error) {
      onError(error);
    }
  };
  const question = whom.user === undefined ? "End this session?" : "End all sessions of this user?";
  return html`<${Confirmed} label="Disconnect" question=${question} onConfirm=${end} />`;
}

function History({ app, channel }) {
  const pages = usePages(async (before) => {
    const answer = await askApp(app, "history", { channel, limit: PAGE, before });
    return { rows: answer.messages, next: answer.next };
  }, channel);
  return html`
    <p class="note">What the channel remembers, the newest first.</p>
    <${Trouble} error=${pages.error} />
    <${Messages} rows=${pages.rows ?? []} empty=${pages.rows ? "The channel remembers nothing." : "Reading…"} />
    <${Pager} pages=${pages} />`;
}

function Live({ app, channel }) {
  const [state, setState] = useState({ rows: [], missed: 0, present: null, error: null });
  const [paused, setPaused] = useState(false);
  useEffect(() => {
    if (paused) return;
    let ended = false;
    let timer = 0;
    let place = { worker: "", after: 0 };
    let offset = null;
    const look = async () => {
      if (!document.hidden) {
        try {
          const answer = await askApp(app, "watch", { channel, ...place });
          if (ended) return;
          place = { worker: answer.worker ?? "", after: answer.next };
          const at = Date.now();
          const fresh = answer.messages.map(({ number: sample, frame }) => {
            const key = `${answer.worker} ${sample} ${at}`;
            return frame === null ? { key, at, cut: true } : { ...frame, key, at };
          });
          const numbered = fresh.filter((message) => message.offset !== undefined || message.cut).length;
          const passed = offset === null || answer.worker === null ? 0 : answer.offset - offset;
          offset = answer.worker === null ? null : answer.offset;
          setState(({ rows, missed }) => ({
            rows: [...fresh.reverse(), ...rows].slice(0, SHOWN),
            missed: missed + Math.max(0, passed - numbered),
            present: answer.worker !== null,
            error: null,
          }));
        } catch (error) {
          if (ended) return;
          setState((before) => ({ ...before, error }));
        }
      }
      timer = setTimeout(look, LOOK_MS);
    };
    look();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [paused]);
  const { rows, missed, present, error } = state;
  const empties = new Map([
    [null, "Reading…"],
    [true, "No message since you look."],
    [false, "The channel has no members: what is published now reaches nobody."],
  ]);
  const empty = empties.get(present);
  return html`
    <div class="row">
      <button onClick=${() => setPaused(!paused)}>${paused ? "Go on" : "Pause"}</button>
      <p class="note" role="status">${paused ? "Paused." : "Messages as they are published, at most 50 a second."}
        ${missed > 0 ? ` ${number(missed)} more were not sampled.` : ""}</p>
    </div>
    <${Trouble} error=${error} />
    <${Messages} rows=${rows} empty=${empty} />`;
}

function Messages({ rows, empty }) {
  const columns = [
    { head: "Offset", cell: ({ offset }) => offset ?? "", kind: "number" },
    { head: "Time", cell: ({ time_ms, at }) => time(time_ms ?? at), kind: "time" },
    { head: "Event", cell: ({ event }) => html`<span class="data">${seen(event ?? "")}</span>` },
    { head: "From", cell: ({ user, sender }) => html`<span class="data">${seen(user ?? sender ?? "")}</span>` },
    { head: "Message", cell: ({ message, cut }) => html`<code class="data">${cut ? "(too long to be shown)" : short(message)}</code>`, kind: "wide" },
  ];
  return html`<${Table} label="Messages" columns=${columns} rows=${rows} keyOf=${(row) => row.key ?? row.id ?? row.offset} empty=${empty} />`;
}

// The view of an app's or a user's sessions, which can end sessions.

import { html, useState } from "/assets/preact.js";
import { askApp } from "./api.js";
import { Disconnect } from "./channels.js";
import { Pager, Table, Trouble, link, number, seen, short, usePages } from "./parts.js";

const PAGE = 50;

export function Sessions({ app }) {
  const [user, setUser] = useState("");
  const [problem, setProblem] = useState(null);
  const pages = usePages(async (after) => {
    const path = user === "" ? "sessions" : `users/${encodeURIComponent(user)}`;
    const { sessions, next } = await askApp(app, path, { limit: PAGE, after });
    return { rows: sessions, next };
  }, `${app}\n${user}`);
  const find = (event) => {
    event.preventDefault();
    setUser(event.target.elements.user.value);
  };
  const channels = ({ channels: names }) =>
    names.slice(0, 5).map((name) => html`<a class="data tag" href=${link("channels", app, name)}>${seen(name)}</a> `);
  const columns = [
    { head: "Session", cell: ({ id }) => html`<code class="id">${id}</code>` },
    { head: "User", cell: (row) => html`<span class="data">${seen(row.user ?? user)}</span>` },
    { head: "Channels", cell: (row) => html`${channels(row)}${row.channels.length > 5 ? `and ${number(row.channels.length - 5)} more` : ""}` },
    { head: "Profile", cell: ({ data }) => html`<code class="data">${data === undefined ? "" : short(data, 200)}</code>` },
    { head: "", cell: ({ id }) => html`<${Disconnect} app=${app} whom=${{ session: id }} onDone=${pages.again} onError=${setProblem} />` },
  ];
  return html`
    <h1>Sessions of <span class="data">${app}</span></h1>
    <form class="row" onSubmit=${find}>
      <label>User <input name="user" autocomplete="off" /></label>
      <button>Find</button>
      ${user !== "" && html`<span class="row">Sessions of <b class="data">${seen(user)}</b>
        <${Disconnect} app=${app} whom=${{ user }} onDone=${pages.again} onError=${setProblem} /></span>`}
    </form>
    <${Trouble} error=${problem ?? pages.error} />
    <${Table} label="Sessions" columns=${columns} rows=${pages.rows ?? []} keyOf=${({ id }) => id}
      empty=${pages.rows ? "No session on this page." : "Reading…"} />
    <${Pager} pages=${pages} />`;
}

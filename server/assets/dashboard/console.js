// The console view: a client of an app that joins and sends, and shows every frame in both directions.

import { html, useEffect, useRef, useState } from "/assets/preact.js";
import { short, time } from "./parts.js";

const KEPT = 500;
const EXAMPLES = {
  Join: { id: 1, type: "join", channel: "room" },
  Send: { id: 2, type: "send", channel: "room", event: "chat", message: { text: "hello" } },
  Members: { id: 3, type: "members", channel: "room" },
  History: { id: 4, type: "history", channel: "room" },
  Leave: { id: 5, type: "leave", channel: "room" },
};

export function Console({ apps, app }) {
  const [frames, setFrames] = useState([]);
  const [state, setState] = useState("closed");
  const socket = useRef(null);
  const text = useRef(null);
  const count = useRef(0);
  const show = (way, frame) => {
    count.current += 1;
    const entry = { key: count.current, at: Date.now(), way, frame };
    setFrames((before) => [entry, ...before].slice(0, KEPT));
  };
  useEffect(() => () => socket.current?.close(), []);

  const connect = (event) => {
    event.preventDefault();
    const { app: chosen, token } = event.target.elements;
    socket.current?.close();
    const query = new URLSearchParams({ app: chosen.value });
    if (token.value !== "") query.set("session", token.value);
    const opened = new WebSocket(`${location.origin.replace(/^http/, "ws")}/dashboard/console?${query}`);
    socket.current = opened;
    setState("connecting");
    opened.onopen = () => socket.current === opened && setState("open");
    opened.onmessage = ({ data }) => show("in", data);
    opened.onclose = ({ code, reason }) => {
      show("end", `closed with ${code}${reason ? `: ${reason}` : ""}`);
      if (socket.current === opened) setState("closed");
    };
  };
  const send = (event) => {
    event.preventDefault();
    socket.current.send(text.current.value);
    show("out", text.current.value);
  };
  const fill = (name) => {
    text.current.value = JSON.stringify(EXAMPLES[name]);
    text.current.focus();
  };
  const ways = { in: "received", out: "sent", end: "ended" };
  return html`
    <h1>Console</h1>
    <p class="note">A session like any other: members see it join, and receive what it sends.</p>
    <form class="row" onSubmit=${connect}>
      <label>App <select name="app">${apps.map(({ name }) => html`<option selected=${name === app}>${name}</option>`)}</select></label>
      <label>Session token <input name="token" autocomplete="off" placeholder="none" /></label>
      <button>${state === "closed" ? "Connect" : "Connect anew"}</button>
      ${state !== "closed" && html`<button type="button" onClick=${() => socket.current.close()}>Disconnect</button>`}
      <span class=${`state ${state}`} role="status">${state}</span>
    </form>
    <div class="row" role="group" aria-label="Examples">
      ${Object.keys(EXAMPLES).map((name) => html`<button type="button" class="quiet" onClick=${() => fill(name)}>${name}</button>`)}
    </div>
    <form class="row send" onSubmit=${send}>
      <textarea ref=${text} aria-label="Frame" rows="2" spellcheck=${false}
        onKeyDown=${(event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && state === "open" && send(event)}></textarea>
      <button disabled=${state !== "open"}>Send frame</button>
    </form>
    <ol class="frames" aria-label="Frames, the newest first" tabindex="0">
      ${frames.map(({ key, at, way, frame }) => html`
        <li key=${key} class=${way}><span class="note">${time(at)} ${ways[way]}</span> <code class="data">${short(frame, 8000)}</code></li>`)}
    </ol>`;
}

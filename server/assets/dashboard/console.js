// The console view: a client of an app that joins and sends, and shows every frame in both directions.

import { html, useEffect, useRef, useState } from "/assets/preact.js";
import { DIALECTS } from "./dialects.js";
import { short, time } from "./parts.js";

const KEPT = 500;
const WAYS = { in: "received", out: "sent", end: "ended" };

/** A random UUID. `crypto.randomUUID` is absent from pages without TLS. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return text.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

export function Console({ apps, app }) {
  const [frames, setFrames] = useState([]);
  const [state, setState] = useState("closed");
  const [dialect, setDialect] = useState("native");
  // The present connection: its socket, its app, its dialect, and its id in dialects where the client chooses one.
  const connection = useRef(null);
  const typed = useRef(null);
  const count = useRef(0);
  const show = (way, frame) => {
    count.current += 1;
    const entry = { key: count.current, at: Date.now(), way, frame };
    setFrames((before) => [entry, ...before].slice(0, KEPT));
  };
  const close = () => {
    connection.current?.socket?.close();
    connection.current = null;
  };
  useEffect(() => close, []);

  const served = apps.find(({ name }) => name === app)?.dialects ?? ["native"];
  const spoken = served.includes(dialect) ? dialect : "native";

  const connect = async (event) => {
    event.preventDefault();
    close();
    const token = event.target.elements.token?.value ?? "";
    const { begin, answer, offersToken } = DIALECTS[spoken];
    const opened = { app, dialect: spoken, id: randomId(), socket: null };
    connection.current = opened;
    const isPresent = () => connection.current === opened;
    setState("connecting");
    try {
      const begun = await begin?.(app, opened.id);
      if (begun && isPresent()) show("in", JSON.stringify(begun));
    } catch (error) {
      show("end", error.message);
      if (isPresent()) setState("closed");
      return;
    }
    if (!isPresent()) return;
    const query = new URLSearchParams({ app, dialect: spoken });
    if (begin) query.set("conn_id", opened.id);
    if (token !== "" && !offersToken) query.set("session", token);
    const url = `${location.origin.replace(/^http/, "ws")}/dashboard/console?${query}`;
    const socket = token !== "" && offersToken ? new WebSocket(url, [token]) : new WebSocket(url);
    opened.socket = socket;
    socket.onopen = () => isPresent() && setState("open");
    socket.onmessage = ({ data }) => {
      show("in", data);
      const reply = answer?.(data);
      if (reply) transmit(opened, reply);
    };
    socket.onclose = ({ code, reason }) => {
      show("end", `closed with ${code}${reason ? `: ${reason}` : ""}`);
      if (isPresent()) setState("closed");
    };
  };
  const transmit = ({ socket }, frame) => {
    socket.send(frame);
    show("out", frame);
  };
  const send = async (event) => {
    event.preventDefault();
    const frame = typed.current.value;
    const through = DIALECTS[connection.current.dialect].send;
    if (!through) return transmit(connection.current, frame);
    show("out", frame);
    try {
      show("in", await through(connection.current.app, frame));
    } catch (error) {
      show("in", error.message);
    }
  };
  const fill = (example) => {
    typed.current.value = example;
    typed.current.focus();
  };
  const examples = DIALECTS[spoken].examples(connection.current?.id ?? "");
  return html`
    <h1>Console</h1>
    <p class="note">${DIALECTS[spoken].note}</p>
    <form class="row" onSubmit=${connect}>
      <label>Protocol <select name="dialect" onChange=${({ target }) => setDialect(target.value)}>
        ${served.map((name) => html`<option value=${name} selected=${name === spoken}>${DIALECTS[name].label}</option>`)}
      </select></label>
      ${!DIALECTS[spoken].begin && html`<label>Session token <input name="token" autocomplete="off" placeholder="none" /></label>`}
      <button>${state === "closed" ? "Connect" : "Connect anew"}</button>
      ${state !== "closed" && html`<button type="button" onClick=${() => connection.current?.socket?.close()}>Disconnect</button>`}
      <span class=${`state ${state}`} role="status">${state}</span>
    </form>
    <div class="row" role="group" aria-label="Examples">
      ${Object.entries(examples).map(([name, example]) => html`
        <button type="button" class="quiet" onClick=${() => fill(example)}>${name}</button>`)}
    </div>
    <form class="row send" onSubmit=${send}>
      <textarea ref=${typed} aria-label="Frame" rows="2" spellcheck=${false}
        onKeyDown=${(event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && state === "open" && send(event)}></textarea>
      <button disabled=${state !== "open"}>Send frame</button>
    </form>
    <ol class="frames" aria-label="Frames, the newest first" tabindex="0">
      ${frames.map(({ key, at, way, frame }) => html`
        <li key=${key} class=${way}><span class="note">${time(at)} ${WAYS[way]}</span> <code class="data">${short(frame, 8000)}</code></li>`)}
    </ol>`;
}

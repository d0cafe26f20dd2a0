// The chat room of `fanfare demo`: a channel with presence, history, edits and deletions.
//
// All content of the page comes from other users, so it becomes text nodes, and never markup.

import { Realtime, feed, presence } from "/assets/fanfare.js";
import { html, render, useEffect, useLayoutEffect, useRef, useState } from "/assets/preact.js";

const ROOM = "lobby";
const NAME = "fanfare.demo.name";
const NAMES = ["Wren", "Heron", "Finch", "Plover", "Swift", "Avocet", "Dunlin", "Siskin", "Merlin", "Linnet"];
const COLOURS = 6;
const PAGE = 30;

const settings = await (await fetch("/demo/settings.json")).json();
const realtime = new Realtime({ url: settings.url, key: settings.key });

/** The value of a list that keeps itself up to date. */
function useLive(list) {
  const [value, setValue] = useState(list.current);
  useEffect(() => list.subscribe(setValue), [list]);
  return value;
}

/** The connection's state, and the id of its session. */
function useConnection() {
  const [connection, setConnection] = useState({ state: realtime.state, me: realtime.getSocketId() });
  useEffect(() => {
    const show = () => setConnection({ state: realtime.state, me: realtime.getSocketId() });
    const stops = ["open", "close", "reconnecting"].map((event) => realtime.connection.on(event, show));
    return () => stops.forEach((stop) => stop());
  }, []);
  return connection;
}

function colour(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return `colour-${sum % COLOURS}`;
}

const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");
const nameOf = (value) => textOf(value?.name || "somebody").slice(0, 40);

function Avatar({ name }) {
  return html`<span class=${`avatar ${colour(name)}`} aria-hidden="true">${[...name][0]?.toUpperCase()}</span>`;
}

function Members({ list, me }) {
  const members = useLive(list);
  return html`
    <aside aria-label="Who is here">
      <h2>Here now <span class="count" data-members=${members.length}>${members.length}</span></h2>
      <ul>
        ${members.map(({ id, data }) => {
          const name = nameOf(data);
          return html`<li key=${id}><${Avatar} name=${name} /> <span class="name">${name}</span>
            ${id === me && html` <span class="you">you</span>`}</li>`;
        })}
      </ul>
    </aside>`;
}

function Editor({ text, onDone }) {
  const input = useRef(null);
  useEffect(() => input.current.focus(), []);
  const save = (event) => {
    event.preventDefault();
    onDone(input.current.value.trim());
  };
  return html`
    <form class="editor" onSubmit=${save}>
      <input ref=${input} aria-label="Edited message" value=${text} maxlength="2000"
        onKeyDown=${(event) => event.key === "Escape" && onDone("")} />
      <button>Save</button>
      <button type="button" class="quiet" onClick=${() => onDone("")}>Cancel</button>
    </form>`;
}

function Message({ message, me, report }) {
  const [editing, setEditing] = useState(false);
  const { id, sender, timeMs, editedMs, message: body } = message;
  const name = nameOf(body);
  const text = textOf(body?.text ?? body);
  const mine = sender === me;
  const edit = (changed) => {
    setEditing(false);
    if (changed && changed !== text) report(realtime.edit(ROOM, id, { ...body, text: changed }));
  };
  return html`
    <li class=${mine ? "mine" : ""} data-id=${id}>
      <${Avatar} name=${name} />
      <div class="bubble">
        <p class="head">
          <span class="name">${name}</span>
          <time>${new Date(timeMs).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}</time>
          ${editedMs && html`<span class="edited">edited</span>`}
        </p>
        ${editing ? html`<${Editor} text=${text} onDone=${edit} />` : html`<p class="text">${text}</p>`}
      </div>
      ${mine && !editing && html`
        <span class="actions">
          <button class="quiet" onClick=${() => setEditing(true)}>Edit</button>
          <button class="quiet" onClick=${() => report(realtime.delete(ROOM, id))}>Delete</button>
        </span>`}
    </li>`;
}

function Messages({ list, me, report }) {
  const messages = useLive(list);
  const end = useRef(null);
  const last = messages.at(-1)?.id;
  useLayoutEffect(() => {
    const box = end.current;
    box.scrollTop = box.scrollHeight;
  }, [last]);
  const [all, setAll] = useState(false);
  const older = async () => setAll(!(await list.older()));
  return html`
    <section class="messages" ref=${end} aria-label="Messages" tabindex="0">
      ${messages.length >= PAGE && !all && html`<button class="quiet older" onClick=${older}>Older messages</button>`}
      ${messages.length === 0 && html`<p class="empty">Nobody has said anything yet. Open this page in a second window,
        and say hello.</p>`}
      <ol aria-live="polite">
        ${messages.map((message) => html`<${Message} key=${message.id} message=${message} me=${me} report=${report} />`)}
      </ol>
    </section>`;
}

const STATES = { open: "connected", connecting: "connecting", waiting: "reconnecting", idle: "connecting", closed: "closed" };

function Room({ members, messages, firstName }) {
  const { state, me } = useConnection();
  const [name, setName] = useState(firstName);
  const [problem, setProblem] = useState("");
  const text = useRef(null);
  const report = (promise) => promise.then(() => setProblem(""), (error) => setProblem(error.message));
  const rename = (event) => {
    const chosen = event.target.value.trim().slice(0, 40) || firstName;
    setName(chosen);
    sessionStorage.setItem(NAME, chosen);
    report(realtime.update({ name: chosen }, true));
  };
  const send = (event) => {
    event.preventDefault();
    const said = text.current.value.trim();
    if (!said) return;
    text.current.value = "";
    report(realtime.send(ROOM, "say", { name, text: said }, true));
  };
  return html`
    <header>
      <h1>Fanfare <span>#${ROOM}</span></h1>
      <p class=${`state ${state}`} role="status">${STATES[state]}</p>
      <label>Your name <input value=${name} maxlength="40" onChange=${rename} /></label>
    </header>
    <main>
      <${Messages} list=${messages} me=${me} report=${report} />
      <form class="say" onSubmit=${send}>
        <input ref=${text} aria-label="Message" placeholder="Say something" maxlength="2000" autocomplete="off" autofocus />
        <button>Send</button>
      </form>
      <p class="problem" role="alert">${problem}</p>
    </main>
    <${Members} list=${members} me=${me} />`;
}

const firstName = sessionStorage.getItem(NAME) ?? NAMES[Math.floor(Math.random() * NAMES.length)];
sessionStorage.setItem(NAME, firstName);
const members = presence(realtime, ROOM);
const messages = feed(realtime, ROOM, { page: PAGE });
realtime.update({ name: firstName }, false).catch(() => {});
realtime.join(ROOM, true).catch(() => {});
render(html`<${Room} members=${members} messages=${messages} firstName=${firstName} />`, document.body);

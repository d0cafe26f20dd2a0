// The views of an app's triggers (all of them, and one with its script), which change and try triggers.

import { html, useEffect, useRef, useState } from "/assets/preact.js";
import { askApp, usePoll } from "./api.js";
import { atMost, quantile } from "./costs.js";
import { Confirmed, Table, Trouble, link, number, seen } from "./parts.js";

const LOOK_MS = 2000;
const EXAMPLE = `export function message(input) {
  if (typeof input.payload?.text !== "string") refuse("A message has a text.");
}
`;

/** What is shown of a trigger's counts: a heading, and the text of a figure. */
const COUNTS = [
  ["Runs", ({ passed, replaced, refused, failed }) => number(passed + replaced + refused + failed)],
  ["Passed", ({ passed }) => number(passed)],
  ["Replaced", ({ replaced }) => number(replaced)],
  ["Refused", ({ refused }) => number(refused)],
  ["Failed", ({ failed }) => html`<span class=${failed > 0 ? "seen" : ""}>${number(failed)}</span>`],
  ["Waiting", ({ queued }) => number(queued)],
  ["Time, half", ({ times }, bounds) => atMost(quantile(times, bounds, 0.5))],
  ["Time, 99 %", ({ times }, bounds) => atMost(quantile(times, bounds, 0.99))],
];

/** The counts that the list of all triggers has room for. */
const LISTED = ["Runs", "Refused", "Failed", "Time, 99 %"];

const list = (app) => askApp(app, "triggers");
const change = (app, name, method, settings) =>
  askApp(app, `triggers/${encodeURIComponent(name)}`, {}, { method, body: settings && JSON.stringify(settings) });

export function Triggers({ app }) {
  const [turn, setTurn] = useState(0);
  const [problem, setProblem] = useState(null);
  const { answer, error } = usePoll(() => list(app), `${app} ${turn}`, LOOK_MS);
  const onSwitched = (error) => {
    setProblem(error);
    setTurn(turn + 1);
  };
  const columns = [
    { head: "Trigger", cell: ({ name }) => html`<a class="data" href=${link("triggers", app, name)}>${seen(name)}</a>` },
    { head: "Active", cell: (trigger) => html`<${Switch} app=${app} trigger=${trigger} onSwitched=${onSwitched} />` },
    { head: "Description", cell: About, kind: "wide" },
    { head: "Channels", cell: ({ channel }) => html`<code class="data">${seen(channel)}</code>` },
    { head: "Actions", cell: ({ actions = ["message"] }) => actions.join(", ") },
    ...COUNTS.filter(([head]) => LISTED.includes(head)).map(([head, cell]) => ({ head, cell: ({ counts }) => cell(counts, answer.bounds_ns), kind: "number" })),
  ];
  return html`
    <h1>Triggers of <span class="data">${app}</span></h1>
    <p class="note">In the order in which they run. The first refusal ends a run.</p>
    <${Trouble} error=${problem ?? error} />
    <${Table} label="Triggers" columns=${columns} rows=${answer?.triggers ?? []} keyOf=${({ name }) => name}
      empty=${answer ? "There is no trigger." : "Reading…"} />
    <p><a class="button" href=${link("triggers", app, "")}>New trigger</a></p>`;
}

function About({ description, tags = [], broken, configured }) {
  return html`
    <span class="data">${seen(description ?? "")}</span>
    ${tags.map((tag) => html` <span class="data tag chip">${seen(tag)}</span>`)}
    ${configured && html` <span class="tag chip">from the configuration</span>`}
    ${broken && html`<span class="trouble small">Every run fails: ${seen(broken)}</span>`}`;
}

/** Switches a trigger on and off. The configuration's triggers change in its file alone. */
function Switch({ app, trigger: { name, active, configured }, onSwitched }) {
  const flip = () => change(app, name, "PATCH", { active: !active }).then(() => onSwitched(null), onSwitched);
  return html`
    <button role="switch" aria-checked=${active ? "true" : "false"} aria-label=${`${name} is active`}
      disabled=${configured} onClick=${flip}>${active ? "on" : "off"}</button>`;
}

export function Trigger({ app, name }) {
  const isNew = name === "";
  const [state, setState] = useState({ trigger: null, error: null });
  const read = () => change(app, name, "GET").then((trigger) => setState({ trigger, error: null }), (error) => setState({ trigger: null, error }));
  useEffect(() => {
    if (!isNew) read();
  }, []);
  const trigger = isNew ? { name: "", channel: "*", source: EXAMPLE } : state.trigger;
  return html`
    <p class="crumbs"><a href=${link("triggers", app)}>Triggers of <span class="data">${app}</span></a></p>
    <h1 class="data">${isNew ? "New trigger" : seen(name)}</h1>
    <${Trouble} error=${state.error} />
    ${!isNew && html`<${Counts} app=${app} name=${name} />`}
    ${trigger && html`<${Editor} app=${app} trigger=${trigger} isNew=${isNew} />`}`;
}

function Counts({ app, name }) {
  const { answer } = usePoll(() => list(app), `${app} ${name}`, LOOK_MS);
  const counts = answer?.triggers.find((trigger) => trigger.name === name)?.counts;
  if (!counts) return null;
  return html`
    <dl class="figures small-figures">
      ${COUNTS.map(([head, cell]) => html`<div class="figure"><dt>${head}</dt><dd>${cell(counts, answer.bounds_ns) || "–"}</dd></div>`)}
    </dl>`;
}

const words = (text) => text.split(",").map((word) => word.trim()).filter((word) => word !== "");
const chosen = (form, name) => [...form.querySelectorAll(`input[name=${name}]:checked`)].map(({ value }) => value);

/** The settings of the form; `null` for the default. */
function settings(form) {
  const { description, channel, tags, on_error, active, server } = form.elements;
  return {
    description: description.value || null,
    channel: channel.value,
    tags: tags.value.trim() === "" ? null : words(tags.value),
    actions: chosen(form, "actions"),
    scope: chosen(form, "scope"),
    on_error: on_error.value,
    active: active.checked,
    server: server.checked,
    ...(form.elements.source && { source: form.elements.source.value }),
  };
}

function Editor({ app, trigger, isNew }) {
  const form = useRef(null);
  const [problem, setProblem] = useState(null);
  const [note, setNote] = useState("");
  const { configured, url } = trigger;
  const done = (sentence) => {
    setProblem(null);
    setNote(sentence);
  };
  const failed = (error) => {
    setProblem(error);
    setNote("");
  };
  const save = (event) => {
    event.preventDefault();
    const name = isNew ? form.current.elements.name.value : trigger.name;
    const given = settings(form.current);
    // A setting that this page does not show stays as it is.
    const all = Object.entries(given).filter(([, value]) => !isNew || value !== null);
    change(app, name, isNew ? "PUT" : "PATCH", Object.fromEntries(all)).then(() => {
      if (isNew) location.hash = link("triggers", app, name);
      else done("Saved. The next message meets the new version.");
    }, failed);
  };
  const remove = () => change(app, trigger.name, "DELETE").then(() => (location.hash = link("triggers", app)), failed);
  const source = () => form.current.elements.source.value;
  return html`
    ${configured && html`<p class="note">The configuration has this trigger: change it there, and reload. Here it can be tried.</p>`}
    <form ref=${form} class="settings" onSubmit=${save}>
      <fieldset disabled=${configured}>
        <legend class="unseen">Settings</legend>
        ${isNew && html`<label>Name <input name="name" required autocomplete="off" maxlength="64" pattern="[A-Za-z0-9._\\-]+" /></label>`}
        <label>Description <input name="description" autocomplete="off" maxlength="1024" defaultValue=${trigger.description ?? ""} /></label>
        <label>Tags, with commas between <input name="tags" autocomplete="off" defaultValue=${(trigger.tags ?? []).join(", ")} /></label>
        <label>Channels <input name="channel" required autocomplete="off" defaultValue=${trigger.channel} /></label>
        <${Choice} legend="Actions" name="actions" options=${["message", "join"]} given=${trigger.actions ?? ["message"]} />
        <${Choice} legend="Messages to" name="scope" options=${["channel", "broadcast", "direct"]} given=${trigger.scope ?? ["channel"]} />
        <label>If a run fails <select name="on_error">
          ${["refuse", "pass"].map((word) => html`<option selected=${word === (trigger.on_error ?? "refuse")}>${word}</option>`)}
        </select></label>
        <div class="row">
          <label><input type="checkbox" name="active" defaultChecked=${trigger.active ?? true} /> Active</label>
          <label><input type="checkbox" name="server" defaultChecked=${trigger.server ?? false} /> Also for messages of the back end</label>
        </div>
      </fieldset>
      ${url === undefined
        ? html`<${Source} text=${trigger.source ?? ""} problem=${problem} readOnly=${configured} />`
        : html`<p>Each run asks the back end at <code class="data">${seen(url)}</code>.</p><${Trouble} error=${problem} />`}
      ${!configured && html`
        <div class="row">
          <button>Save</button>
          ${!isNew && html`<${Confirmed} label="Delete" question="Delete this trigger?" onConfirm=${remove} />`}
          <span class="note" role="status">${note}</span>
        </div>`}
    </form>
    ${url === undefined && html`<${Trial} app=${app} source=${source} onProblem=${setProblem} />`}`;
}

function Choice({ legend, name, options, given }) {
  return html`
    <fieldset class="row choice">
      <legend>${legend}</legend>
      ${options.map((option) => html`
        <label><input type="checkbox" name=${name} value=${option} defaultChecked=${given.includes(option)} /> ${option}</label>`)}
    </fieldset>`;
}

/** The line and the column in a sentence of the server, from 1. */
export function place(sentence) {
  const found = /line (\d+), column (\d+)/.exec(sentence ?? "");
  return found && { line: Number(found[1]), column: Number(found[2]) };
}

/** Whether a line has a character that is not seen, apart from the ends of lines and tabulators. */
function hides(line) {
  const text = line.replaceAll(/[\t\r]/g, "");
  return seen(text) !== text;
}

/** A script with the numbers of its lines. An error is marked in its line, and leads there. */
function Source({ text, problem, readOnly }) {
  const area = useRef(null);
  const gutter = useRef(null);
  const [lines, setLines] = useState(text.split("\n"));
  const hidden = lines.flatMap((line, at) => (hides(line) ? [at + 1] : []));
  const at = place(problem?.message);
  const go = () => {
    const before = area.current.value.split("\n").slice(0, at.line - 1).reduce((sum, line) => sum + line.length + 1, 0);
    const caret = before + Math.max(0, at.column - 1);
    area.current.focus();
    area.current.setSelectionRange(caret, caret);
  };
  const follow = () => {
    gutter.current.scrollTop = area.current.scrollTop;
  };
  return html`
    <div class="source">
      <label for="source">Script</label>
      <div class="code">
        <div class="gutter" ref=${gutter} aria-hidden="true">
          ${lines.map((_, line) => html`<div class=${at?.line === line + 1 ? "wrong" : ""}>${line + 1}</div>`)}
        </div>
        <textarea id="source" name="source" ref=${area} rows="16" spellcheck=${false} autocapitalize="off" wrap="off"
          readonly=${readOnly} aria-invalid=${at ? "true" : "false"} aria-describedby="problem" defaultValue=${text}
          onInput=${(event) => setLines(event.target.value.split("\n"))} onScroll=${follow}></textarea>
      </div>
      <p class="trouble" id="problem" role="alert">${problem ? seen(problem.message) : ""}</p>
      ${hidden.length > 0 && html`<p class="note">Characters that are not seen, or change the direction of text, are in line ${hidden.slice(0, 5).join(", ")}.</p>`}
      ${at && html`<button type="button" onClick=${go}>Go to line ${at.line}, column ${at.column}</button>`}
    </div>`;
}

/** Runs the script in the editor once, as it stands. Nothing is published and nothing is kept. */
function Trial({ app, source, onProblem }) {
  const [result, setResult] = useState(null);
  const run = (event) => {
    event.preventDefault();
    const { action, channel, event: name, user, payload } = event.target.elements;
    const inputs = { action: action.value, channel: channel.value, event: name.value, user: user.value || null, payload: payload.value, source: source() };
    askApp(app, "trial", {}, { method: "POST", body: JSON.stringify(inputs) }).then(
      (answer) => {
        onProblem(answer.verdict === "failed" ? new Error(`The run failed: ${answer.why}`) : null);
        setResult(answer);
      },
      (error) => {
        onProblem(error);
        setResult(null);
      },
    );
  };
  return html`
    <h2>Try it</h2>
    <form class="settings" aria-label="Trial" onSubmit=${run}>
      <div class="row">
        <label>Action <select name="action"><option>message</option><option>join</option></select></label>
        <label>Channel <input name="channel" defaultValue="room" autocomplete="off" required /></label>
        <label>Event <input name="event" defaultValue="message" autocomplete="off" /></label>
        <label>User <input name="user" autocomplete="off" placeholder="nobody" /></label>
      </div>
      <label>Payload, as JSON <textarea name="payload" rows="3" spellcheck=${false} defaultValue=${'{"text": "hello"}'}></textarea></label>
      <div class="row"><button>Try</button>
        <span class="note">It runs once as it stands in the editor. Nothing is published or kept.</span></div>
    </form>
    <div role="status" class="trial">${result && html`<${Result} result=${result} />`}</div>`;
}

function Result({ result: { verdict, why, payload, answers, publications, log, state, cpu_us, memory_bytes, ignored } }) {
  const line = (name, text) => html`<dt>${name}</dt><dd><code class="data">${seen(text)}</code></dd>`;
  return html`
    <dl class="verdict">
      <dt>Verdict</dt><dd><b class=${verdict === "failed" ? "seen" : ""}>${verdict}</b></dd>
      ${why !== null && line("Why", why)}
      ${payload !== null && line("Payload", payload)}
      ${ignored && html`<dt>Note</dt><dd>The returned value has no effect, because the script did not read the payload.</dd>`}
      ${answers.map(({ event, message }) => line("Answer", `${event}: ${message}`))}
      ${publications.map(({ channel, event, message }) => line("Publishes", `${channel}: ${event}: ${message}`))}
      ${log.map((text) => line("Log", text))}
      ${state !== null && line("State", state)}
      <dt>Cost</dt><dd>${number(cpu_us)} µs of CPU, ${number(memory_bytes / 1024)} KiB</dd>
    </dl>`;
}

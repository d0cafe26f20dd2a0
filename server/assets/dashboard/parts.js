// Small parts that several views share. Data of the server becomes text nodes, and never markup.

import { html, useEffect, useState } from "/assets/preact.js";

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SMALL = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (value) => (value < 10 ? SMALL : NUMBER).format(value);

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at += 1) value /= 1024;
  return `${number(value)} ${units[at]}`;
}

export function duration(ms) {
  const s = Math.floor(ms / 1000);
  const [d, h, m] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d > 0) return `${d} d ${h} h`;
  if (h > 0) return `${h} h ${m} min`;
  return m > 0 ? `${m} min ${s % 60} s` : `${s} s`;
}

export const time = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

/** Control characters and characters that change the direction of text. They are shown as escapes. */
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const escape = (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** A text from a user, in which every invisible character is shown as an escape. */
export const seen = (text) => String(text).replace(UNSEEN, escape);

/** A JSON value as a text that is short enough for the page. */
export function short(value, length = 2000) {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return seen(text.length > length ? `${text.slice(0, length)}…` : text);
}

export const link = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

export function Trouble({ error }) {
  return html`<p class="trouble" role="alert">${error ? error.message : ""}</p>`;
}

/** A table. A column is `{ head, cell, kind }`; `cell` returns the content of a row's cell. */
export function Table({ label, columns, rows, keyOf, empty = "Nothing." }) {
  if (rows.length === 0) return html`<p class="empty">${empty}</p>`;
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label=${label}>
      <table>
        <caption class="unseen">${label}</caption>
        <thead>
          <tr>${columns.map(({ head, kind }) => html`<th scope="col" class=${kind}>${head}</th>`)}</tr>
        </thead>
        <tbody>
          ${rows.map((row) => html`
            <tr key=${keyOf(row)}>
              ${columns.map(({ cell, kind, head }) => html`<td class=${kind} data-head=${head}>${cell(row)}</td>`)}
            </tr>`)}
        </tbody>
      </table>
    </div>`;
}

/**
 * Pages of a listing that may change while it is paged: each page is read when it is asked for, and an entry that two
 * pages show is shown on both. `read(after)` resolves with `{ rows, next }`.
 */
export function usePages(read, key) {
  const [state, setState] = useState({ key, trail: [null], rows: null, next: null, error: null });
  const turn = async (trail) => {
    try {
      const { rows, next } = await read(trail.at(-1));
      setState({ key, trail, rows, next, error: null });
    } catch (error) {
      setState((before) => ({ ...before, key, error }));
    }
  };
  useEffect(() => {
    turn([null]);
  }, [key]);
  const now = state.key === key ? state : { key, trail: [null], rows: null, next: null, error: null };
  return {
    ...now,
    again: () => turn(now.trail),
    forward: () => turn([...now.trail, now.next]),
    back: () => turn(now.trail.slice(0, -1)),
  };
}

export function Pager({ pages }) {
  const { trail, next, again, forward, back } = pages;
  return html`
    <nav class="pager" aria-label="Pages">
      <button disabled=${trail.length < 2} onClick=${back}>Previous</button>
      <span>Page ${trail.length}</span>
      <button disabled=${next === null} onClick=${forward}>Next</button>
      <button onClick=${again}>Read again</button>
    </nav>`;
}

/** A button that asks for confirmation before an action that cannot be undone. */
export function Confirmed({ label, question, onConfirm }) {
  const [asked, setAsked] = useState(false);
  if (!asked) return html`<button class="danger" onClick=${() => setAsked(true)}>${label}</button>`;
  const done = () => {
    setAsked(false);
    onConfirm();
  };
  return html`
    <span class="confirm" role="group" aria-label=${question}>
      <span>${question}</span>
      <button class="danger" onClick=${done}>Yes</button>
      <button onClick=${() => setAsked(false)}>No</button>
    </span>`;
}

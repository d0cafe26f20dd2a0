// Requests of the dashboard's page to the admin listener.

import { useEffect, useState } from "/assets/preact.js";

const BASE = "/dashboard/api/";

/** An error answer: its status, and a sentence. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** Sends a request, and resolves with the JSON of the answer. */
export async function ask(path, { method = "GET", body } = {}) {
  const response = await fetch(BASE + path, {
    method,
    // A page of another site cannot send this header without a CORS preflight, and the server allows none.
    headers: { "x-fanfare": "dashboard" },
    body,
  });
  const text = await response.text();
  if (!response.ok) {
    if (response.status === 401) dispatchEvent(new Event("signed-out"));
    throw new Refused(response.status, sentence(text) ?? `The server answered with ${response.status}.`);
  }
  return text === "" ? null : JSON.parse(text);
}

function sentence(text) {
  try {
    return JSON.parse(text).detail;
  } catch {
    return text || null;
  }
}

/** Sends a request about an app. */
export function askApp(app, what, query = {}, options) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  return ask(`apps/${encodeURIComponent(app)}/${what}?${search}`, options);
}

/**
 * Asks again and again while the page is looked at. `read` is asked anew at once when `key` changes. Returns the last
 * answer and the last error, `null` if there is none.
 */
export function usePoll(read, key, everyMs) {
  const [state, setState] = useState({ key, answer: null, error: null });
  useEffect(() => {
    let timer = 0;
    let ended = false;
    let asking = false;
    const look = async () => {
      clearTimeout(timer);
      if (asking || ended || document.hidden) return;
      asking = true;
      try {
        const answer = await read();
        if (!ended) setState({ key, answer, error: null });
      } catch (error) {
        if (!ended) setState((before) => ({ key, answer: before.key === key ? before.answer : null, error }));
      }
      asking = false;
      if (!ended) timer = setTimeout(look, everyMs);
    };
    look();
    document.addEventListener("visibilitychange", look);
    return () => {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [key]);
  return state.key === key ? state : { answer: null, error: null };
}

// The dashboard: sign-in, navigation, and the view that the address names.

import { html, render, useEffect, useState } from "/assets/preact.js";
import { ask, usePoll } from "./api.js";
import { Channel, Channels } from "./channels.js";
import { Console } from "./console.js";
import { Overview, useTrail } from "./overview.js";
import { Trouble, link } from "./parts.js";
import { Problems } from "./problems.js";
import { Sessions } from "./sessions.js";
import { Trigger, Triggers } from "./triggers.js";

const LOOK_MS = 1000;

function read() {
  const parts = location.hash.replace(/^#\/?/, "").split("/");
  try {
    return parts.map(decodeURIComponent);
  } catch {
    return [""];
  }
}

function usePlace() {
  const [place, setPlace] = useState(read());
  useEffect(() => {
    const moved = () => {
      setPlace(read());
      document.querySelector("main")?.focus();
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return place;
}

function SignIn({ onDone }) {
  const [error, setError] = useState(null);
  const enter = async (event) => {
    event.preventDefault();
    try {
      await ask("login", { method: "POST", body: event.target.elements.password.value });
      onDone();
    } catch (problem) {
      setError(problem);
    }
  };
  return html`
    <main class="sign-in">
      <h1>Fanfare</h1>
      <form onSubmit=${enter}>
        <label>Password <input name="password" type="password" autocomplete="current-password" autofocus required /></label>
        <button>Sign in</button>
      </form>
      <${Trouble} error=${error} />
    </main>`;
}

const VIEWS = [["", "Now"], ["channels", "Channels"], ["sessions", "Sessions"], ["triggers", "Triggers"], ["problems", "Errors and drops"], ["console", "Console"]];

/** The views of an app. */
const OF_APP = ["channels", "sessions", "triggers", "console"];

function Frame({ account, onSignOut }) {
  const place = usePlace();
  const { answer: overview, error } = usePoll(() => ask("overview"), "overview", LOOK_MS);
  const trail = useTrail(overview);
  const [view = "", app = overview?.apps[0]?.name, item] = place;
  const signOut = async () => {
    await ask("logout", { method: "POST" });
    onSignOut();
  };
  const choose = (event) => {
    location.hash = link(view === "" ? "channels" : view, event.target.value);
  };
  let shown = html`<p class="empty">Reading…</p>`;
  if (overview) {
    if (view === "channels" && item !== undefined) shown = html`<${Channel} key=${`${app}/${item}`} app=${app} channel=${item} />`;
    else if (view === "channels") shown = html`<${Channels} key=${app} app=${app} />`;
    else if (view === "sessions") shown = html`<${Sessions} key=${app} app=${app} />`;
    else if (view === "triggers" && item !== undefined) shown = html`<${Trigger} key=${`${app}/${item}`} app=${app} name=${item} />`;
    else if (view === "triggers") shown = html`<${Triggers} key=${app} app=${app} />`;
    else if (view === "problems") shown = html`<${Problems} overview=${overview} before=${trail.before} />`;
    else if (view === "console") shown = html`<${Console} key=${app} apps=${overview.apps} app=${app} />`;
    else shown = html`<${Overview} overview=${overview} trail=${trail} />`;
  }
  return html`
    <header>
      <a class="brand" href="#/">Fanfare</a>
      <nav aria-label="Views">
        ${VIEWS.map(([key, label]) => html`
          <a href=${OF_APP.includes(key) ? link(key, app ?? "default") : link(key)}
            aria-current=${key === view ? "page" : undefined}>${label}</a>`)}
      </nav>
      ${overview?.apps.length > 1 && html`
        <label class="app">App <select value=${app} onChange=${choose}>
          ${overview.apps.map(({ name }) => html`<option>${name}</option>`)}
        </select></label>`}
      ${account.password && html`<button class="quiet" onClick=${signOut}>Sign out</button>`}
    </header>
    <main tabindex="-1">
      <${Trouble} error=${error} />
      ${shown}
    </main>`;
}

function Dashboard() {
  const [account, setAccount] = useState(null);
  const [error, setError] = useState(null);
  const look = () => ask("account").then(setAccount, setError);
  useEffect(() => {
    look();
    addEventListener("signed-out", look);
    return () => removeEventListener("signed-out", look);
  }, []);
  if (account === null) return html`<main><${Trouble} error=${error} /></main>`;
  if (!account.signed_in) return html`<${SignIn} onDone=${look} />`;
  return html`<${Frame} account=${account} onSignOut=${look} />`;
}

render(html`<${Dashboard} />`, document.body);

// Why a handshake was refused. A WebSocket does not tell; the HTTP API on the same port does: to a client key that is
// valid it answers `server_key_required`, and to any other it says what is wrong with it.

import { FanfareError } from "./errors.js";

/** `final`: trying again is of no use. `refused`: app and key are right, so the token or a limit is the reason. */
export interface Diagnosis {
  readonly verdict: "final" | "refused" | "unreachable";
  readonly error: FanfareError;
}

const FINAL = ["unknown_app", "missing_key", "invalid_key", "origin_not_allowed"];

/** `url` is that of the WebSocket. Never rejects. */
export async function diagnose(url: string, app: string | undefined, key: string, timeoutMs: number): Promise<Diagnosis> {
  const probe = new URL("members?channel=-", url.replace(/^ws/, "http"));
  probe.searchParams.set("key", key);
  if (app !== undefined) probe.searchParams.set("app", app);
  try {
    const answer = await fetch(probe, { signal: AbortSignal.timeout(timeoutMs) });
    // A server key opens the list itself.
    const { code = "server_key_required", detail } = await answer.json();
    if (FINAL.includes(code)) return { verdict: "final", error: new FanfareError(code, String(detail)) };
    if (code === "server_key_required") {
      return { verdict: "refused", error: new FanfareError("unreachable", "The token or a limit was refused.") };
    }
  } catch {
    // Nobody there, not JSON, too slow, or an origin that may not read the answer.
  }
  return { verdict: "unreachable", error: new FanfareError("unreachable", "The server could not be reached.") };
}

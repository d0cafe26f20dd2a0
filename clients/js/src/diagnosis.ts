// Why a handshake was refused. A WebSocket does not tell; the HTTP API on the same port does: to a client key that is
// valid it answers `server_key_required`, and to any other it says what is wrong with it.

import { FanfareError } from "./errors.js";

const FINAL = ["unknown_app", "missing_key", "invalid_key", "origin_not_allowed"];
const ENOUGH_MS = 5_000;

/**
 * The error after which trying again is of no use; or `accepted`, if app and key are right, so that it is the token or
 * a limit that was refused; or nothing, if there was no answer. `url` is that of the WebSocket. Never rejects.
 */
export async function diagnose(
  url: string,
  app: string | undefined,
  key: string,
): Promise<FanfareError | "accepted" | undefined> {
  const probe = new URL("members", url.replace(/^ws/, "http"));
  probe.search = String(new URLSearchParams({ channel: "-", ...(app !== undefined && { app }) }));
  try {
    const answer = await fetch(probe, {
      headers: { authorization: `Bearer ${key}` },
      signal: AbortSignal.timeout(ENOUGH_MS),
    });
    // A server key opens the list itself, which has no code.
    const { code = "server_key_required", detail } = await answer.json();
    if (FINAL.includes(code)) return new FanfareError(code, String(detail));
    return code === "server_key_required" ? "accepted" : undefined;
  } catch {
    // Nobody there, not JSON, too slow, or an origin that may not read the answer.
    return undefined;
  }
}

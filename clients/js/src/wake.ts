// Tells when a page comes back: from sleep, from the background, from the cache, from being offline.

const EVENTS = ["online", "pageshow", "visibilitychange"];

/** Calls `onWake` each time; returns what ends that. Does nothing where there are no such events, as in Node. */
export function watchWake(onWake: () => void): () => void {
  const listener = () => {
    if (globalThis.document?.visibilityState !== "hidden") onWake();
  };
  // An event of the document, such as visibilitychange, rises to the window.
  for (const event of EVENTS) globalThis.addEventListener?.(event, listener);
  return () => {
    for (const event of EVENTS) globalThis.removeEventListener?.(event, listener);
  };
}

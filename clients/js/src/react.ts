// `fanfare/react`: hooks over a `Realtime` that the application made. They do nothing while a page is rendered on a
// server, and work in strict mode.

import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { feed } from "./feed.js";
import type { Feed, FeedOptions } from "./feed.js";
import type { Live } from "./live.js";
import { presence } from "./presence.js";
import type { Realtime } from "./realtime.js";
import type { Member, Publication, Remembered } from "./types.js";

/** How many components hold a channel of a connection: the first joins, and the last leaves. */
const holders = new WeakMap<Realtime<any>, Map<string, number>>();

function hold(realtime: Realtime<any>, channel: string): () => void {
  const counts = holders.get(realtime) ?? new Map<string, number>();
  holders.set(realtime, counts);
  const count = counts.get(channel) ?? 0;
  counts.set(channel, count + 1);
  // What fails is an `error` event of the connection.
  if (count === 0) realtime.join(channel).catch(() => {});
  return () => {
    const left = counts.get(channel)! - 1;
    if (left > 0) return void counts.set(channel, left);
    counts.delete(channel);
    realtime.leave(channel).catch(() => {});
  };
}

/** Is a member of the channel while the component is there. The listener receives the channel's publications. */
export function useChannel(
  realtime: Realtime<any>,
  channel: string,
  listener?: (publication: Publication) => void,
): void {
  const latest = useRef(listener);
  useEffect(() => {
    latest.current = listener;
  });
  useEffect(() => hold(realtime, channel), [realtime, channel]);
  useEffect(
    () =>
      realtime.connection.on("publication", (publication) => {
        if (publication.channel === channel) latest.current?.(publication);
      }),
    [realtime, channel],
  );
}

/** The channel's members, kept up to date. Joins the channel. */
export function usePresence<Profile = any>(realtime: Realtime<any>, channel: string): readonly Member<Profile>[] {
  useChannel(realtime, channel);
  const make = useCallback(() => presence<Profile>(realtime, channel), [realtime, channel]);
  return useLive<readonly Member<Profile>[], Live<readonly Member<Profile>[]>>(make)[0];
}

export interface History<Message = any> {
  /** Oldest first. */
  readonly messages: readonly Remembered<Message>[];
  /** Adds a page of older messages; resolves to false if there are none. */
  older(): Promise<boolean>;
}

/** The channel's newest messages, kept up to date. Joins the channel. */
export function useHistory<Message = any>(
  realtime: Realtime<any>,
  channel: string,
  { page, keep }: FeedOptions = {},
): History<Message> {
  useChannel(realtime, channel);
  const make = useCallback(
    () => feed<Message>(realtime, channel, { page, keep }),
    [realtime, channel, page, keep],
  );
  const [messages, live] = useLive<readonly Remembered<Message>[], Feed<Message>>(make);
  return useMemo(() => ({ messages, older: async () => live?.older() ?? false }), [messages, live]);
}

const NOTHING: readonly never[] = [];

/** The value of a live list that lives as long as the component and `make` stay. */
function useLive<Value extends readonly unknown[], Of extends Live<Value>>(make: () => Of): [Value, Of | undefined] {
  const [live, setLive] = useState<Of>();
  useEffect(() => {
    const made = make();
    setLive(made);
    return () => made.close();
  }, [make]);
  const subscribe = useCallback((onChange: () => void) => live?.subscribe(onChange) ?? (() => {}), [live]);
  const value = useSyncExternalStore(
    subscribe,
    () => live?.current ?? (NOTHING as unknown as Value),
    () => NOTHING as unknown as Value,
  );
  return [value, live];
}

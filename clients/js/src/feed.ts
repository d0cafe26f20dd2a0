// The messages of a channel with history as a list that keeps itself up to date; and all of them, page by page.

import { Cell, Loader, live } from "./live.js";
import type { Live } from "./live.js";
import type { Realtime } from "./realtime.js";
import type { HistoryOptions, HistoryPage, Publication, Remembered } from "./types.js";

export interface FeedOptions {
  /** Messages of a page; 50 if left out. */
  readonly page?: number;
  /** Messages that are kept before the oldest ones are dropped; 1000 if left out. Pages that were asked for are kept. */
  readonly keep?: number;
}

export interface Feed<Message = any> extends Live<readonly Remembered<Message>[]> {
  /** Adds a page of older messages. Resolves to false if there are none. */
  older(): Promise<boolean>;
}

/**
 * The newest messages of a channel that this connection has joined, oldest first; new ones are appended, edited ones
 * replaced, deleted ones removed. After a gap, the list is read anew.
 */
export function feed<Message = any>(
  realtime: Realtime<any>,
  channel: string,
  { page = 50, keep = 1000 }: FeedOptions = {},
): Feed<Message> {
  const cell = new Cell<readonly Remembered<Message>[]>([]);
  let messages: Remembered[] = [];
  let kept = keep;
  /** While a page is read: the publications that arrive meanwhile, which come after it. */
  let arrived: Publication[] = [];

  const show = (next: Remembered[]) => {
    messages = next.length > kept ? next.slice(-kept) : next;
    cell.set(messages);
  };
  const loader = new Loader(async () => {
    arrived = [];
    const answer = await realtime.history(channel, { limit: page });
    if (!loader.closed) show(arrived.reduce(follow, [...answer.messages].reverse()));
  });
  const { connection } = realtime;
  const stops = [
    connection.on("publication", (publication) => {
      if (publication.channel !== channel || publication.id === undefined) return;
      if (loader.running) arrived.push(publication);
      show(follow(messages, publication));
    }),
    connection.on("gap", (gap) => gap.channel === channel && loader.want()),
  ];
  loader.want();
  return Object.assign(live(cell, loader, stops), {
    older: async () => {
      await loader.ready;
      const before = messages[0]?.offset;
      if (before === undefined) return false;
      const answer = await realtime.history(channel, { limit: page, before });
      // The list may have been read anew meanwhile.
      if (loader.closed || messages[0]?.offset !== before) return true;
      kept = Math.max(kept, messages.length + answer.messages.length);
      show([...[...answer.messages].reverse(), ...messages]);
      return answer.messages.length > 0;
    },
  });
}

/** Every message of a channel's history in turn, oldest first or newest first, read page by page as it is asked for. */
export async function* eachMessage(
  source: { history(channel: string, options?: HistoryOptions): Promise<HistoryPage> },
  channel: string,
  options: HistoryOptions & { readonly direction?: "oldest first" | "newest first" } = {},
): AsyncGenerator<Remembered, void> {
  const { direction = "oldest first", ...first } = options;
  const key = direction === "oldest first" ? "after" : "before";
  let from = key === "after" ? (first.after ?? 0) : first.before;
  for (;;) {
    const page: HistoryPage = await source.history(channel, { limit: first.limit, [key]: from });
    yield* page.messages;
    if (page.next === null || page.next === undefined) return;
    from = page.next;
  }
}

/** The list after a publication. A message that is in it already, as of a page read meanwhile, does not come twice. */
function follow(messages: Remembered[], publication: Publication): Remembered[] {
  const { event, id, message, editedMs, offset } = publication;
  if (event === "message:delete") return messages.filter((other) => other.id !== id);
  if (event === "message:edit") {
    return messages.map((other) => (other.id === id ? { ...other, message, editedMs } : other));
  }
  if (offset === undefined || messages.some((other) => other.id === id)) return messages;
  const { channel: _, ...rest } = publication;
  // Nearly always the end. What was missed while away may be older than a page that was read first.
  let place = messages.length;
  while (place > 0 && messages[place - 1]!.offset > offset) place -= 1;
  return [...messages.slice(0, place), { ...rest, timeMs: Date.now() } as Remembered, ...messages.slice(place)];
}

// The messages of a channel with history as a list that keeps itself up to date; and all of them, page by page.

import { LiveList } from "./live.js";
import type { Live } from "./live.js";
import type { Realtime } from "./realtime.js";
import type { HistoryOptions, HistoryPage, Publication, Remembered } from "./types.js";

export interface FeedOptions {
  /** Messages of a page; 50 if left out. */
  readonly page?: number;
  /** Messages that are kept, besides pages that were asked for; the oldest are dropped first. 1000 if left out. */
  readonly keep?: number;
}

export interface Feed<Message = any> extends Live<readonly Remembered<Message>[]> {
  /** Adds a page of older messages. Resolves to false if there are none. */
  older(): Promise<boolean>;
}

/**
 * The newest messages of a channel that this connection joins, oldest first; new ones are appended, edited ones
 * replaced, deleted ones removed. The list is read when the channel is joined, unless what was missed is recovered, and
 * after a gap.
 */
export function feed<Message = any>(
  realtime: Realtime<any>,
  channel: string,
  { page = 50, keep = 1000 }: FeedOptions = {},
): Feed<Message> {
  let kept = keep;
  /** While a page is read: the publications that arrive meanwhile, which come after it. */
  let arrived: Publication[] = [];
  const show = (next: readonly Remembered[]) => list.show(next.slice(-kept));

  const list = new LiveList<readonly Remembered<Message>[]>([], realtime, channel, {
    load: async () => {
      arrived = [];
      const { messages } = await realtime.history(channel, { limit: page });
      show(arrived.reduce<readonly Remembered[]>(follow, [...messages].reverse()));
    },
    onPublication: (publication) => {
      if (publication.id === undefined) return;
      if (list.loading) arrived.push(publication);
      show(follow(list.current, publication));
    },
    onJoined: ({ recovered }) => {
      if (recovered) return;
      arrived = [];
      list.want();
    },
  });
  return Object.assign(list, {
    older: async () => {
      await list.ready;
      const before = list.current[0]?.offset;
      if (before === undefined) return false;
      const { messages } = await realtime.history(channel, { limit: page, before });
      // The list may have been read anew meanwhile.
      if (list.current[0]?.offset !== before) return true;
      kept = Math.max(kept, list.current.length + messages.length);
      show([...[...messages].reverse(), ...list.current]);
      return messages.length > 0;
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
function follow(messages: readonly Remembered[], publication: Publication): readonly Remembered[] {
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

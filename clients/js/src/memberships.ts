// The channels that the application has joined, and how far into each one's stream it has come.

import type { ConnectionEvents, Joined, Position } from "./types.js";

interface Membership {
  readonly echo: boolean | undefined;
  epoch: string;
  offset: number;
  /** While what was missed is still arriving: how much of it is left, and where the stream goes on after that. */
  catchUp?: { left: number; readonly missed: number; readonly end: number } | undefined;
}

export interface Rejoin {
  readonly channel: string;
  readonly echo: boolean | undefined;
  readonly since: Position;
}

/** What a join with `since` came to; `undefined` while what was missed is still arriving. */
export type Outcome = { readonly recovered: ConnectionEvents["recovered"] } | { readonly gap: ConnectionEvents["gap"] };

export class Memberships {
  readonly #channels = new Map<string, Membership>();

  position(channel: string): Position | undefined {
    const membership = this.#channels.get(channel);
    return membership && { epoch: membership.epoch, offset: membership.offset };
  }

  /** A join was answered. */
  joined(answer: Joined, echo: boolean | undefined, since: Position | undefined): Outcome | undefined {
    const { channel, epoch, offset } = answer;
    const known = this.#channels.get(channel);
    const missed = (answer.recovered && answer.missed) || 0;
    if (answer.joined || !known) {
      const catchUp = since && missed > 0 ? { left: missed, missed, end: offset } : undefined;
      // Until what was missed has arrived, the position is that of the last message received.
      this.#channels.set(channel, { echo, epoch, offset: catchUp ? since!.offset : offset, catchUp });
    } else if (!known.catchUp) {
      known.offset = known.epoch === epoch ? Math.max(known.offset, offset) : offset;
      known.epoch = epoch;
    }
    return since && missed === 0 ? outcome(since, answer) : undefined;
  }

  left(channel: string): void {
    this.#channels.delete(channel);
  }

  clear(): void {
    this.#channels.clear();
  }

  /** A publication arrived. Returns the outcome of a recovery that it completes. */
  received(channel: unknown, offset: unknown): Outcome | undefined {
    const membership = this.#channels.get(channel as string);
    if (!membership || typeof offset !== "number") return undefined;
    membership.offset = Math.max(membership.offset, offset);
    const { catchUp } = membership;
    if (!catchUp) return undefined;
    catchUp.left -= 1;
    if (catchUp.left > 0) return undefined;
    membership.catchUp = undefined;
    membership.offset = Math.max(membership.offset, catchUp.end);
    return { recovered: { channel: channel as string, missed: catchUp.missed } };
  }

  /** What to join again after the session is gone. */
  rejoins(): Rejoin[] {
    return [...this.#channels].map(([channel, { echo, epoch, offset }]) => ({
      channel,
      echo,
      since: { epoch, offset },
    }));
  }
}

function outcome(since: Position, answer: Joined): Outcome {
  const { channel, epoch, offset } = answer;
  const behind = epoch === since.epoch ? offset - since.offset : null;
  if (answer.recovered || behind === 0) return { recovered: { channel, missed: 0 } };
  return { gap: { channel, missed: behind, cause: "reconnect" } };
}

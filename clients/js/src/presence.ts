// The members of a channel as a list that keeps itself up to date.

import { Cell, Loader, live } from "./live.js";
import type { Live } from "./live.js";
import type { Realtime } from "./realtime.js";
import type { Member, Publication } from "./types.js";

/**
 * The members of a channel that this connection has joined, with their profiles, in the order of the server's pages and
 * then of joining. After a reconnect, and after a gap, the list is read anew.
 */
export function presence<Profile = any>(realtime: Realtime<any>, channel: string): Live<readonly Member<Profile>[]> {
  const cell = new Cell<readonly Member<Profile>[]>([]);
  let members = new Map<string, Member>();
  /** While pages are read: what notices said meanwhile, which goes before what the pages say. */
  let noticed = new Map<string, Member | undefined>();

  const loader = new Loader(async () => {
    noticed = new Map();
    const listed = await realtime.getMembers(channel);
    if (loader.closed) return;
    members = new Map(listed.map((member) => [member.id, member]));
    for (const [id, member] of noticed) apply(members, id, member);
    cell.set([...members.values()]);
  });

  const onPublication = (publication: Publication) => {
    if (publication.channel !== channel) return;
    const member = memberOf(publication);
    if (!member) return;
    const present = publication.event === "channel:leave" ? undefined : member;
    if (loader.running) noticed.set(member.id, present);
    apply(members, member.id, present);
    cell.set([...members.values()]);
  };

  const { connection } = realtime;
  const stops = [
    connection.on("publication", onPublication),
    connection.on("open", ({ resumed }) => resumed || loader.want()),
    connection.on("gap", (gap) => gap.channel === channel && gap.cause === "slow" && loader.want()),
  ];
  loader.want();
  return live(cell, loader, stops);
}

function memberOf({ event, message }: Publication): Member | undefined {
  if (!["channel:join", "channel:update", "channel:leave"].includes(event)) return undefined;
  return typeof message?.id === "string" ? message : undefined;
}

function apply(members: Map<string, Member>, id: string, member: Member | undefined): void {
  if (member) members.set(id, member);
  else members.delete(id);
}

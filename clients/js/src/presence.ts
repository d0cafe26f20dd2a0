// The members of a channel as a list that keeps itself up to date.

import { LiveList } from "./live.js";
import type { Live } from "./live.js";
import type { Realtime } from "./realtime.js";
import type { Member, Publication } from "./types.js";

/**
 * The members of a channel that this connection joins, with their profiles, in the order of the server's pages and then
 * of joining. The list is read when the channel is joined, each time, and after a gap.
 */
export function presence<Profile = any>(realtime: Realtime<any>, channel: string): Live<readonly Member<Profile>[]> {
  let members = new Map<string, Member>();
  /** While pages are read: what notices said meanwhile, which goes before what the pages say. */
  const noticed = new Map<string, Member | undefined>();

  const list = new LiveList<readonly Member<Profile>[]>([], realtime, channel, {
    load: async () => {
      noticed.clear();
      const listed = await realtime.getMembers(channel);
      members = new Map(listed.map((member) => [member.id, member]));
      for (const [id, member] of noticed) apply(members, id, member);
      list.show([...members.values()]);
    },
    onPublication: (publication) => {
      const member = memberOf(publication);
      if (!member) return;
      const present = publication.event === "channel:leave" ? undefined : member;
      if (list.loading) noticed.set(member.id, present);
      apply(members, member.id, present);
      list.show([...members.values()]);
    },
    // Notices of a membership before this one say nothing about now: others came and went in between, unseen.
    onJoined: () => {
      noticed.clear();
      list.want();
    },
  });
  return list;
}

function memberOf({ event, message }: Publication): Member | undefined {
  return /^channel:(join|update|leave)$/.test(event) && typeof message?.id === "string" ? message : undefined;
}

function apply(members: Map<string, Member>, id: string, member: Member | undefined): void {
  if (member) members.set(id, member);
  else members.delete(id);
}

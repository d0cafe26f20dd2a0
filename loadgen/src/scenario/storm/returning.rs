//! How connections come back to their channels after a storm: with their sessions, or by a join.

use super::{Session, Storm};
use crate::{
    drivers::{Resumption, Standing},
    histogram::Latency,
    net::{Access, Net, Slot},
    tally::StormStages,
};

impl Storm {
    /// How a member that has a ticket comes back to its session.
    pub(super) fn access_resuming(&self, slot: Slot) -> Option<Access> {
        let session = self.members.get(slot as usize)?.session.as_ref()?;
        self.seat.driver.access_resuming(&session.ticket, session.received)
    }

    /// A message that counts in its session came in.
    pub(super) fn count_received(&mut self, slot: Slot) {
        if let Some(Session { received, .. }) =
            self.members.get_mut(slot as usize).and_then(|member| member.session.as_mut())
        {
            *received += 1;
        }
    }

    /// A connection that a storm has dropped is this far again.
    pub(super) fn reach(&mut self, slot: Slot, now: u64, stage: fn(&mut StormStages) -> &mut Latency) {
        let dropped_ns = self.members.get(slot as usize).map_or(0, |member| member.dropped_ns);
        if self.tally.at(dropped_ns).is_some() {
            stage(self.tally.stages.get_or_insert_default()).record(now.saturating_sub(dropped_ns));
        }
    }

    /// A subscriber is welcome: its session goes on, or it joins its channel.
    pub(super) fn on_welcome(
        &mut self,
        net: &mut Net,
        slot: Slot,
        (session, resumption): (&str, Option<Resumption<'_>>),
        now: u64,
    ) {
        if self.plan.resume && (slot as usize) < self.members.len() {
            let Some(Resumption { ticket, is_resumed }) = resumption else {
                let sentence = "The server gives no tickets: it does not keep sessions (resume_ms).";
                return self.seat.control.fail(sentence.into());
            };
            if self.take_ticket(slot, ticket, is_resumed == Some(true)) {
                return self.await_missed(slot, now);
            }
            self.tally.returns.lapsed += u64::from(is_resumed == Some(false));
        }
        self.join(net, slot, session);
    }

    /// Keeps the ticket for the next time. Says whether an earlier session goes on.
    fn take_ticket(&mut self, slot: Slot, ticket: &str, is_resumed: bool) -> bool {
        let member = &mut self.members[slot as usize];
        match &mut member.session {
            Some(session) if is_resumed => {
                session.ticket = ticket.into();
                return true;
            }
            session => *session = Some(Session { ticket: ticket.into(), received: 0, awaited: None }),
        }
        false
    }

    /// A session goes on, and what its member has missed follows.
    fn await_missed(&mut self, slot: Slot, now: u64) {
        self.tally.returns.resumed += 1;
        let channel = self.channel(slot);
        let published = if self.plan.rate > 0.0 { self.seat.control.published(channel) } else { 0 };
        if self.ledger.expected(slot as usize) >= published {
            return self.on_back(slot, now);
        }
        if let Some(session) = &mut self.members[slot as usize].session {
            session.awaited = Some(published);
        }
    }

    fn join(&self, net: &mut Net, slot: Slot, session: &str) {
        let name = self.seat.channel(self.channel(slot));
        let epoch = self.members.get(slot as usize).and_then(|member| member.epoch.as_deref());
        let join = epoch.and_then(|epoch| {
            let offset = self.order.last(slot as usize);
            self.seat.driver.join_since(1, &name, epoch, offset)
        });
        net.send(slot, &join.unwrap_or_else(|| self.seat.driver.join(1, &name, session)));
    }

    /// A subscriber is in its channel.
    pub(super) fn on_joined(&mut self, slot: Slot, standing: Option<Standing<'_>>, now: u64) {
        let channel = self.channel(slot) as usize;
        let Some(member) = self.members.get_mut(slot as usize) else {
            self.away -= 1;
            return;
        };
        let is_recovered = standing.and_then(|standing| standing.recovered);
        match is_recovered {
            Some(true) => self.tally.returns.recovered += 1,
            Some(false) => self.tally.returns.unrecovered += 1,
            None if member.has_been_back && self.plan.rate > 0.0 => {
                self.tally.returns.adrift += 1;
                member.is_adrift = true;
            }
            None => {}
        }
        if is_recovered != Some(true) {
            self.order.go_on(slot as usize, standing.map_or(0, |standing| standing.offset));
        }
        if let (Some(standing), Some(epoch)) = (standing, self.epochs.get_mut(channel)) {
            if epoch.as_deref() != Some(standing.epoch) {
                *epoch = Some(standing.epoch.into());
            }
            member.epoch.clone_from(epoch);
            member.missed = if is_recovered == Some(true) { standing.missed } else { 0 };
        }
        if member.missed == 0 {
            self.on_back(slot, now);
        }
    }

    /// A publication came in, which may be the last one that its member had missed.
    pub(super) fn follow(&mut self, slot: Slot, sequence: u32, now: u64) {
        let expected = self.ledger.expected(slot as usize);
        let Some(member) = self.members.get_mut(slot as usize) else { return };
        if member.missed > 0 {
            member.missed -= 1;
            self.tally.returns.missed += 1;
            return if member.missed == 0 {
                self.on_back(slot, now)
            };
        }
        let Some(session) = &mut member.session else { return };
        let Some(awaited) = session.awaited else { return };
        self.tally.returns.missed += u64::from(sequence < awaited);
        if expected >= awaited {
            session.awaited = None;
            self.on_back(slot, now);
        }
    }

    fn on_back(&mut self, slot: Slot, now: u64) {
        let member = &mut self.members[slot as usize];
        (member.is_back, member.has_been_back) = (true, true);
        self.away -= 1;
        let dropped_ns = member.dropped_ns;
        if let Some(mut at) = self.tally.at(dropped_ns) {
            at.window.operations += 1;
            at.record(now.saturating_sub(dropped_ns));
        }
    }
}

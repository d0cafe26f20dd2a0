//! Sends messages, by credits or by a schedule, and exchanges completions between workers.

use std::io::Write;

use super::{ClosedLoop, Pacing, Publish};
use crate::{
    clock::{now_ns, seconds},
    control::Stage,
    net::{Net, Wait},
    pacer::{Pacer, Schedule},
    peer_signal::Message,
    stamp::{Stamp, put_payload},
    tally::LATE_NS,
};

/// Time after which another worker that reads too slowly is told again.
const RETRY_NS: u64 = 50_000;

impl Publish {
    pub(super) fn publish(&mut self, net: &mut Net, stage: Stage) -> Wait {
        let nothing = Pacer::new(Schedule::steady(1.0), 0, Vec::new());
        let mut pacing = std::mem::replace(&mut self.pacing, Pacing::Open(nothing));
        let wait = match &mut pacing {
            Pacing::Closed(closed) => self.publish_credits(net, closed, stage),
            Pacing::Open(pacer) => self.publish_due(net, pacer),
        };
        self.pacing = pacing;
        wait
    }

    /// Closed loop: sends as much as there are credits.
    fn publish_credits(&mut self, net: &mut Net, closed: &mut ClosedLoop, stage: Stage) -> Wait {
        let publishers = self.plan.publishers;
        let wait = self.exchange_completions(net, closed);
        if stage == Stage::Cool {
            return wait;
        }
        let now = now_ns();
        if !closed.begun {
            closed.begin(&self.plan, &self.seat, now);
        }
        if now > closed.next_expiry_ns {
            let expiry_ns = seconds(self.plan.expiry_seconds);
            closed.expire(now, expiry_ns, publishers);
        }
        while let Some(channel) = closed.waiting.pop() {
            let credits = std::mem::take(&mut closed.credits[channel as usize]);
            let turn = closed.turn[channel as usize];
            closed.turn[channel as usize] = (turn + credits) % publishers;
            for place in 0..publishers.min(credits) {
                let publisher = channel * publishers + (turn + place) % publishers;
                let count = credits / publishers + u32::from(place < credits % publishers);
                self.send(net, publisher, count, now, |message| {
                    if closed.flights.issue(message, now) {
                        closed.credits[channel as usize] += 1;
                    }
                });
            }
            if closed.credits[channel as usize] > 0 {
                closed.waiting.push(channel);
            }
        }
        wait
    }

    /// Open loop: sends what is due, to the end of the last window.
    fn publish_due(&mut self, net: &mut Net, pacer: &mut Pacer) -> Wait {
        let (start_ns, end_ns) = (self.seat.control.start_ns(), self.seat.control.end_ns());
        let receivers = u64::from(self.plan.receivers());
        let mut now = now_ns();
        while let Some((due_ns, publisher)) = pacer.next(start_ns).filter(|(due_ns, _)| *due_ns < end_ns) {
            if due_ns > now {
                now = now_ns();
                if due_ns > now {
                    return Wait::Until(due_ns);
                }
            }
            if let Some(at) = self.tally.at(due_ns) {
                at.window.due += receivers;
                at.window.scheduled += 1;
                at.window.late += u64::from(now - due_ns > LATE_NS);
            }
            self.send(net, publisher, 1, due_ns, |_| {});
            pacer.advance();
        }
        Wait::Rest
    }

    /// Sends the next `count` messages of a publisher with one write.
    fn send(
        &mut self,
        net: &mut Net,
        publisher: u32,
        count: u32,
        due_ns: u64,
        mut each: impl FnMut(Message),
    ) {
        let entry = &mut self.publishers[publisher as usize];
        let Some(slot) = entry.slot else { return };
        self.frames.clear();
        let is_http = net.is_http(slot);
        let numbered = self.seat.driver.numbered();
        for _ in 0..count {
            let sequence = entry.sequence;
            entry.sequence += 1;
            self.text.clear();
            self.text.extend_from_slice(entry.before.as_bytes());
            let length = self.plan.payload;
            put_payload(&mut self.text, Stamp { length, run: self.run, publisher, sequence, due_ns });
            self.text.extend_from_slice(entry.behind.as_bytes());
            if let Some((_, behind_number)) = numbered {
                write!(self.text, "{sequence}{behind_number}").expect("a vector takes everything");
            }
            if is_http {
                net.queue_text(slot, &self.text);
            } else {
                net.put_message(&mut self.frames, &self.text);
            }
            each((publisher, sequence));
        }
        self.seat.control.report_published(publisher, entry.sequence);
        if let Some(at) = self.tally.at(due_ns) {
            at.window.messages += u64::from(count);
        }
        if is_http {
            net.send_queued(slot);
        } else {
            net.send_frames(slot, &self.frames);
        }
    }

    /// Tells other workers what completed here, and takes what completed there.
    fn exchange_completions(&mut self, net: &mut Net, closed: &mut ClosedLoop) -> Wait {
        let Some(signal) = &mut self.signal else { return Wait::Rest };
        let total = self.publishers.len() as u32;
        let received = if net.take_signal() {
            signal.receive(|message| {
                if message.0 < total {
                    closed.complete_part(message, self.plan.publishers);
                }
            })
        } else {
            Ok(())
        };
        match received.and_then(|()| signal.send()) {
            Ok(true) => Wait::Rest,
            Ok(false) => Wait::Until(now_ns() + RETRY_NS),
            Err(error) => {
                self.seat.control.give_up(format!("Workers cannot speak with each other: {error}."));
                Wait::Rest
            }
        }
    }
}

//! The closed loop: each channel has credits for messages, and gets a credit back when a message has reached
//! every member.

use crate::{
    peer_signal::Message,
    plan::{Pace, PublishPlan},
    scenario::{Seat, flights::Flights},
};

const EXPIRY_CHECK_NS: u64 = 250_000_000;

pub(super) struct ClosedLoop {
    pub(super) flights: Flights,
    /// The credits of each channel.
    pub(super) credits: Vec<u32>,
    /// The publisher of each channel whose turn it is.
    pub(super) turn: Vec<u32>,
    /// Channels that have credits.
    pub(super) waiting: Vec<u32>,
    pub(super) begun: bool,
    pub(super) next_expiry_ns: u64,
}

impl ClosedLoop {
    /// Gives each channel of this home its window.
    pub(super) fn begin(&mut self, plan: &PublishPlan, seat: &Seat, now: u64) {
        let Pace::Closed { window } = plan.pace else { return };
        self.begun = true;
        self.next_expiry_ns = now + EXPIRY_CHECK_NS;
        for channel in seat.own(plan.channels) {
            self.credits[channel as usize] = window;
            self.waiting.push(channel);
        }
    }

    pub(super) fn complete_part(&mut self, message: Message, publishers: u32) {
        if self.flights.complete_part(message) {
            self.give_credit(message.0 / publishers);
        }
    }

    fn give_credit(&mut self, channel: u32) {
        let credits = &mut self.credits[channel as usize];
        if *credits == 0 {
            self.waiting.push(channel);
        }
        *credits += 1;
    }

    pub(super) fn expire(&mut self, now: u64, expiry_ns: u64, publishers: u32) {
        self.next_expiry_ns = now + EXPIRY_CHECK_NS;
        let mut lost = Vec::new();
        self.flights.expire(now.saturating_sub(expiry_ns), |publisher| lost.push(publisher / publishers));
        for channel in lost {
            self.give_credit(channel);
        }
    }
}

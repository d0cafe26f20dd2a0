//! Between one worker's frames and its scenario: greets, answers what the server wants answered, divides messages into
//! items, and remembers for the driver what a connection cannot be understood without.
//!
//! ```text
//!  net ──▶ message ──▶ items ──▶ with a stamp: on_publication ──▶ scenario
//!   ▲                        └─▶ without: driver.read ─▶ on_reply ──┘
//!   └── greeting, answers
//! ```

use std::{collections::HashMap, sync::Arc};

use crate::{
    clock::now_ns,
    drivers::{Driver, Framing, Opened, Reply},
    net::{Closed, Handler, Net, Slot},
    scenario::Scenario,
    stamp::Locator,
};

/// Bytes of an item that is not complete after which it never will be.
const MAX_CARRIED_BYTES: usize = 16 << 20;

type BySlot<T> = HashMap<Slot, T, foldhash::fast::RandomState>;

/// A scenario, and how it speaks with the server.
pub(crate) struct Dialogue<S> {
    pub(crate) scenario: S,
    driver: Arc<dyn Driver>,
    framing: Framing,
    answers_by_notice: bool,
    locator: Locator,
    /// Items whose rest is still to come.
    carried: BySlot<Vec<u8>>,
    /// What the server calls its connections, if a notice about oneself is an answer.
    sessions: BySlot<Box<str>>,
}

impl<S: Scenario> Dialogue<S> {
    pub(crate) fn new(scenario: S, driver: Arc<dyn Driver>) -> Self {
        Self {
            scenario,
            framing: driver.framing(),
            answers_by_notice: driver.answers_by_notice(),
            driver,
            locator: Locator::new(),
            carried: HashMap::default(),
            sessions: HashMap::default(),
        }
    }

    #[inline]
    fn on_item(&mut self, net: &mut Net, slot: Slot, item: &[u8], now: u64) {
        match self.locator.find(item) {
            Some(at) => self.scenario.on_publication(net, slot, &item[at..], now),
            None => self.on_reply(net, slot, item, now),
        }
    }

    fn on_reply(&mut self, net: &mut Net, slot: Slot, item: &[u8], now: u64) {
        let item = std::str::from_utf8(item).unwrap_or_default();
        let mut reply = self.driver.read(item);
        match reply {
            Reply::Prompt { answer } => return net.send(slot, answer),
            Reply::Welcome { session } if self.answers_by_notice => {
                self.sessions.insert(slot, session.into());
            }
            Reply::Notice { session, .. }
                if self.sessions.get(&slot).is_some_and(|own| **own == *session) =>
            {
                reply = Reply::Done(None);
            }
            _ => {}
        }
        self.scenario.on_reply(net, slot, reply, now);
    }

    /// Hands out the whole items of a stream and keeps what is left for the next message.
    fn on_stream(
        &mut self,
        net: &mut Net,
        (slot, message): (Slot, &[u8]),
        first_item: fn(&[u8]) -> Option<usize>,
        now: u64,
    ) {
        let carried = if self.carried.is_empty() { None } else { self.carried.remove(&slot) };
        let joined = carried.map(|mut carried| {
            carried.extend_from_slice(message);
            carried
        });
        let mut rest = joined.as_deref().unwrap_or(message);
        while let Some(len) = first_item(rest) {
            let (item, behind) = rest.split_at(len);
            self.on_item(net, slot, item, now);
            rest = behind;
        }
        if rest.len() > MAX_CARRIED_BYTES {
            self.scenario.on_reply(net, slot, Reply::Unknown, now);
        } else if !rest.is_empty() {
            self.carried.insert(slot, rest.to_vec());
        }
    }
}

impl<S: Scenario> Handler for Dialogue<S> {
    fn on_open(&mut self, net: &mut Net, slot: Slot) {
        self.carried.remove(&slot);
        match self.driver.opened() {
            Opened::Awaiting => {}
            Opened::Greeting(greeting) => net.send(slot, greeting),
            Opened::Ready => self.scenario.on_reply(net, slot, Reply::Welcome { session: "" }, now_ns()),
            Opened::Joined => self.scenario.on_reply(net, slot, Reply::Done(None), now_ns()),
        }
    }

    #[inline]
    fn on_message(&mut self, net: &mut Net, slot: Slot, message: &[u8], now: u64) {
        match self.framing {
            Framing::Message => self.on_item(net, slot, message, now),
            Framing::Lines => {
                for line in message.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    self.on_item(net, slot, line, now);
                }
            }
            Framing::Stream(first_item) => self.on_stream(net, (slot, message), first_item, now),
        }
    }

    fn on_closed(&mut self, net: &mut Net, slot: Slot, closed: Closed) {
        self.scenario.on_closed(net, slot, closed);
    }
}

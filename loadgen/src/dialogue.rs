//! Between one worker's frames and its scenario: greets, answers what the server wants answered, divides
//! messages into items, and remembers for the driver what a connection cannot be understood without.
//!
//! ```text
//!  net ──▶ message ──▶ items ──▶ with a stamp: on_publication ──▶ scenario
//!   ▲                        └─▶ without: driver.read ─▶ on_reply ──┘
//!   └── greeting, answers
//! ```

use std::{collections::HashMap, sync::Arc};

use memchr::memmem;
use serde_json::value::RawValue;

use crate::{
    clock::now_ns,
    drivers::{Driver, Framing, Opened, Reply},
    net::{Closed, Handler, Net, Slot},
    scenario::Scenario,
    stamp::{Locator, MAGIC},
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
            Reply::Welcome { session, .. } if self.answers_by_notice => {
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

    /// Hands out the publications of a list, each with what follows it.
    fn on_list(&mut self, net: &mut Net, slot: Slot, message: &[u8], now: u64) {
        let Some(mut at) = self.locator.find(message) else {
            return self.on_notices(net, slot, message, now);
        };
        loop {
            self.scenario.on_publication(net, slot, &message[at..], now);
            at += MAGIC.len();
            match memmem::find(&message[at..], &MAGIC) {
                Some(next) => at += next,
                None => return,
            }
        }
    }

    /// Hands out the items of a list that has no publications, or what is no list.
    fn on_notices(&mut self, net: &mut Net, slot: Slot, message: &[u8], now: u64) {
        match serde_json::from_slice::<Vec<&RawValue>>(message) {
            Ok(items) if !items.is_empty() => {
                items.iter().for_each(|item| self.on_reply(net, slot, item.get().as_bytes(), now));
            }
            _ => self.on_reply(net, slot, message, now),
        }
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
        let opened = match net.is_ready(slot) {
            Some(true) => Opened::Ready,
            Some(false) => Opened::Awaiting,
            None => self.driver.opened(),
        };
        match opened {
            Opened::Awaiting => {}
            Opened::Greeting(greeting) => net.send(slot, greeting),
            Opened::Ready => {
                let session = net.session(slot).unwrap_or_default().to_owned();
                self.scenario.on_reply(net, slot, Reply::welcome(&session), now_ns());
            }
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
            Framing::List => self.on_list(net, slot, message, now),
            Framing::Stream(first_item) => self.on_stream(net, (slot, message), first_item, now),
        }
    }

    fn on_pong(&mut self, slot: Slot) {
        self.scenario.on_pong(slot);
    }

    fn on_closed(&mut self, net: &mut Net, slot: Slot, closed: Closed) {
        self.scenario.on_closed(net, slot, closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::Stage,
        drivers::{self, Echo},
        net::{Access, Target, Wait},
        plan::DriverPlan,
        scenario::Seat,
        stamp::{Stamp, put_payload, read_payload},
        tally::Tally,
    };

    /// Writes down what it is told.
    #[derive(Default)]
    struct Scribe {
        heard: Vec<(Slot, String)>,
    }

    impl Scenario for Scribe {
        fn seat(&self) -> &Seat {
            panic!("nobody asks")
        }

        fn on_turn(&mut self, _: &mut Net, _: Stage) -> Wait {
            Wait::Rest
        }

        fn on_publication(&mut self, _: &mut Net, slot: Slot, stamped: &[u8], _: u64) {
            let heard = read_payload(stamped).map_or("corrupt".into(), |stamp| stamp.sequence.to_string());
            self.heard.push((slot, heard));
        }

        fn on_reply(&mut self, _: &mut Net, slot: Slot, reply: Reply<'_>, _: u64) {
            self.heard.push((slot, format!("{reply:?}")));
        }

        fn on_closed(&mut self, _: &mut Net, _: Slot, _: Closed) {}

        fn tally(&self) -> &Tally {
            panic!("nobody asks")
        }

        fn finish(self) -> Tally {
            Tally::new(0)
        }
    }

    fn dialogue(name: &str) -> (Dialogue<Scribe>, Net) {
        let plan = DriverPlan { name: name.into(), secret: "s".into(), ..DriverPlan::default() };
        let driver = drivers::new(&plan, Echo::Off).expect("a driver");
        let address = "127.0.0.1:1".parse().expect("an address");
        let target = Target { address, host: String::new(), tls: None, sources: 0..0, parallel: 1 };
        let mut net = Net::new(target, 1).expect("a poll");
        (0..2).for_each(|slot| net.open(slot, Access::web_socket("/")));
        (Dialogue::new(Scribe::default(), driver), net)
    }

    fn payload(sequence: u32) -> String {
        let mut out = Vec::new();
        put_payload(&mut out, Stamp { length: 64, run: 1, publisher: 2, sequence, due_ns: 3 });
        String::from_utf8(out).expect("letters")
    }

    #[test]
    fn stream_that_is_cut_anywhere_is_put_together_for_each_connection() {
        let stream =
            format!("PONG\r\nMSG c 1 64\r\n{}\r\nMSG c 1 64\r\n{}\r\nPONG\r\n", payload(7), payload(8));
        let expected = ["Done(None)", "7", "8", "Done(None)"];
        for cut in 0..=stream.len() {
            let (mut dialogue, mut net) = dialogue("nats");
            let (first, second) = stream.as_bytes().split_at(cut);
            for (slot, part) in [(0, first), (1, stream.as_bytes()), (0, second)] {
                dialogue.on_message(&mut net, slot, part, 0);
            }
            for slot in [0, 1] {
                let heard: Vec<_> = dialogue
                    .scenario
                    .heard
                    .iter()
                    .filter(|(of, _)| *of == slot)
                    .map(|(_, what)| what)
                    .collect();
                assert_eq!(heard, expected, "cut at {cut}");
            }
            assert!(dialogue.carried.is_empty());
        }
    }

    #[test]
    fn lines_of_a_message_are_items() {
        let (mut dialogue, mut net) = dialogue("centrifugo");
        let push =
            |sequence| format!(r#"{{"push":{{"channel":"c","pub":{{"data":{}}}}}}}"#, payload(sequence));
        let message = format!("{}\n{{}}\n{{\"id\":2,\"subscribe\":{{}}}}\n{}", push(1), push(2));
        dialogue.on_message(&mut net, 0, message.as_bytes(), 0);
        let heard: Vec<_> = dialogue.scenario.heard.iter().map(|(_, what)| what.as_str()).collect();
        assert_eq!(heard, ["1", "Done(None)", "2"]);
    }

    #[test]
    fn publications_of_a_list_are_items() {
        let (mut dialogue, mut net) = dialogue("channelstream");
        let message =
            |sequence| format!(r#"{{"channel":"c","message":{{"m":{}}},"edited":null}}"#, payload(sequence));
        for text in ["[]".into(), format!("[{}]", message(1)), format!("[{},{}]", message(2), message(3))] {
            dialogue.on_message(&mut net, 0, text.as_bytes(), 0);
        }
        let heard: Vec<_> = dialogue.scenario.heard.iter().map(|(_, what)| what.as_str()).collect();
        assert_eq!(heard, ["Other", "1", "2", "3"]);
    }

    #[test]
    fn notice_about_oneself_is_the_answer_where_there_is_no_other() {
        let (mut dialogue, mut net) = dialogue("socketio");
        for (slot, text) in [
            (0, r#"40{"sid":"A"}"#),
            (1, r#"40{"sid":"B"}"#),
            (0, r#"42["channel:join",{"channel":"c","message":{"id":"A"}}]"#),
            (0, r#"42["channel:join",{"channel":"c","message":{"id":"B"}}]"#),
        ] {
            dialogue.on_message(&mut net, slot, text.as_bytes(), 0);
        }
        let heard: Vec<_> = dialogue.scenario.heard.iter().map(|(_, what)| what.as_str()).collect();
        assert_eq!(heard[2], "Done(None)");
        assert!(heard[3].starts_with("Notice"), "{heard:?}");
    }
}

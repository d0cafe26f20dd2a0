//! A Channelstream client that polls: the queue for its next poll, and the times at which a held poll is
//! answered.
//!
//! ```text
//!   poll ─▶ held ──nothing for 5 s──────────────────────────────────▶ []
//!             └──something─▶ gathering ──nothing more for 0.25 s────▶ […]
//!   no poll for 15 s ─▶ the client is gone
//! ```
//!
//! Output that comes while no poll is held waits for the next poll, and is marked as caught up. A poll is
//! answered after at most 5 s, whatever comes.

use bytes::{BufMut, Bytes, BytesMut};

use super::tree::{Json, Members};
use crate::{
    dialect::{PollAnswer, PollEffect},
    disconnect::Disconnect,
};

/// How long a poll waits for a first element, in milliseconds.
const WAKE_MS: u64 = 5_000;
/// How long a poll waits for further elements, in milliseconds.
const GATHER_MS: u64 = 250;
/// How long a client without a poll is kept, in milliseconds.
const SILENCE_MS: u64 = 15_000;
/// A poll with so many bytes to answer is answered at once.
const ENOUGH_BYTES: usize = 64 << 10;

/// The end of a message, and its end for a client that was absent. All messages end in this way.
const LIVE_MESSAGE: &[u8] = b",\"catchup\":false,\"type\":\"message\"}\n";
const CAUGHT_UP_MESSAGE: &[u8] = b",\"catchup\":true,\"type\":\"message\"}\n";

/// The form in which a client wants the answer to its poll.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Listening {
    /// The JavaScript function that the answer calls, if the answer is a script.
    pub callback: Option<Box<str>>,
    /// The headers of the answer.
    pub headers: &'static [(&'static str, &'static str)],
}

impl Listening {
    /// The answer without elements.
    pub fn nothing(&self) -> PollAnswer {
        self.answer(&[])
    }

    fn answer(&self, elements: &[u8]) -> PollAnswer {
        let mut body = BytesMut::with_capacity(elements.len() + 2);
        if let Some(callback) = &self.callback {
            body.put_slice(callback.as_bytes());
            body.put_u8(b'(');
        }
        body.put_u8(b'[');
        let elements = elements.strip_suffix(b"\n").unwrap_or(elements);
        body.extend(elements.iter().map(|byte| if *byte == b'\n' { b',' } else { *byte }));
        body.put_u8(b']');
        if self.callback.is_some() {
            body.put_u8(b')');
        }
        PollAnswer { status: 200, headers: self.headers, body: body.freeze() }
    }
}

/// Whether a text is the name of a JavaScript function: letters, digits, `_` and `$`, with dots between
/// names.
pub fn is_callback(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$".contains(&byte))
    };
    text.len() <= 128 && text.split('.').all(is_name)
}

/// The state of a client that polls; see the module's description.
pub(in crate::dialect) struct Polled {
    held: Option<Poll>,
    /// The elements that wait, one on each line.
    waiting: BytesMut,
    /// When the last element came, or the last poll was answered.
    last_ms: u64,
    /// Whether elements have come since [`Polled::handle_output`].
    is_fresh: bool,
    answers: bool,
    /// The reason of the client's end, until the shell has taken it.
    ended: Option<Disconnect>,
    is_over: bool,
}

struct Poll {
    listening: Listening,
    began_ms: u64,
}

impl Polled {
    pub(in crate::dialect) fn new(now_ms: u64) -> Self {
        let (waiting, ended) = (BytesMut::new(), None);
        Self { held: None, waiting, last_ms: now_ms, is_fresh: false, answers: false, ended, is_over: false }
    }

    /// Appends elements, each with the end of its line. Returns how many bytes wait.
    pub(in crate::dialect) fn queue(&mut self, bytes: &[u8]) -> usize {
        match self.held.is_some() {
            true => self.waiting.extend_from_slice(bytes),
            false => bytes.split_inclusive(|byte| *byte == b'\n').for_each(|line| self.keep(line)),
        }
        self.is_fresh = true;
        if self.waiting.len() >= ENOUGH_BYTES {
            self.answer();
        }
        self.waiting.len()
    }

    /// Notes that the queued elements came at `now_ms`.
    pub(in crate::dialect) fn handle_output(&mut self, now_ms: u64) {
        if std::mem::take(&mut self.is_fresh) && self.held.is_some() {
            self.last_ms = now_ms;
        }
    }

    /// Keeps an element for a client without a held poll, marked as caught up.
    fn keep(&mut self, line: &[u8]) {
        if let Some(message) = line.strip_suffix(LIVE_MESSAGE) {
            self.waiting.extend_from_slice(message);
            return self.waiting.extend_from_slice(CAUGHT_UP_MESSAGE);
        }
        let Some(Json::Object(mut element)) = Json::parse(line) else { return };
        Members::set(&mut element, "catchup", true);
        self.waiting.extend_from_slice(Json::Object(element).compact().as_bytes());
        self.waiting.put_u8(b'\n');
    }

    pub(in crate::dialect) fn queued_bytes(&self) -> usize {
        self.waiting.len()
    }

    /// Holds a poll. Returns the answer to the poll that was held before.
    pub(in crate::dialect) fn handle_listen(
        &mut self,
        listening: Listening,
        now_ms: u64,
    ) -> Option<PollAnswer> {
        let before = self.held.replace(Poll { listening, began_ms: now_ms });
        self.last_ms = now_ms;
        self.answers = false;
        before.map(|poll| poll.listening.nothing())
    }

    /// The answer to the held poll.
    pub(in crate::dialect) fn take_answer(&mut self) -> PollAnswer {
        let elements = std::mem::take(&mut self.waiting);
        match self.held.take() {
            Some(poll) => poll.listening.answer(&elements),
            None => PollAnswer { status: 200, headers: &[], body: Bytes::from_static(b"[]") },
        }
    }

    /// Handles the loss of the held poll's connection. The elements wait for the next poll.
    pub(in crate::dialect) fn handle_cut(&mut self) {
        self.held = None;
    }

    pub(in crate::dialect) fn handle_timeout(&mut self, now_ms: u64) {
        self.handle_output(now_ms);
        if self.due_ms() > now_ms {
            return;
        }
        match self.held {
            Some(_) => {
                self.last_ms = now_ms;
                self.answer();
            }
            None => self.end(Disconnect::PingTimeout),
        }
    }

    fn due_ms(&self) -> u64 {
        match &self.held {
            None => self.last_ms + SILENCE_MS,
            Some(poll) if self.waiting.is_empty() => poll.began_ms + WAKE_MS,
            Some(poll) => (self.last_ms + GATHER_MS).min(poll.began_ms + WAKE_MS),
        }
    }

    /// When [`Polled::handle_timeout`] has to be called next.
    pub(in crate::dialect) fn deadline_ms(&self) -> Option<u64> {
        (!self.is_over).then(|| self.due_ms())
    }

    /// Ends the client for the server. A held poll is answered with the elements that wait.
    pub(in crate::dialect) fn close(&mut self) {
        self.answer();
        self.end(Disconnect::ByServer { reconnect: true });
    }

    fn answer(&mut self) {
        self.answers = self.held.is_some();
    }

    fn end(&mut self, why: Disconnect) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.ended = Some(why);
        }
    }

    pub(in crate::dialect) fn poll_effect(&mut self) -> Option<PollEffect> {
        if std::mem::take(&mut self.answers) {
            return Some(PollEffect::AnswerPoll);
        }
        // The held poll is answered before the client ends.
        self.ended.take().map(PollEffect::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Listening = Listening { callback: None, headers: &[] };

    fn body(answer: &PollAnswer) -> &str {
        std::str::from_utf8(&answer.body).expect("it is text")
    }

    #[test]
    fn a_poll_waits_for_something_and_then_for_more() {
        let mut polled = Polled::new(0);
        assert_eq!(polled.handle_listen(PLAIN, 1_000), None);
        assert_eq!((polled.poll_effect(), polled.deadline_ms()), (None, Some(6_000)));
        polled.queue(b"{\"a\":1}\n");
        polled.handle_output(2_000);
        assert_eq!(polled.deadline_ms(), Some(2_250));
        polled.queue(b"{\"b\":2}\n");
        polled.handle_output(2_200);
        polled.handle_timeout(2_449);
        assert_eq!((polled.poll_effect(), polled.deadline_ms()), (None, Some(2_450)));
        polled.handle_timeout(2_450);
        assert_eq!(polled.poll_effect(), Some(PollEffect::AnswerPoll));
        assert_eq!(body(&polled.take_answer()), "[{\"a\":1},{\"b\":2}]");
        assert_eq!((polled.poll_effect(), polled.deadline_ms()), (None, Some(17_450)));
    }

    #[test]
    fn a_poll_is_answered_after_five_seconds_however_much_comes() {
        let mut polled = Polled::new(0);
        polled.handle_listen(PLAIN, 0);
        for now_ms in (0..5_000).step_by(100) {
            polled.queue(b"{}\n");
            polled.handle_output(now_ms);
            polled.handle_timeout(now_ms);
            assert_eq!(polled.poll_effect(), None);
        }
        polled.handle_timeout(5_000);
        assert_eq!(polled.poll_effect(), Some(PollEffect::AnswerPoll));
        polled.take_answer();
        polled.handle_listen(PLAIN, 5_100);
        polled.handle_timeout(10_100);
        assert_eq!(polled.poll_effect(), Some(PollEffect::AnswerPoll));
        assert_eq!(body(&polled.take_answer()), "[]");
        polled.handle_listen(PLAIN, 10_200);
        let long = format!("\"{}\"\n", "x".repeat(ENOUGH_BYTES));
        polled.queue(long.as_bytes());
        assert_eq!(polled.poll_effect(), Some(PollEffect::AnswerPoll), "that is enough");
    }

    #[test]
    fn what_comes_between_two_polls_is_marked() {
        let mut polled = Polled::new(0);
        polled.queue(b"{\"message\":{\"catchup\":false},\"catchup\":false}\n{\"type\":\"message:delete\"}\n");
        polled.queue(b"{\"a\":1,\"catchup\":false,\"type\":\"message\"}\n");
        polled.handle_listen(PLAIN, 100);
        polled.queue(b"{\"catchup\":false}\n");
        polled.handle_output(100);
        polled.handle_timeout(400);
        assert_eq!(polled.poll_effect(), Some(PollEffect::AnswerPoll));
        let expected = "[{\"message\":{\"catchup\":false},\"catchup\":true},\
                        {\"type\":\"message:delete\",\"catchup\":true},\
                        {\"a\":1,\"catchup\":true,\"type\":\"message\"},{\"catchup\":false}]";
        assert_eq!(body(&polled.take_answer()), expected);
    }

    #[test]
    fn a_second_poll_takes_the_place_of_the_first() {
        let mut polled = Polled::new(0);
        let script = Listening { callback: Some("a.b".into()), headers: &[] };
        polled.handle_listen(script.clone(), 0);
        let first = polled.handle_listen(script, 100).expect("one was held");
        assert_eq!(body(&first), "a.b([])");
        assert_eq!(polled.deadline_ms(), Some(5_100));
        polled.handle_cut();
        assert_eq!(polled.deadline_ms(), Some(15_100));
    }

    #[test]
    fn a_client_that_polls_no_more_is_gone_and_one_that_is_sent_away_is_answered_first() {
        let mut polled = Polled::new(0);
        polled.handle_timeout(14_999);
        assert_eq!(polled.poll_effect(), None);
        polled.handle_timeout(15_000);
        assert_eq!(polled.poll_effect(), Some(PollEffect::Ended(Disconnect::PingTimeout)));
        assert_eq!((polled.poll_effect(), polled.deadline_ms()), (None, None));
        let mut polled = Polled::new(0);
        polled.handle_listen(PLAIN, 0);
        polled.close();
        assert_eq!(polled.poll_effect(), Some(PollEffect::AnswerPoll));
        assert!(matches!(polled.poll_effect(), Some(PollEffect::Ended(_))));
    }

    #[test]
    fn a_callback_is_a_name_and_no_code() {
        for name in ["f", "jQuery123.cb", "$._a1"] {
            assert!(is_callback(name), "{name}");
        }
        for code in ["", ".", "a.", "alert(1)//", "a b", "a;b", "<script>", &"x".repeat(200)] {
            assert!(!is_callback(code), "{code}");
        }
    }
}

//! What the tests of several dialects share: an engine alone, its sessions, and what each of them receives.

use std::{mem, sync::Arc};

use crate::{
    app::{App, Apps},
    dialect::Format,
    engine::{Engine, Flow, Node, Opening, Segments, Sink},
    id::{AppId, SessionSlot, WorkerId},
    token::Claims,
    ws::{DecodeLimits, Decoder, Message, Role},
};

/// What each connection received, in order.
#[derive(Default)]
struct Inbox(Vec<Vec<u8>>);

impl Sink for Inbox {
    fn write(&mut self, connection: u32, parts: Segments<'_>) -> usize {
        for (buffer, range) in parts {
            self.0[connection as usize].extend_from_slice(&buffer[range]);
        }
        0
    }
}

/// An engine with one app, and its sessions by the order in which they were opened.
pub(super) struct Room {
    pub(super) engine: Engine,
    pub(super) slots: Vec<SessionSlot>,
    pub(super) ids: Vec<String>,
    formats: Vec<Format>,
    inbox: Inbox,
}

impl Room {
    /// A room without sessions.
    pub(super) fn of(app: App) -> Self {
        let node = Node::new(Apps::new(vec![app]).expect("one app"), 1, 1 << 16, 7);
        let engine = Engine::new(WorkerId(0), Arc::new(node), 7);
        Self { engine, slots: Vec::new(), ids: Vec::new(), formats: Vec::new(), inbox: Inbox::default() }
    }

    /// Opens a session. Returns its place.
    pub(super) fn open(&mut self, format: Format, echo: Option<bool>, claims: Option<Claims>) -> usize {
        let app = self.engine.node().app(AppId(0)).clone();
        let session = self.slots.len();
        let connection = u32::try_from(session).expect("they are few");
        let opening = Opening { app: &app, format, echo, claims, connection, ticket: None };
        let slot = self.engine.open(opening, |_| {}, |_, _, _| {}).expect("there is room");
        self.slots.push(slot);
        self.ids.push(self.engine.session_id(slot).to_string());
        self.formats.push(format);
        self.inbox.0.push(Vec::new());
        session
    }

    /// Sends what is handled at once.
    pub(super) fn send(&mut self, session: usize, text: &str) {
        let flow = self.engine.receive(self.slots[session], Message::Text(text));
        assert_eq!(flow, Flow::Continue, "an engine alone never waits");
    }

    /// Sends what may be read in a channel's order, whose result comes by mail.
    pub(super) fn send_and_wait(&mut self, session: usize, text: &str) {
        if self.engine.receive(self.slots[session], Message::Text(text)) == Flow::Pause {
            self.engine.on_mail();
            assert_eq!(self.engine.take_unpaused().len(), 1, "an engine alone waits for nobody else");
        }
    }

    pub(super) fn flush(&mut self) {
        self.engine.on_mail();
        self.engine.flush(&mut self.inbox);
    }

    /// What a session has received since the last time, message by message.
    pub(super) fn received(&mut self, session: usize) -> Vec<String> {
        self.flush();
        let bytes = mem::take(&mut self.inbox.0[session]);
        match self.formats[session] {
            Format::ProbePoll => {
                let text = String::from_utf8(bytes).expect("packets are text");
                text.split_terminator(';').map(Into::into).collect()
            }
            _ => frames(&bytes),
        }
    }

    /// Drops what all sessions have received.
    pub(super) fn forget(&mut self) {
        (0..self.slots.len()).for_each(|session| drop(self.received(session)));
    }
}

/// What the token of a user says that claims no channels and does not end.
pub(super) fn claims(user: &str, profile: Option<&str>) -> Claims {
    Claims {
        user: user.into(),
        expires_at: None,
        profile: profile.map(Into::into),
        channels: Vec::new(),
        id: None,
    }
}

/// The messages of WebSocket frames: texts, and bytes in brackets.
pub(super) fn frames(bytes: &[u8]) -> Vec<String> {
    const LIMITS: DecodeLimits = DecodeLimits { message_bytes: 1 << 20, fragments: 1 };
    let (mut decoder, mut input) = (Decoder::new(), bytes.to_vec());
    let (mut at, mut texts) = (0, Vec::new());
    loop {
        let decoded = decoder.decode(&mut input[at..], Role::Client, LIMITS).expect("frames are well-formed");
        at += decoded.consumed;
        match decoded.message {
            Some(Message::Text(text)) => texts.push(text.into()),
            Some(Message::Binary(bytes)) => texts.push(format!("{bytes:?}")),
            Some(Message::Close(frame)) => texts.push(format!("close {:?}", frame.map(|frame| frame.code))),
            Some(other) => panic!("{other:?} was not sent"),
            None => return texts,
        }
    }
}

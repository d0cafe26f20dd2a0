//! The door from a worker to what the messages of its WebSockets mean.

use fanfare_core::{
    engine::{Engine, Flow},
    id::SessionSlot,
    ws::{Message, Messages},
};

/// What the messages of a connection mean: Fanfare's commands ([`MessageHandler::COMMANDS`]), or what the
/// conformance example makes of them. Plain functions, so that nothing of the worker is generic for the
/// example's sake.
#[derive(Copy, Clone, Debug)]
pub struct MessageHandler {
    /// Whether a new session is welcomed.
    pub greeting: Greeting,
    /// Handles whole messages of one read, in order. Messages that are not taken when it pauses or yields are
    /// handed over later.
    pub on_messages: fn(&mut Engine, SessionSlot, &mut Messages<'_>) -> Flow,
    /// Handles one message that came in several reads or fragments.
    pub on_message: fn(&mut Engine, SessionSlot, Message<'_>) -> Flow,
}

/// Whether a new session is welcomed.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Greeting {
    /// The session's first message is the welcome.
    Welcome,
    /// The session's first message is an answer.
    Silence,
}

impl MessageHandler {
    /// Messages are commands.
    pub const COMMANDS: Self = Self {
        greeting: Greeting::Welcome,
        on_messages: |engine, session, messages| engine.receive_all(session, messages),
        on_message: |engine, session, message| engine.receive(session, message),
    };
}

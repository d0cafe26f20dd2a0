//! The state that a worker keeps for each session of this dialect, and the packets of a session's messages.

use std::{borrow::Cow, sync::Arc};

use hashbrown::HashMap;

use super::{
    Carried,
    event::{Event, EventReader},
};
use crate::{
    command::{Command, Publish},
    dialect::TemplateMatch,
    disconnect::Disconnect,
    error::ReplyError,
    id::SessionSlot,
    socketio::{Config, Connection, Incoming, MAIN_NAMESPACE},
    ws::Message,
};

/// The head of an event of the main namespace without attachments and without acknowledgement.
const PLAIN_EVENT: &str = "42";

const BROKEN: Packet<'static> = Packet::End(Disconnect::BrokenDialect);

/// The Agnost sessions of a worker.
#[derive(Default)]
pub(in crate::dialect) struct Sessions {
    open: HashMap<SessionSlot, Connection, foldhash::fast::RandomState>,
    config: Arc<Config>,
    reader: EventReader,
}

/// The content of one message.
#[derive(Clone, Debug)]
pub enum Packet<'a> {
    /// The message is a heartbeat, or came after the session's end.
    Nothing,
    /// An event.
    Event(Event<'a>),
    /// The client asks for a namespace other than the main one. No other namespace exists.
    Namespace(&'a str),
    /// The session ends: its client has left or has broken the protocol.
    End(Disconnect),
}

/// An event with attachments whose command is held. The bytes of its messages are gone.
pub(in crate::dialect) struct KeptEvent(Event<'static>);

impl KeptEvent {
    /// The packet of the event.
    pub(in crate::dialect) fn packet(&self) -> Packet<'static> {
        Packet::Event(self.0.clone())
    }
}

impl Sessions {
    /// Begins a session, whose client is in the main namespace.
    pub(in crate::dialect) fn begin(&mut self, slot: SessionSlot) {
        let mut connection = Connection::new(self.config.clone(), 0);
        let connected = connection.handle_text("0", 0).is_ok() && connection.accept(MAIN_NAMESPACE).is_ok();
        debug_assert!(connected, "a new connection is in no namespace");
        self.open.insert(slot, connection);
    }

    /// Forgets a session that has ended.
    pub(in crate::dialect) fn end(&mut self, slot: SessionSlot) {
        self.open.remove(&slot);
    }

    /// Whether a session's next message is the last message event again, with another channel or message.
    #[inline]
    pub(in crate::dialect) fn match_template<'a>(
        &self,
        slot: SessionSlot,
        text: &'a str,
    ) -> Option<TemplateMatch<'a>> {
        let repeated = self.reader.match_template(text.strip_prefix(PLAIN_EVENT)?)?;
        let connection = self.open.get(&slot)?;
        (!connection.awaits_attachments()).then_some(repeated)
    }

    /// The last message event with another channel and message.
    #[inline]
    pub(in crate::dialect) fn publish_from<'a>(&'a self, repeated: TemplateMatch<'a>) -> Publish<'a> {
        self.reader.publish_from(repeated)
    }

    /// Reads a session's next message.
    pub(in crate::dialect) fn read<'a>(
        &mut self,
        slot: SessionSlot,
        message: Message<'a>,
    ) -> Result<Packet<'a>, ReplyError> {
        let Some(connection) = self.open.get_mut(&slot) else { return Ok(Packet::Nothing) };
        let packet = match message {
            Message::Binary(bytes) => Self::advance_binary(connection, &mut self.reader, bytes),
            Message::Text(text) => Self::advance(connection, &mut self.reader, text),
            _ => Ok(Packet::Nothing),
        };
        if let Ok(Packet::End(_)) = packet {
            self.open.remove(&slot);
        }
        packet
    }

    /// Reads the text of a held command again. Only events are held, and those with attachments are held as
    /// [`KeptEvent`].
    pub(in crate::dialect) fn read_again<'a>(
        &mut self,
        message: Message<'a>,
    ) -> Result<Packet<'a>, ReplyError> {
        match message {
            Message::Text(text) => self.read_event(text),
            _ => Ok(Packet::Nothing),
        }
    }

    /// Reads a text that is known to be an event.
    pub(in crate::dialect) fn read_event<'a>(&mut self, text: &'a str) -> Result<Packet<'a>, ReplyError> {
        let Some(text) = text.strip_prefix('4') else { return Ok(Packet::Nothing) };
        match crate::socketio::Packet::decode(text, self.config.limits) {
            Ok(packet) => self.reader.read(packet.payload).map(Packet::Event),
            Err(_) => Ok(Packet::Nothing),
        }
    }

    fn advance<'a>(
        connection: &mut Connection,
        reader: &mut EventReader,
        text: &'a str,
    ) -> Result<Packet<'a>, ReplyError> {
        let text = match Carried::by(text) {
            Carried::Packet(text) => text,
            Carried::Close => return Ok(Packet::End(Disconnect::PeerGone)),
            Carried::Nothing => return Ok(Packet::Nothing),
            Carried::Broken => return Ok(BROKEN),
        };
        match connection.handle_text(text, 0) {
            Ok(Some(Incoming::Event { payload, .. })) => match payload.json {
                Cow::Borrowed(json) => reader.read(json).map(Packet::Event),
                Cow::Owned(_) => Err(ReplyError::InvalidBinary),
            },
            Ok(Some(Incoming::Disconnect { namespace: MAIN_NAMESPACE })) => {
                Ok(Packet::End(Disconnect::PeerGone))
            }
            Ok(Some(Incoming::Connect { namespace, .. })) => {
                connection.disconnect(namespace);
                Ok(Packet::Namespace(namespace))
            }
            Ok(
                None | Some(Incoming::Disconnect { .. } | Incoming::Ack { .. } | Incoming::StrayAck { .. }),
            ) => Ok(Packet::Nothing),
            Err(_) => Ok(BROKEN),
        }
    }

    fn advance_binary(
        connection: &mut Connection,
        reader: &mut EventReader,
        bytes: &[u8],
    ) -> Result<Packet<'static>, ReplyError> {
        match connection.handle_binary(bytes.into(), 0) {
            Ok(Some(Incoming::Event { payload, .. })) => reader.read_binary(&payload).map(Packet::Event),
            Ok(_) => Ok(Packet::Nothing),
            Err(_) => Ok(BROKEN),
        }
    }
}

impl<'a> Packet<'a> {
    /// Keeps an event that came with attachments.
    pub(in crate::dialect) fn keep(&self) -> Option<KeptEvent> {
        match self {
            Self::Event(event) => Some(KeptEvent(event.clone().into_owned())),
            _ => None,
        }
    }

    /// The number of commands in the packet.
    pub(in crate::dialect) fn len(&self) -> usize {
        usize::from(!matches!(self, Self::Nothing))
    }

    /// The namespace that an answer names. An event has no answer.
    pub(in crate::dialect) fn id(&self) -> Option<&'a str> {
        match self {
            Self::Namespace(namespace) => Some(namespace),
            Self::Nothing | Self::Event(_) | Self::End(_) => None,
        }
    }

    /// The packet as a command.
    pub(in crate::dialect) fn command(&self) -> Result<Command<'_>, ReplyError> {
        match self {
            Self::Event(event) => Ok(event.command()),
            Self::End(why) => Ok(Command::End { why: *why }),
            Self::Nothing | Self::Namespace(_) => Err(ReplyError::UnknownCommand),
        }
    }
}

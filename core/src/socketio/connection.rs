//! One connection: which namespaces its peer is in, which attachments and acknowledgements are awaited.
//!
//! ```text
//!             CONNECT                 accept
//!   nothing ───────────▶ Requested ──────────────▶ Connected
//!      ▲                   │ refuse                    │ DISCONNECT of either side
//!      └───────────────────┴───────────────────────────┘
//!
//!   a packet for a namespace that the peer is not connected to, or a second CONNECT, closes the connection
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use super::acks::Acks;
use super::namespaces::{NamespaceState, Namespaces};
use super::partial::Partial;
use super::{
    AckId, Config, NotRequested, Packet, PacketType, Payload, PayloadCheck, ProtocolError, TooManyAcks,
    check_payload,
};
use crate::engineio::Message;

/// The state of one peer, above its Engine.IO session.
///
/// ```
/// use std::sync::Arc;
/// use bytes::BytesMut;
/// use fanfare_core::engineio::Framing;
/// use fanfare_core::socketio::{Config, Connection, Incoming, put_connect};
///
/// let mut connection = Connection::new(Arc::new(Config::default()), 0);
/// let incoming = connection.handle_text("0{\"token\":\"123\"}", 5)?;
/// let Some(Incoming::Connect { namespace, auth: Some(_) }) = incoming else { panic!() };
/// connection.accept(namespace)?;
/// let mut out = BytesMut::new();
/// put_connect(&mut out, Framing::Frames, namespace, "wZX3oN0bSVIhsaknAAAI");
///
/// let incoming = connection.handle_text("2[\"hey\",\"Jude\"]", 9)?;
/// let Some(Incoming::Event { payload, .. }) = incoming else { panic!() };
/// assert_eq!(payload.json, "[\"hey\",\"Jude\"]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    namespaces: Namespaces,
    /// Until a first namespace is connected to.
    connect_until_ms: Option<u64>,
    /// The packet whose attachments are arriving.
    partial: Option<Box<Partial>>,
    acks: Option<Box<Acks>>,
}

/// What a peer has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// The peer asks for a namespace. To be answered by [`Connection::accept`] and
    /// [`put_connect`](super::put_connect), or by [`Connection::refuse`] and
    /// [`put_connect_error`](super::put_connect_error).
    Connect {
        /// The namespace; it may be one that does not exist.
        namespace: &'a str,
        /// A JSON object, as it was written.
        auth: Option<&'a str>,
    },
    /// The peer has left a namespace. No answer is expected.
    Disconnect {
        /// The namespace.
        namespace: &'a str,
    },
    /// An event.
    Event {
        /// The namespace.
        namespace: Cow<'a, str>,
        /// If given, the peer waits for an acknowledgement of this number: [`put_ack`](super::put_ack).
        ack: Option<AckId>,
        /// An array that begins with the event's name; see [`PayloadCheck`].
        payload: Payload<'a>,
    },
    /// The acknowledgement of an event for which [`Connection::expect_ack`] was called.
    Ack {
        /// The number of the event.
        ack: AckId,
        /// An array.
        payload: Payload<'a>,
    },
    /// An acknowledgement that nobody waits for: of an event whose time was over, or of none. To be counted.
    StrayAck {
        /// The number that it names.
        ack: AckId,
    },
}

impl Connection {
    /// A connection whose Engine.IO session was opened now.
    pub fn new(config: Arc<Config>, now_ms: u64) -> Self {
        Self {
            connect_until_ms: Some(now_ms.saturating_add(config.connect_timeout_ms.into())),
            config,
            namespaces: Namespaces::default(),
            partial: None,
            acks: None,
        }
    }

    /// A message of the Engine.IO session.
    ///
    /// # Errors
    ///
    /// A fault of the peer: the Engine.IO session is to be closed, and the connection dropped.
    #[inline]
    pub fn handle_message<'a>(
        &mut self,
        message: Message<'a>,
        now_ms: u64,
    ) -> Result<Option<Incoming<'a>>, ProtocolError> {
        match message {
            Message::Text(text) => self.handle_text(text, now_ms),
            Message::Binary(bytes) => self.handle_binary(bytes, now_ms),
        }
    }

    /// A message of text: a packet, or its beginning. `None` means that attachments have to follow.
    ///
    /// # Errors
    ///
    /// As [`handle_message`](Self::handle_message).
    #[inline]
    pub fn handle_text<'a>(
        &mut self,
        text: &'a str,
        now_ms: u64,
    ) -> Result<Option<Incoming<'a>>, ProtocolError> {
        if self.partial.is_some() {
            return Err(ProtocolError::AttachmentExpected);
        }
        let packet = Packet::decode(text, self.config.limits)?;
        let is_event = packet.kind == PacketType::Event && packet.attachments == 0;
        if !is_event || self.config.payload_check == PayloadCheck::Connection {
            check_payload(&packet)?;
        }
        let state = self.namespaces.state(packet.namespace);
        if packet.kind == PacketType::Connect {
            return self.request(&packet, state).map(Some);
        }
        if state != Some(NamespaceState::Connected) {
            return Err(ProtocolError::NotConnected);
        }
        if packet.attachments > 0 {
            let deadline_ms = self.attachment_deadline_ms(now_ms);
            self.partial = Some(Box::new(Partial::new(&packet, self.config.limits, deadline_ms)?));
            return Ok(None);
        }
        let payload = Payload { json: Cow::Borrowed(packet.payload), attachments: Vec::new() };
        Ok(Some(match packet.kind {
            PacketType::Event => {
                Incoming::Event { namespace: Cow::Borrowed(packet.namespace), ack: packet.ack, payload }
            }
            PacketType::Disconnect => self.leave(packet.namespace),
            PacketType::Ack => self.settle(packet.namespace, packet.ack, payload)?,
            PacketType::Connect | PacketType::ConnectError => {
                return Err(ProtocolError::ConnectErrorFromPeer);
            }
        }))
    }

    /// A message of bytes: the next attachment. `None` means that more have to follow.
    ///
    /// # Errors
    ///
    /// As [`handle_message`](Self::handle_message).
    pub fn handle_binary(
        &mut self,
        bytes: Cow<'_, [u8]>,
        now_ms: u64,
    ) -> Result<Option<Incoming<'static>>, ProtocolError> {
        let Some(mut partial) = self.partial.take() else { return Err(ProtocolError::UnexpectedBinary) };
        partial.push(bytes, self.attachment_deadline_ms(now_ms))?;
        if !partial.is_complete() {
            self.partial = Some(partial);
            return Ok(None);
        }
        let complete = partial.complete();
        // The server may have closed the namespace since the packet's text came.
        if self.namespaces.state(&complete.namespace) != Some(NamespaceState::Connected) {
            return Err(ProtocolError::NotConnected);
        }
        Ok(Some(match complete.kind {
            PacketType::Ack => self.settle(&complete.namespace, complete.ack, complete.payload)?,
            _ => Incoming::Event {
                namespace: Cow::Owned(complete.namespace.into_string()),
                ack: complete.ack,
                payload: complete.payload,
            },
        }))
    }

    /// Grants the namespace that the peer asks for. The caller sends [`put_connect`](super::put_connect).
    ///
    /// # Errors
    ///
    /// [`NotRequested`].
    pub fn accept(&mut self, namespace: &str) -> Result<(), NotRequested> {
        self.require_requested(namespace)?;
        self.namespaces.connect(namespace);
        self.connect_until_ms = None;
        Ok(())
    }

    /// Refuses the namespace that the peer asks for. The caller sends
    /// [`put_connect_error`](super::put_connect_error). The connection stays, within
    /// [`connect_timeout_ms`](Config::connect_timeout_ms) if it has no namespace.
    ///
    /// # Errors
    ///
    /// [`NotRequested`].
    pub fn refuse(&mut self, namespace: &str) -> Result<(), NotRequested> {
        self.require_requested(namespace)?;
        self.namespaces.remove(namespace);
        Ok(())
    }

    /// Takes the peer out of a namespace. The caller sends [`put_disconnect`](super::put_disconnect).
    pub fn disconnect(&mut self, namespace: &str) {
        self.leave(namespace);
    }

    /// Whether the rest of a packet has to come before another packet.
    #[inline]
    pub fn awaits_attachments(&self) -> bool {
        self.partial.is_some()
    }

    /// Whether the peer is in `namespace`.
    pub fn is_connected(&self, namespace: &str) -> bool {
        self.namespaces.state(namespace) == Some(NamespaceState::Connected)
    }

    /// The namespaces that the peer is in: those it leaves when its Engine.IO session ends.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.connected()
    }

    /// The number for an event that the peer is to acknowledge: [`Outgoing::ack`](super::Outgoing::ack).
    ///
    /// # Errors
    ///
    /// [`TooManyAcks`].
    pub fn expect_ack(&mut self, namespace: &str, now_ms: u64) -> Result<AckId, TooManyAcks> {
        let deadline_ms = now_ms.saturating_add(self.config.ack_timeout_ms.into());
        self.acks.get_or_insert_default().expect(namespace, deadline_ms, self.config.limits.acks)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn deadline_ms(&self) -> Option<u64> {
        let partial = self.partial.as_ref().map(|partial| partial.deadline_ms);
        let acks = self.acks.as_ref().and_then(|acks| acks.deadline_ms());
        [self.connect_until_ms, partial, acks].into_iter().flatten().min()
    }

    /// Time has passed. May be called at any time, and late. Afterwards the caller takes the acknowledgements
    /// that did not come, by [`take_expired_ack`](Self::take_expired_ack).
    ///
    /// # Errors
    ///
    /// [`ProtocolError::ConnectTimeout`] or [`ProtocolError::AttachmentTimeout`].
    pub fn handle_timeout(&mut self, now_ms: u64) -> Result<(), ProtocolError> {
        if self.connect_until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            return Err(ProtocolError::ConnectTimeout);
        }
        if self.partial.as_ref().is_some_and(|partial| partial.deadline_ms <= now_ms) {
            return Err(ProtocolError::AttachmentTimeout);
        }
        Ok(())
    }

    /// An acknowledgement that did not come in time. Called until there is none.
    pub fn take_expired_ack(&mut self, now_ms: u64) -> Option<AckId> {
        let acks = self.acks.as_mut()?;
        acks.take_expired(now_ms)
    }

    fn request<'a>(
        &mut self,
        packet: &Packet<'a>,
        state: Option<NamespaceState>,
    ) -> Result<Incoming<'a>, ProtocolError> {
        if state.is_some() {
            return Err(ProtocolError::AlreadyConnected);
        }
        self.namespaces.request(packet.namespace, self.config.limits.namespaces)?;
        let auth = (!packet.payload.is_empty()).then_some(packet.payload);
        Ok(Incoming::Connect { namespace: packet.namespace, auth })
    }

    fn leave<'a>(&mut self, namespace: &'a str) -> Incoming<'a> {
        self.namespaces.remove(namespace);
        if let Some(acks) = &mut self.acks {
            acks.remove_namespace(namespace);
        }
        Incoming::Disconnect { namespace }
    }

    fn settle<'a>(
        &mut self,
        namespace: &str,
        ack: Option<AckId>,
        payload: Payload<'a>,
    ) -> Result<Incoming<'a>, ProtocolError> {
        let ack = ack.ok_or(ProtocolError::AckId)?;
        let is_awaited = self.acks.as_mut().is_some_and(|acks| acks.settle(namespace, ack));
        Ok(if is_awaited { Incoming::Ack { ack, payload } } else { Incoming::StrayAck { ack } })
    }

    fn require_requested(&self, namespace: &str) -> Result<(), NotRequested> {
        if self.namespaces.state(namespace) == Some(NamespaceState::Requested) {
            Ok(())
        } else {
            Err(NotRequested)
        }
    }

    fn attachment_deadline_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add(self.config.attachment_timeout_ms.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_at_rest_is_small() {
        assert!(size_of::<Connection>() <= 88, "{}", size_of::<Connection>());
    }
}

//! A packet whose attachments are still arriving.

use std::borrow::Cow;

use bytes::Bytes;

use super::{AckId, Limits, Packet, PacketType, Payload, Placeholders, ProtocolError};

/// The packet, owned, and the attachments that have arrived: `attachments.len() < expected`.
#[derive(Debug)]
pub(super) struct Partial {
    kind: PacketType,
    namespace: Box<str>,
    ack: Option<AckId>,
    json: String,
    expected: usize,
    attachments: Vec<Bytes>,
    /// Bytes that the missing attachments may have together.
    room: usize,
    /// Until when the next attachment may come, in milliseconds.
    pub(super) deadline_ms: u64,
}

/// What an event or acknowledgement with attachments has become.
#[derive(Debug)]
pub(super) struct Complete {
    pub(super) kind: PacketType,
    pub(super) namespace: Box<str>,
    pub(super) ack: Option<AckId>,
    pub(super) payload: Payload<'static>,
}

impl Partial {
    /// Keeps a packet whose payload is sound; its placeholders are checked before anything is kept.
    pub(super) fn new(packet: &Packet<'_>, limits: Limits, deadline_ms: u64) -> Result<Self, ProtocolError> {
        Placeholders::find(packet.payload).check(packet.attachments)?;
        Ok(Self {
            kind: packet.kind,
            namespace: packet.namespace.into(),
            ack: packet.ack,
            json: packet.payload.to_owned(),
            expected: packet.attachments,
            attachments: Vec::new(),
            room: limits.attachment_bytes,
            deadline_ms,
        })
    }

    /// Takes the next attachment; `deadline_ms` is for the one after it.
    pub(super) fn push(&mut self, bytes: Cow<'_, [u8]>, deadline_ms: u64) -> Result<(), ProtocolError> {
        self.deadline_ms = deadline_ms;
        self.room = self.room.checked_sub(bytes.len()).ok_or(ProtocolError::AttachmentsTooLarge)?;
        self.attachments.push(Bytes::from(bytes.into_owned()));
        Ok(())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.attachments.len() == self.expected
    }

    pub(super) fn complete(self) -> Complete {
        let payload = Payload { json: Cow::Owned(self.json), attachments: self.attachments };
        Complete { kind: self.kind, namespace: self.namespace, ack: self.ack, payload }
    }
}

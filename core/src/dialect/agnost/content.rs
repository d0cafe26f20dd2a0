//! The message of an event: JSON, or bytes that came as an attachment.

use bytes::Bytes;

use crate::{error::ReplyError, publication::Payload, socketio::Placeholders};

/// The message of an event.
#[derive(Clone, Debug)]
pub(super) enum Content<'a> {
    /// It is left out.
    Absent,
    Json(&'a str),
    /// It is one attachment and nothing else.
    Binary(Bytes),
}

impl<'a> Content<'a> {
    /// Reads a message of a packet with these attachments.
    ///
    /// # Errors
    /// [`ReplyError::InvalidBinary`] if there are attachments and the message is not one as a whole.
    pub(super) fn read(json: Option<&'a str>, attachments: &[Bytes]) -> Result<Self, ReplyError> {
        let Some(json) = json else { return Ok(Self::Absent) };
        let [attachment] = attachments else {
            return if attachments.is_empty() {
                Ok(Self::Json(json))
            } else {
                Err(ReplyError::InvalidBinary)
            };
        };
        let placeholders = Placeholders::find(json);
        match placeholders.iter().any(|placeholder| placeholder.range == (0..json.len())) {
            true => Ok(Self::Binary(attachment.clone())),
            false => Err(ReplyError::InvalidBinary),
        }
    }

    /// The same, as a payload.
    pub(super) fn payload(&self) -> Payload<'_> {
        match self {
            Self::Absent => Payload::NULL,
            Self::Json(json) => Payload::Json(json),
            Self::Binary(bytes) => Payload::Binary(bytes),
        }
    }
}

//! The message or the profile of an event: JSON, bytes that came as an attachment, or JSON that contains
//! bytes.

use bytes::Bytes;

use super::mixed;
use crate::{error::ReplyError, publication::Payload, socketio::Placeholders};

/// The message of an event.
#[derive(Clone, Debug)]
pub(super) enum Content<'a> {
    /// The event has no message.
    Absent,
    Json(&'a str),
    /// The message is a single attachment.
    Binary(Bytes),
    /// The message is JSON that contains bytes, see [`mixed`].
    Mixed(String),
}

impl<'a> Content<'a> {
    /// Reads the message of a packet that has these attachments.
    ///
    /// # Errors
    /// [`ReplyError::InvalidBinary`] if a placeholder stands for no attachment.
    pub(super) fn read(json: Option<&'a str>, attachments: &[Bytes]) -> Result<Self, ReplyError> {
        let Some(json) = json else { return Ok(Self::Absent) };
        if attachments.is_empty() {
            return Ok(Self::Json(json));
        }
        if let [attachment] = attachments
            && Placeholders::find(json).iter().any(|placeholder| placeholder.range == (0..json.len()))
        {
            return Ok(Self::Binary(attachment.clone()));
        }
        mixed::join(json, attachments).map(Self::Mixed)
    }

    /// The content with text of its own.
    pub(super) fn into_owned(self) -> Content<'static> {
        match self {
            Self::Absent => Content::Absent,
            Self::Json(json) => Content::Mixed(json.into()),
            Self::Binary(bytes) => Content::Binary(bytes),
            Self::Mixed(text) => Content::Mixed(text),
        }
    }

    /// The content as JSON text: `null` for bytes and for a missing message.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Absent | Self::Binary(_) => "null",
            Self::Json(json) => json,
            Self::Mixed(text) => text,
        }
    }

    /// The content as a publication's payload.
    pub(super) fn payload(&self) -> Payload<'_> {
        match self {
            Self::Absent => Payload::NULL,
            Self::Json(json) => Payload::Json(json),
            Self::Binary(bytes) => Payload::Binary(bytes),
            Self::Mixed(text) => Payload::Json(text),
        }
    }
}

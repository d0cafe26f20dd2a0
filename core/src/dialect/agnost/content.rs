//! The message or the profile of an event: JSON, bytes that came as an attachment, or both.

use bytes::Bytes;

use super::mixed;
use crate::{error::ReplyError, publication::Payload, socketio::Placeholders};

/// The message of an event.
#[derive(Clone, Debug)]
pub(super) enum Content<'a> {
    /// It is left out.
    Absent,
    Json(&'a str),
    /// It is one attachment and nothing else.
    Binary(Bytes),
    /// It has bytes in it, see [`mixed`].
    Mixed(String),
}

impl<'a> Content<'a> {
    /// Reads a message of a packet with these attachments.
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

    /// The same, with text of its own. JSON without bytes is not copied, but left out.
    pub(super) fn into_owned(self) -> Option<Content<'static>> {
        Some(match self {
            Self::Absent => Content::Absent,
            Self::Json(_) => return None,
            Self::Binary(bytes) => Content::Binary(bytes),
            Self::Mixed(text) => Content::Mixed(text),
        })
    }

    /// The same, as text; of bytes there is none.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Absent | Self::Binary(_) => "null",
            Self::Json(json) => json,
            Self::Mixed(text) => text,
        }
    }

    /// The same, as a payload.
    pub(super) fn payload(&self) -> Payload<'_> {
        match self {
            Self::Absent => Payload::NULL,
            Self::Json(json) => Payload::Json(json),
            Self::Binary(bytes) => Payload::Binary(bytes),
            Self::Mixed(text) => Payload::Json(text),
        }
    }
}

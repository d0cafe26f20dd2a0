//! Publications: what is delivered to sessions, and to which of them. The one vocabulary every dialect encodes from.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::{MessageId, SessionId};

/// What a publication tells.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Kind {
    /// Somebody sent or broadcast this.
    Message,
    /// A member joined; the payload is the member.
    Join,
    /// A member left.
    Leave,
    /// A member changed its profile.
    Update,
}

impl Kind {
    /// Whether it takes the channel's next offset. Notices are about now and are never replayed.
    pub fn is_message(self) -> bool {
        self == Kind::Message
    }
}

/// A payload as its sender wrote it.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Payload<'a> {
    /// Well-formed JSON, never re-serialised.
    Json(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

impl Payload<'_> {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether it is empty; JSON never is.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Payload::Json(json) => json.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }
}

/// Which members a publication is for. The default is everyone.
#[derive(Clone, Default, Debug)]
pub struct Audience {
    /// Not this session: a sender without echo.
    pub except_session: Option<SessionId>,
    /// This session alone.
    pub only_session: Option<SessionId>,
    /// Only sessions of these users.
    pub only_users: Option<Arc<[Box<str>]>>,
    /// No session of these users.
    pub except_users: Option<Arc<[Box<str>]>>,
}

impl Audience {
    /// Everyone but `session`.
    pub fn except(session: SessionId) -> Self {
        Self { except_session: Some(session), ..Self::default() }
    }

    /// Whether every member must be asked, one by one.
    pub fn is_filtered(&self) -> bool {
        self.only_session.is_some() || self.only_users.is_some() || self.except_users.is_some()
    }

    /// Whether `session`, of `user`, is meant.
    pub fn admits(&self, session: SessionId, user: Option<&str>) -> bool {
        let names = |list: &[Box<str>]| user.is_some_and(|user| list.iter().any(|name| **name == *user));
        self.except_session != Some(session)
            && self.only_session.is_none_or(|only| only == session)
            && self.only_users.as_deref().is_none_or(names)
            && !self.except_users.as_deref().is_some_and(names)
    }
}

/// A publication on its way, borrowing its text: what encoders read.
#[derive(Copy, Clone, Debug)]
pub struct Publication<'a> {
    /// Its id.
    pub id: MessageId,
    /// What it tells.
    pub kind: Kind,
    /// Position in the channel's stream, from 1; `None` for notices and broadcasts.
    pub offset: Option<u64>,
    /// Name of the event.
    pub event: &'a str,
    /// The payload.
    pub payload: Payload<'a>,
    /// Who is meant.
    pub audience: &'a Audience,
}

/// A publication that owns its text, to wait in a queue or to be shared between workers.
#[derive(Debug)]
pub struct OwnedPublication {
    id: MessageId,
    kind: Kind,
    pub(crate) offset: Option<u64>,
    binary: bool,
    /// `text[..event_len]` is the event, the rest the payload: `event_len <= text.len()`.
    event_len: u16,
    text: Bytes,
    audience: Audience,
}

impl OwnedPublication {
    /// Bytes of its text.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Borrows it.
    pub fn view(&self) -> Publication<'_> {
        let (event, payload) = self.text.split_at(usize::from(self.event_len));
        let text = |bytes| std::str::from_utf8(bytes).expect("it was made from a str");
        let payload = if self.binary { Payload::Binary(payload) } else { Payload::Json(text(payload)) };
        Publication {
            id: self.id,
            kind: self.kind,
            offset: self.offset,
            event: text(event),
            payload,
            audience: &self.audience,
        }
    }
}

impl From<Publication<'_>> for OwnedPublication {
    fn from(publication: Publication<'_>) -> Self {
        let Publication { id, kind, offset, event, payload, audience } = publication;
        let event_len = u16::try_from(event.len()).expect("names are at most 256 bytes");
        let text = [event.as_bytes(), payload.bytes()].concat().into();
        let binary = matches!(payload, Payload::Binary(_));
        Self { id, kind, offset, binary, event_len, text, audience: audience.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkerId;

    fn session(slot: u32) -> SessionId {
        SessionId::new(WorkerId(0), slot, [0; 9])
    }

    #[test]
    fn audience_admits_whom_it_names() {
        let users = |names: &[&str]| Some(names.iter().map(|&n| n.into()).collect::<Arc<[Box<str>]>>());
        assert!(Audience::default().admits(session(1), None));
        assert!(!Audience::except(session(1)).admits(session(1), None));
        assert!(Audience::except(session(1)).admits(session(2), None));
        let only = Audience { only_users: users(&["luke", "leia"]), ..Audience::default() };
        assert!(only.admits(session(1), Some("leia")));
        assert!(!only.admits(session(1), Some("vader")) && !only.admits(session(1), None));
        let except = Audience { except_users: users(&["vader"]), ..only };
        assert!(except.admits(session(1), Some("luke")));
        let both = Audience { except_users: users(&["luke"]), ..except };
        assert!(!both.admits(session(1), Some("luke")));
        let one = Audience { only_session: Some(session(3)), ..Audience::default() };
        assert!(one.admits(session(3), None) && !one.admits(session(4), None));
    }

    #[test]
    fn owned_publication_shows_what_it_was_made_from() {
        let mut ids = crate::id::IdGenerator::new(1);
        let audience = Audience::except(session(1));
        let publication = Publication {
            id: ids.message_id(1),
            kind: Kind::Message,
            offset: Some(4),
            event: "é",
            payload: Payload::Binary(&[0, 255]),
            audience: &audience,
        };
        let owned = OwnedPublication::from(publication);
        assert_eq!(owned.view().event, "é");
        assert_eq!(owned.view().payload, Payload::Binary(&[0, 255]));
        assert_eq!(owned.view().audience.except_session, Some(session(1)));
    }
}

//! Publications: what is delivered to sessions, and to which of them. The one vocabulary every dialect encodes from.

mod audience;

pub use self::audience::Audience;
pub(crate) use self::audience::EVERYONE;
use crate::id::{MessageId, SessionId};

/// Event of an edit, as members see it.
pub const EDIT_EVENT: &str = "message:edit";

/// Event of a deletion, as members see it.
pub const DELETE_EVENT: &str = "message:delete";

/// What a publication tells.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Kind {
    /// Somebody sent or broadcast this.
    Message,
    /// An earlier message has another payload now.
    Edit,
    /// An earlier message is gone.
    Delete,
    /// A member joined; the payload is the member.
    Join,
    /// A member left.
    Leave,
    /// A member changed its profile.
    Update,
    /// A user's first session joined; the payload has the user.
    UserJoin,
    /// A user's last session left.
    UserLeave,
}

impl Kind {
    /// Whether it is somebody's message. Notices are about now and are never replayed.
    pub fn is_message(self) -> bool {
        self == Kind::Message
    }

    /// Whether it changes an earlier message.
    pub fn is_change(self) -> bool {
        matches!(self, Kind::Edit | Kind::Delete)
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

impl<'a> Payload<'a> {
    /// The one that [`Payload::bytes`] and [`Payload::is_binary`] are of.
    pub(crate) fn restored(bytes: &'a [u8], is_binary: bool) -> Self {
        if is_binary { Payload::Binary(bytes) } else { Payload::Json(text(bytes)) }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether it is empty; JSON never is.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Whether it is no JSON.
    pub(crate) fn is_binary(&self) -> bool {
        matches!(self, Payload::Binary(_))
    }

    /// As its sender wrote it.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        match self {
            Payload::Json(json) => json.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }
}

/// A payload that waits, with its text.
#[derive(Clone, Debug)]
pub struct OwnedPayload {
    binary: bool,
    bytes: Box<[u8]>,
}

impl OwnedPayload {
    /// Borrows it.
    pub fn view(&self) -> Payload<'_> {
        Payload::restored(&self.bytes, self.binary)
    }
}

impl From<Payload<'_>> for OwnedPayload {
    fn from(payload: Payload<'_>) -> Self {
        Self { binary: payload.is_binary(), bytes: payload.bytes().into() }
    }
}

/// Who sent a message.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Sender<'a> {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user: Option<&'a str>,
    /// Whether receivers are told.
    pub shown: bool,
}

/// A publication on its way, borrowing its text: what encoders read.
#[derive(Copy, Clone, Debug)]
pub struct Publication<'a> {
    /// Its id; of a change, the changed message's.
    pub id: MessageId,
    /// What it tells.
    pub kind: Kind,
    /// Position in the channel's stream, from 1; `None` for what has none.
    pub offset: Option<u64>,
    /// Name of the event.
    pub event: &'a str,
    /// The payload.
    pub payload: Payload<'a>,
    /// Who is meant.
    pub audience: &'a Audience,
    /// Who sent it, if that is remembered or shown.
    pub sender: Option<Sender<'a>>,
    /// Until it is published: whether history may keep it. From then on: whether it does.
    pub kept: bool,
    /// When the message was last edited, in Unix milliseconds.
    pub edited_ms: Option<u64>,
}

impl<'a> Publication<'a> {
    /// One for everyone, without sender, that history does not keep.
    pub fn new(id: MessageId, kind: Kind, event: &'a str, payload: Payload<'a>) -> Self {
        Self {
            id,
            kind,
            offset: None,
            event,
            payload,
            audience: &EVERYONE,
            sender: None,
            kept: false,
            edited_ms: None,
        }
    }

    /// The change of this message, as it is now, that takes `offset`. Without payload it is its deletion. Without
    /// audience it is for that of the message, the sender included even if that wants no echo. `lost` is who has lost it
    /// by earlier changes.
    pub fn changed(
        &self,
        offset: u64,
        payload: Option<Payload<'_>>,
        audience: Option<&Audience>,
        lost: &[Lost],
        at_ms: u64,
    ) -> OwnedPublication {
        let kind = if payload.is_some() { Kind::Edit } else { Kind::Delete };
        let payload = payload.unwrap_or(Payload::Json("null"));
        let of = self.offset.unwrap_or_default();
        let own = Audience { except_session: None, ..self.audience.clone() };
        let audience = audience.unwrap_or(&own);
        let mut changed = OwnedPublication::from(Publication { payload, audience, ..*self });
        if let Some(extras) = &mut changed.extras {
            extras.lost = Lost::by_change(offset, &own, audience, lost);
        }
        OwnedPublication { kind, of, offset, edited_ms: at_ms, ..changed }
    }
}

impl Lost {
    /// Who has lost a message that was for `before` and is for `now` since the change that took `offset`. Nobody is in two.
    fn by_change(offset: u64, before: &Audience, now: &Audience, earlier: &[Lost]) -> Vec<Self> {
        let earlier = earlier.iter().map(|lost| (lost.offset, lost.audience.without(now)));
        let all = earlier.chain([(offset, before.without(now))]);
        all.filter_map(|(offset, audience)| Some(Self { offset, audience: audience? })).collect()
    }
}

/// A publication that owns its text, to wait in a queue, to be shared between workers, or to be remembered.
///
/// An edit or deletion also stands for the message it changed, as that is now: see [`OwnedPublication::message`].
#[derive(Debug)]
pub struct OwnedPublication {
    id: MessageId,
    /// 0: none. Offsets begin at 1.
    offset: u64,
    /// Of a change: the offset of the message. Else 0.
    of: u64,
    /// 0: never.
    edited_ms: u64,
    kind: Kind,
    binary: bool,
    kept: bool,
    /// `text[..event_len]` is the event, the rest the payload: `event_len <= text.len()`.
    event_len: u16,
    text: Box<[u8]>,
    extras: Option<Box<Extras>>,
}

/// What most publications do not have.
#[derive(Clone, Debug)]
struct Extras {
    audience: Audience,
    sender: Option<(SessionId, Option<Box<str>>, bool)>,
    lost: Vec<Lost>,
}

impl Extras {
    /// What keeping them costs, about.
    fn bytes(&self) -> usize {
        let lost: usize = self.lost.iter().map(|lost| size_of::<Lost>() + lost.audience.heap_bytes()).sum();
        size_of::<Self>() + self.audience.heap_bytes() + lost
    }
}

/// Who could see a message, and cannot since it was changed: for them it is deleted.
#[derive(Clone, Debug)]
pub struct Lost {
    /// The offset of the change.
    pub offset: u64,
    /// They.
    pub audience: Audience,
}

impl OwnedPublication {
    /// Borrows it, as members see it when it is published.
    pub fn view(&self) -> Publication<'_> {
        let event = match self.kind {
            Kind::Edit => EDIT_EVENT,
            Kind::Delete => DELETE_EVENT,
            _ => self.event(),
        };
        Publication { kind: self.kind, offset: some(self.offset), event, ..self.message() }
    }

    /// The message, as it is now: this itself, or what this change has made of it.
    pub fn message(&self) -> Publication<'_> {
        let payload = &self.text[usize::from(self.event_len)..];
        let sender = self.extras.as_ref().and_then(|extras| extras.sender.as_ref());
        Publication {
            id: self.id,
            kind: Kind::Message,
            offset: some(self.message_offset()),
            event: self.event(),
            payload: Payload::restored(payload, self.binary),
            audience: self.audience(),
            sender: sender.map(|(session, user, shown)| Sender {
                session: *session,
                user: user.as_deref(),
                shown: *shown,
            }),
            kept: self.kept,
            edited_ms: some(self.edited_ms),
        }
    }

    /// Of a change: who has lost the message by it or by those before.
    pub fn lost(&self) -> &[Lost] {
        self.extras.as_ref().map_or(&[], |extras| &extras.lost)
    }

    /// What those see who have lost the message by the change that took `offset`: its deletion. `None`: there are none.
    pub fn loss(&self, offset: u64) -> Option<Publication<'_>> {
        let Lost { audience, .. } = self.lost().iter().find(|lost| lost.offset == offset)?;
        let (event, payload) = (DELETE_EVENT, Payload::Json("null"));
        Some(Publication {
            kind: Kind::Delete,
            offset: some(offset),
            event,
            payload,
            audience,
            ..self.message()
        })
    }

    /// Its id; of a change, the changed message's.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// What it tells.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is the deletion of a message.
    pub fn is_deletion(&self) -> bool {
        self.kind == Kind::Delete
    }

    /// Position in the channel's stream, or 0.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Position of the message, which may have been changed later.
    pub fn message_offset(&self) -> u64 {
        if self.kind.is_change() { self.of } else { self.offset }
    }

    /// Who is meant.
    pub fn audience(&self) -> &Audience {
        self.extras.as_ref().map_or(&EVERYONE, |extras| &extras.audience)
    }

    /// What remembering it costs.
    pub fn bytes(&self) -> usize {
        let extras = self.extras.as_ref().map_or(0, |extras| extras.bytes());
        Self::bytes_with(self.text.len()) + extras
    }

    /// What remembering a plain one costs whose event and payload are so long.
    pub(crate) fn bytes_with(text_len: usize) -> usize {
        // Two counters precede what an `Arc` holds.
        size_of::<Self>() + 2 * size_of::<usize>() + text_len
    }

    fn event(&self) -> &str {
        text(&self.text[..usize::from(self.event_len)])
    }
}

fn some(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

/// What was text before it was bytes.
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it was made from a str")
}

impl From<Publication<'_>> for OwnedPublication {
    fn from(publication: Publication<'_>) -> Self {
        let Publication { id, kind, offset, event, payload, audience, sender, kept, edited_ms } = publication;
        let extras = (!audience.is_everyone() || sender.is_some()).then(|| {
            let sender = sender.map(|sender| (sender.session, sender.user.map(Into::into), sender.shown));
            Box::new(Extras { audience: audience.clone(), sender, lost: Vec::new() })
        });
        Self {
            id,
            offset: offset.unwrap_or_default(),
            of: 0,
            edited_ms: edited_ms.unwrap_or_default(),
            kind,
            binary: payload.is_binary(),
            kept,
            event_len: u16::try_from(event.len()).expect("names are at most 256 bytes"),
            text: [event.as_bytes(), payload.bytes()].concat().into(),
            extras,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkerId;

    fn session(slot: u32) -> SessionId {
        SessionId::new(WorkerId(0), crate::id::SessionSlot(slot), [0; 9])
    }

    #[test]
    fn owned_publication_shows_what_it_was_made_from() {
        let mut ids = crate::id::IdGenerator::new(1);
        let audience = Audience::except(session(1));
        let publication = Publication {
            offset: Some(4),
            audience: &audience,
            ..Publication::new(ids.message_id(1), Kind::Message, "é", Payload::Binary(&[0, 255]))
        };
        let owned = OwnedPublication::from(publication);
        assert_eq!(owned.view().event, "é");
        assert_eq!(owned.view().payload, Payload::Binary(&[0, 255]));
        assert_eq!(owned.view().audience.except_session, Some(session(1)));
    }
    #[test]
    fn a_change_stands_for_the_message_it_changed() {
        let mut ids = crate::id::IdGenerator::new(1);
        let audience =
            Audience { only_users: Some([Box::from("luke")].into()), ..Audience::except(session(1)) };
        let sender = Sender { session: session(1), user: Some("leia"), shown: true };
        let message = OwnedPublication::from(Publication {
            offset: Some(4),
            audience: &audience,
            sender: Some(sender),
            kept: true,
            ..Publication::new(ids.message_id(1), Kind::Message, "chat", Payload::Json("1"))
        });
        let edit = message.message().changed(9, Some(Payload::Json("2")), None, &[], 77);
        let view = edit.view();
        assert_eq!((view.kind, view.offset, view.event), (Kind::Edit, Some(9), EDIT_EVENT));
        assert_eq!((view.payload, view.edited_ms, view.id), (Payload::Json("2"), Some(77), message.id()));
        assert!(view.audience.admits(session(1), Some("luke")) && !view.audience.admits(session(2), None));
        let now = edit.message();
        assert_eq!((now.kind, now.offset, now.event), (Kind::Message, Some(4), "chat"));
        assert_eq!((now.sender, now.kept), (Some(sender), true));
        let gone = now.changed(12, None, None, &[], 78);
        assert_eq!((gone.view().kind, gone.view().event), (Kind::Delete, DELETE_EVENT));
        assert_eq!(gone.message().offset, Some(4));
    }

    #[test]
    fn remembering_costs_the_text_and_a_small_constant() {
        let id = crate::id::IdGenerator::new(1).message_id(1);
        let plain =
            OwnedPublication::from(Publication::new(id, Kind::Message, "chat", Payload::Json("1234")));
        assert!(plain.bytes() <= 8 + 104, "{}", plain.bytes());
    }
}

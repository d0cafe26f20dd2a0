//! Publications that own their text.

use std::sync::Arc;

use super::{Audience, Body, EVERYONE, Given, IdentityCard, Kind, Payload, Publication, Sender, UserCard};
use crate::id::{MessageId, SessionId};

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

/// A publication that owns its text. An owned publication can wait in a queue, be shared between workers, or
/// be kept in history.
///
/// An edit or deletion also stands for the message after the change: see [`OwnedPublication::message`].
#[derive(Debug)]
pub struct OwnedPublication {
    id: MessageId,
    /// 0: none. Offsets begin at 1.
    offset: u64,
    /// Of a change: the offset of the message. Else 0.
    of: u64,
    /// 0: never.
    edited_ms: u64,
    body: OwnedBody,
    extras: Option<Box<Extras>>,
}

const _: () = assert!(size_of::<OwnedPublication>() == 72, "history counts on a small publication");

#[derive(Debug)]
enum OwnedBody {
    /// A message, or a change of one.
    Message(OwnedMessage),
    MemberJoined(Arc<IdentityCard>),
    MemberLeft(Arc<IdentityCard>),
    MemberUpdated(Arc<IdentityCard>),
    UserJoined(Arc<UserCard>),
    UserLeft(Arc<UserCard>),
    UserUpdated(Arc<UserCard>),
    Worded(Arc<str>),
}

#[derive(Debug)]
struct OwnedMessage {
    /// The event, and the payload unless that is binary: then [`Extras::binary`] is the payload.
    text: Box<str>,
    event_len: u16,
    kept: bool,
    state: MessageState,
}

/// What has become of a message.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum MessageState {
    Published,
    Edited,
    Deleted,
}

/// What most publications do not have.
#[derive(Clone, Debug)]
struct Extras {
    binary: Option<Box<[u8]>>,
    audience: Audience,
    sender: Option<OwnedSender>,
    given: Option<Arc<Given>>,
    lost: Vec<Lost>,
}

#[derive(Clone, Debug)]
struct OwnedSender {
    session: SessionId,
    user: Option<Box<str>>,
    profile: Option<Arc<str>>,
    shown: bool,
}

/// Readers who could see a message until it was changed. For them it is deleted.
#[derive(Clone, Debug)]
pub struct Lost {
    /// The offset of the change.
    pub offset: u64,
    /// The readers.
    pub audience: Audience,
}

impl Publication<'_> {
    /// The change of this message that takes `offset`. Without payload the change is the message's deletion.
    /// Without audience the change is for the message's audience, and for the sender even without echo.
    /// `lost` are the readers who lost the message by earlier changes.
    pub fn changed(
        &self,
        offset: u64,
        payload: Option<Payload<'_>>,
        audience: Option<&Audience>,
        lost: &[Lost],
        at_ms: u64,
    ) -> OwnedPublication {
        let state = if payload.is_some() { MessageState::Edited } else { MessageState::Deleted };
        let own = Audience { except_session: None, ..self.audience.clone() };
        let audience = audience.unwrap_or(&own);
        let payload = payload.unwrap_or(Payload::NULL);
        let changed = Publication { audience, ..*self };
        let mut extras = Extras::of(&changed, payload);
        if let Some(extras) = &mut extras {
            extras.lost = Lost::by_change(offset, &own, audience, lost);
        }
        let of = self.offset.unwrap_or_default();
        let body = OwnedBody::Message(OwnedMessage::new(self.event(), payload, self.kept, state));
        OwnedPublication { id: self.id, offset, of, edited_ms: at_ms, body, extras }
    }

    /// This publication for workers that do not have the session that wants no echo.
    pub(crate) fn without_exception(&self) -> OwnedPublication {
        if !self.audience.is_filtered() {
            return Publication { audience: &EVERYONE, ..*self }.into();
        }
        let audience = &Audience { except_session: None, ..self.audience.clone() };
        Publication { audience, ..*self }.into()
    }

    /// This message after a change with an audience of its own. The message keeps its audience, and every
    /// field that the change does not set.
    pub fn amended(
        &self,
        offset: u64,
        payload: Option<Payload<'_>>,
        given: &Given,
        lost: &[Lost],
        at_ms: u64,
    ) -> OwnedPublication {
        let payload = payload.or_else(|| given.keeps_payload.then(|| self.payload()));
        let merged = self.given.map(|given| &**given).unwrap_or(&Given::default()).changed(given);
        let merged = (merged != Given::default()).then(|| Arc::new(merged));
        let message = Publication { given: merged.as_ref(), ..*self };
        message.changed(offset, payload, None, lost, at_ms)
    }
}

impl OwnedPublication {
    /// Borrows it, as members see it when it is published.
    #[inline]
    pub fn view(&self) -> Publication<'_> {
        let (body, kept) = match &self.body {
            OwnedBody::Message(message) => (message.body(self.binary()), message.kept),
            OwnedBody::MemberJoined(card) => (Body::MemberJoined(card), false),
            OwnedBody::MemberLeft(card) => (Body::MemberLeft(card), false),
            OwnedBody::MemberUpdated(card) => (Body::MemberUpdated(card), false),
            OwnedBody::UserJoined(user) => (Body::UserJoined(user), false),
            OwnedBody::UserLeft(user) => (Body::UserLeft(user), false),
            OwnedBody::UserUpdated(user) => (Body::UserUpdated(user), false),
            OwnedBody::Worded(words) => (Body::Worded(words), false),
        };
        let edited_ms = some(self.edited_ms);
        let (audience, sender, given) = (self.audience(), self.sender(), self.given());
        Publication { id: self.id, offset: some(self.offset), body, audience, sender, kept, edited_ms, given }
    }

    /// The message, as it is now: this itself, or what this change has made of it.
    pub fn message(&self) -> Publication<'_> {
        let view = self.view();
        let OwnedBody::Message(message) = &self.body else { return view };
        let (event, payload) = message.parts(self.binary());
        Publication { offset: some(self.message_offset()), body: Body::Message { event, payload }, ..view }
    }

    /// Of a change: the readers who lost the message by it or by earlier changes.
    pub fn lost(&self) -> &[Lost] {
        self.extras.as_ref().map_or(&[], |extras| &extras.lost)
    }

    /// The deletion that readers see who lost the message by the change with `offset`; `None` if there are no
    /// such readers.
    pub fn loss(&self, offset: u64) -> Option<Publication<'_>> {
        let Lost { audience, .. } = self.lost().iter().find(|lost| lost.offset == offset)?;
        Some(Publication { offset: some(offset), body: Body::Delete, audience, ..self.view() })
    }

    /// Its id; of a change, the changed message's.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// What it tells.
    pub fn kind(&self) -> Kind {
        self.view().kind()
    }

    /// Whether it is the deletion of a message.
    pub fn is_deletion(&self) -> bool {
        self.state() == Some(MessageState::Deleted)
    }

    /// Position in the channel's stream, or 0.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Position of the message, which may have been changed later.
    pub fn message_offset(&self) -> u64 {
        match self.state() {
            Some(MessageState::Edited | MessageState::Deleted) => self.of,
            _ => self.offset,
        }
    }

    /// Who is meant.
    pub fn audience(&self) -> &Audience {
        self.extras.as_ref().map_or(&EVERYONE, |extras| &extras.audience)
    }

    /// What keeping it costs.
    pub fn bytes(&self) -> usize {
        let body = match &self.body {
            OwnedBody::Message(message) => message.text.len(),
            OwnedBody::MemberJoined(card) | OwnedBody::MemberLeft(card) | OwnedBody::MemberUpdated(card) => {
                card.bytes()
            }
            OwnedBody::UserJoined(user) | OwnedBody::UserLeft(user) | OwnedBody::UserUpdated(user) => {
                user.bytes()
            }
            OwnedBody::Worded(text) => text.len(),
        };
        Self::bytes_with(body) + self.extras.as_ref().map_or(0, |extras| extras.bytes())
    }

    /// What keeping a plain message costs whose event and payload are so long.
    pub(crate) fn bytes_with(text_len: usize) -> usize {
        // Two counters precede what an `Arc` holds.
        size_of::<Self>() + 2 * size_of::<usize>() + text_len
    }

    /// The fields that the back end decided.
    pub(crate) fn given(&self) -> Option<&Arc<Given>> {
        self.extras.as_ref()?.given.as_ref()
    }

    /// The time at which the message was sent: the back end's time, or the time in the id.
    pub(crate) fn time_ms(&self) -> u64 {
        let given = self.given().and_then(|given| given.time.as_ref());
        given.map_or_else(|| self.id.time_ms(), |time| time.unix_ms)
    }

    fn binary(&self) -> Option<&[u8]> {
        self.extras.as_ref()?.binary.as_deref()
    }

    fn sender(&self) -> Option<Sender<'_>> {
        let OwnedSender { session, user, profile, shown } = self.extras.as_ref()?.sender.as_ref()?;
        let (user, profile) = (user.as_deref(), profile.as_ref());
        Some(Sender { session: *session, user, profile, shown: *shown })
    }

    fn state(&self) -> Option<MessageState> {
        match &self.body {
            OwnedBody::Message(message) => Some(message.state),
            _ => None,
        }
    }
}

impl From<Publication<'_>> for OwnedPublication {
    #[inline]
    fn from(publication: Publication<'_>) -> Self {
        let Publication { id, offset, body, kept, edited_ms, .. } = publication;
        let payload = publication.payload();
        let message =
            |state| OwnedBody::Message(OwnedMessage::new(publication.event(), payload, kept, state));
        let body = match body {
            Body::Message { .. } => message(MessageState::Published),
            Body::Edit { .. } => message(MessageState::Edited),
            Body::Delete => message(MessageState::Deleted),
            Body::MemberJoined(card) => OwnedBody::MemberJoined(card.clone()),
            Body::MemberLeft(card) => OwnedBody::MemberLeft(card.clone()),
            Body::MemberUpdated(card) => OwnedBody::MemberUpdated(card.clone()),
            Body::UserJoined(user) => OwnedBody::UserJoined(user.clone()),
            Body::UserLeft(user) => OwnedBody::UserLeft(user.clone()),
            Body::UserUpdated(user) => OwnedBody::UserUpdated(user.clone()),
            Body::Worded(words) => OwnedBody::Worded(words.clone()),
        };
        Self {
            id,
            offset: offset.unwrap_or_default(),
            of: 0,
            edited_ms: edited_ms.unwrap_or_default(),
            body,
            extras: Extras::of(&publication, payload),
        }
    }
}

impl OwnedMessage {
    fn new(event: &str, payload: Payload<'_>, kept: bool, state: MessageState) -> Self {
        let json = match payload {
            Payload::Json(json) => json,
            Payload::Binary(_) => "",
        };
        let event_len = u16::try_from(event.len()).expect("names are at most 256 bytes");
        let mut text = String::with_capacity(event.len() + json.len());
        text.push_str(event);
        text.push_str(json);
        Self { text: text.into(), event_len, kept, state }
    }

    /// The event and the payload.
    fn parts<'a>(&'a self, binary: Option<&'a [u8]>) -> (&'a str, Payload<'a>) {
        let (event, json) = self.text.split_at(usize::from(self.event_len));
        (event, binary.map_or(Payload::Json(json), Payload::Binary))
    }

    fn body<'a>(&'a self, binary: Option<&'a [u8]>) -> Body<'a> {
        let (event, payload) = self.parts(binary);
        match self.state {
            MessageState::Published => Body::Message { event, payload },
            MessageState::Edited => Body::Edit { event, payload },
            MessageState::Deleted => Body::Delete,
        }
    }
}

impl Extras {
    /// The rare fields of a publication; `None` if the publication is for everyone, with no known sender, no
    /// fields of a back end, and no binary payload.
    #[inline]
    fn of(publication: &Publication<'_>, payload: Payload<'_>) -> Option<Box<Self>> {
        let &Publication { audience, sender, given, .. } = publication;
        let is_rare = !audience.is_everyone() || sender.is_some() || given.is_some() || payload.is_binary();
        is_rare.then(|| {
            let binary = payload.is_binary().then(|| payload.bytes().into());
            let sender = sender.map(|Sender { session, user, profile, shown }| OwnedSender {
                session,
                user: user.map(Into::into),
                profile: profile.cloned(),
                shown,
            });
            let (audience, given) = (audience.clone(), given.cloned());
            Box::new(Self { binary, audience, sender, given, lost: Vec::new() })
        })
    }

    /// About what keeping them costs.
    fn bytes(&self) -> usize {
        let lost: usize = self.lost.iter().map(|lost| size_of::<Lost>() + lost.audience.heap_bytes()).sum();
        let profile = self.sender.as_ref().and_then(|sender| sender.profile.as_ref());
        let profile = profile.map_or(0, |profile| profile.len());
        let given = self.given.as_ref().map_or(0, |given| size_of::<Given>() + given.text_bytes());
        let binary = self.binary.as_ref().map_or(0, |binary| binary.len());
        size_of::<Self>() + binary + self.audience.heap_bytes() + profile + given + lost
    }
}

impl Lost {
    /// The readers who lost the message by the change with `offset`, which narrowed the message's audience
    /// from `before` to `now`, and the readers who lost it earlier. No reader is in two of the audiences.
    fn by_change(offset: u64, before: &Audience, now: &Audience, earlier: &[Lost]) -> Vec<Self> {
        let earlier = earlier.iter().map(|lost| (lost.offset, lost.audience.without(now)));
        let all = earlier.chain([(offset, before.without(now))]);
        all.filter_map(|(offset, audience)| Some(Self { offset, audience: audience? })).collect()
    }
}

fn some(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

/// Text that was kept as bytes.
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it was made from a str")
}

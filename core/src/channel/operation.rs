//! Operations on a channel, and what comes of them: the words in which workers and channels talk.

use std::sync::Arc;

use super::{Bounds, HistoryItem, Page, PageStart, Viewer};
use crate::{
    app::ChannelOptions,
    id::{MessageId, SessionId, WorkerId},
    publication::{
        Audience, Body, Given, IdentityCard, OwnedPayload, OwnedPublication, Payload, Publication, Sender,
    },
};

/// An operation on a channel. One shape serves publishing, joining (interest, notice), leaving, and requests.
#[derive(Debug)]
pub struct Operation {
    /// Who asked.
    pub worker: WorkerId,
    /// Whether this worker gains or loses interest; gaining comes before the publication, losing after it.
    pub interest: Option<Interest>,
    /// What to publish, in order.
    pub publications: Vec<OwnedPublication>,
    /// What else is to be done, after the gaining of interest.
    pub request: Option<Box<ChannelRequest>>,
    /// A user's session that comes or goes.
    pub presence: Option<Box<Presence>>,
    /// Whom to tell that it is done.
    pub ticket: u64,
}

/// A user's session joins a channel or leaves it.
#[derive(Clone, Debug)]
pub struct Presence {
    /// The user.
    pub user: Arc<str>,
    /// Whether it joins.
    pub joins: bool,
    /// The session, if it is not to be told.
    pub except: Option<SessionId>,
    /// Whether nobody is told.
    pub quiet: bool,
}

/// Something to be read from a channel's state, or to be changed in it.
#[derive(Debug)]
pub enum ChannelRequest {
    /// A page of history.
    Page {
        /// Where it begins.
        from: PageStart,
        /// How long it may be.
        bounds: Bounds,
        /// Who reads.
        reader: Viewer,
    },
    /// What happened after an offset of this epoch.
    CatchUp {
        /// The offset.
        since: u64,
        /// How much it may be.
        bounds: Bounds,
        /// Who reads.
        reader: Viewer,
    },
    /// A page of its users, of those after a name.
    Users {
        /// The name.
        after: Option<Box<str>>,
        /// How many at most.
        limit: usize,
    },
    /// The channel's members, if the channel keeps a roster. A worker receives them by mail.
    Roster {
        /// The most members in the answer.
        limit: usize,
        /// The worker that receives the mail.
        asker: WorkerId,
        /// The ticket of the mail.
        ticket: u64,
    },
    /// Tell the members of a change of a user's state.
    AnnounceUser(Arc<UserAnnouncement>),
    /// An edit or a deletion.
    Change(Box<Change>),
    /// An edit or a deletion that is told even if the channel does not remember the message.
    Amend(Box<Amendment>),
    /// Other options for the channel and for later ones of its name; `None`: those of the configuration.
    SetOptions(Option<ChannelOptions>),
    /// Forget what is too old, and the oldest until this many bytes are left.
    Trim(usize),
}

/// A change of a user's state, for the members of a channel.
#[derive(Debug)]
pub struct UserAnnouncement {
    /// The user.
    pub user: Arc<str>,
    /// The version of the state since the change.
    pub version: u64,
    /// The changed keys.
    pub changed: Vec<Box<str>>,
}

impl UserAnnouncement {
    /// Approximate bytes that the announcement keeps alive.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.user.len() + self.changed.iter().map(|key| key.len()).sum::<usize>()
    }
}

/// A change of a message that is remembered.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which message.
    pub id: MessageId,
    /// The new payload; `None` deletes.
    pub payload: Option<OwnedPayload>,
    /// Whom the message is for from now on; `None`: as before.
    pub audience: Option<Audience>,
    /// The session that wants it, and its user; `None`: the back end, which may change every message.
    pub by: Option<(SessionId, Option<Arc<str>>)>,
}

impl Change {
    /// Whether it may be done to a message of `sender`.
    pub fn is_allowed(&self, sender: Option<Sender<'_>>) -> bool {
        let Some((session, user)) = &self.by else { return true };
        sender.is_some_and(|sender| {
            sender.session == *session || user.is_some() && sender.user == user.as_deref()
        })
    }
}

/// A change that a back end tells an audience, whether or not the channel remembers the message. A remembered
/// message is changed too, and keeps its own audience.
#[derive(Clone, Debug)]
pub struct Amendment {
    /// The message's id.
    pub id: MessageId,
    /// Whether the message is deleted.
    pub deletes: bool,
    /// The new payload, if the change has one.
    pub payload: Option<OwnedPayload>,
    /// The audience of the change.
    pub audience: Audience,
    /// The other fields of the change.
    pub given: Arc<Given>,
}

impl Amendment {
    /// The time of the change: the back end's time, or now.
    pub fn at_ms(&self, now_ms: u64) -> u64 {
        self.given.edited.as_ref().map_or(now_ms, |edited| edited.unix_ms)
    }

    /// The change as its audience receives it. `old` is the message, if the channel remembers it.
    pub fn publication<'a>(&'a self, old: Option<&Publication<'a>>, now_ms: u64) -> Publication<'a> {
        let known = || old.map_or(Payload::NULL, Publication::payload);
        let payload = self.payload.as_ref().map_or_else(known, OwnedPayload::view);
        let event = old.map_or(AMENDED, Publication::event);
        let body = if self.deletes { Body::Delete } else { Body::Edit { event, payload } };
        Publication {
            audience: &self.audience,
            sender: old.and_then(|old| old.sender),
            edited_ms: Some(self.at_ms(now_ms)),
            given: Some(&self.given),
            ..Publication::new(self.id, body)
        }
    }
}

/// The event of a message that the channel does not remember.
const AMENDED: &str = "message";

/// What came of a [`ChannelRequest`].
#[derive(Debug)]
pub enum ChannelReply {
    /// A page.
    Page(Page),
    /// What happened, unless that is not known any more.
    CaughtUp(Option<Vec<HistoryItem>>),
    /// Users with the number of their sessions, how many users there are, and whether more follow.
    Users(Vec<(Box<str>, u32)>, usize, bool),
    /// The members, if the channel keeps a roster, and the number of all members.
    Roster(Option<Vec<Arc<IdentityCard>>>, usize),
    /// The change took this offset; `None`: the message is unknown.
    Changed(Option<u64>),
    /// It is done.
    Done,
}

/// A change of a worker's interest in a channel.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Interest {
    /// It has its first member.
    Gained,
    /// It has lost its last.
    Lost,
}

impl ChannelReply {
    /// About what the reply keeps alive, and what writing it costs.
    pub fn bytes(&self) -> usize {
        match self {
            ChannelReply::Page(page) => page.bytes(),
            ChannelReply::CaughtUp(missed) => missed.iter().flatten().map(HistoryItem::bytes).sum(),
            ChannelReply::Users(users, ..) => {
                users.iter().map(|(user, _)| size_of::<(Box<str>, u32)>() + user.len()).sum()
            }
            ChannelReply::Roster(members, _) => members.iter().flatten().map(|card| card.bytes()).sum(),
            ChannelReply::Changed(_) | ChannelReply::Done => 0,
        }
    }
}

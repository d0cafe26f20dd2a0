//! Mail: what workers send each other, and what it weighs in a mailbox.

use std::sync::Arc;

use super::{
    idempotency::{IdempotentPublish, Published},
    query::WorkerQuery,
};
use crate::{
    channel::{Channel, ChannelMail, UserAnnouncement},
    error::ReplyError,
    id::AppId,
    mailbox::Weigh,
    publication::OwnedPublication,
    trigger::Verdict,
};

/// What workers send each other.
pub enum Mail {
    /// From a channel: a publication for the worker's members, or word of its operations.
    Channel {
        /// The channel.
        channel: Arc<Channel>,
        /// What it says.
        mail: ChannelMail,
    },
    /// For your sessions of this app that its audience names, whatever they are in.
    Direct {
        /// The app.
        app: AppId,
        /// What to deliver.
        publication: Arc<OwnedPublication>,
    },
    /// The state of a user has changed.
    UserChanged {
        /// The app.
        app: AppId,
        /// The change, for the channels of the user's sessions.
        change: Arc<UserAnnouncement>,
    },
    /// For the owner of an idempotency key.
    IdempotentPublish(Box<IdempotentPublish>),
    /// What the owner of a key says.
    Published {
        /// What came of it.
        result: Result<Published, ReplyError>,
        /// Whom it was for.
        ticket: u64,
    },
    /// A question that visits one worker after another.
    Query(Box<WorkerQuery>),
    /// Your question, answered.
    Answer(Box<WorkerQuery>),
    /// The verdict of a call of triggers by this worker.
    Verdict {
        /// The call's ticket.
        ticket: u64,
        /// The decision of the triggers, with their answers and publications.
        verdict: Box<Verdict>,
    },
}

impl Weigh for Mail {
    fn bytes(&self) -> usize {
        match self {
            Mail::Channel { mail, .. } => mail.bytes(),
            Mail::Direct { publication, .. } => publication.bytes(),
            Mail::IdempotentPublish(once) => once.bytes(),
            Mail::Query(query) | Mail::Answer(query) => query.bytes(),
            Mail::Verdict { verdict, .. } => verdict.bytes(),
            Mail::UserChanged { change, .. } => change.bytes(),
            Mail::Published { .. } => 0,
        }
    }
}

//! Mail: what workers send each other, and what it weighs in a mailbox.

use std::sync::Arc;

use super::{
    idempotency::{IdempotentPublish, Published},
    query::WorkerQuery,
};
use crate::{
    channel::{Channel, ChannelReply, Position},
    error::ReplyError,
    id::AppId,
    mailbox::Weigh,
    publication::OwnedPublication,
};

/// What workers send each other.
pub enum Mail {
    /// For your members of this channel.
    Publication {
        /// The channel.
        channel: Arc<Channel>,
        /// Its place in the channel's sequence.
        sequence: u64,
        /// What to deliver.
        publication: Arc<OwnedPublication>,
    },
    /// You have gained interest: what comes after this sequence is for your members.
    Live {
        /// In this channel.
        channel: Arc<Channel>,
        /// The last that is not.
        sequence: u64,
        /// The last offset given out before it.
        offset: u64,
        /// Of the operation that gained it.
        ticket: u64,
    },
    /// An operation you delegated is done.
    Done {
        /// What came of it.
        receipt: Receipt,
        /// What came of its request.
        reply: Option<Box<ChannelReply>>,
        /// Whom it was for.
        ticket: u64,
    },
    /// An operation you delegated was refused.
    Refused {
        /// Why.
        error: ReplyError,
        /// Whom it was for.
        ticket: u64,
    },
    /// For your sessions of this app that its audience names, whatever they are in.
    Direct {
        /// The app.
        app: AppId,
        /// What to deliver.
        publication: Arc<OwnedPublication>,
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
}

impl Weigh for Mail {
    fn bytes(&self) -> usize {
        match self {
            Mail::Publication { publication, .. } | Mail::Direct { publication, .. } => publication.bytes(),
            Mail::IdempotentPublish(once) => once.bytes(),
            _ => 0,
        }
    }
}

/// What came of an operation on a channel.
#[derive(Copy, Clone, Debug)]
pub struct Receipt {
    /// The channel's sequence before the operation.
    pub sequence: u64,
    /// Where the stream stands after it.
    pub position: Position,
    /// The offset of the publication, of several the last, if it took one.
    pub offset: Option<u64>,
}

//! What a publication tells, as data.

use std::sync::Arc;

use super::{Payload, UserCard};
use crate::id::SessionId;

/// What a publication tells.
#[derive(Copy, Clone, Debug)]
pub enum Body<'a> {
    /// A session or a back end sent or broadcast this.
    Message {
        /// Name of the event.
        event: &'a str,
        /// The payload.
        payload: Payload<'a>,
    },
    /// An earlier message has another payload now.
    Edit {
        /// Name of the message's event.
        event: &'a str,
        /// The new payload.
        payload: Payload<'a>,
    },
    /// An earlier message is gone.
    Delete,
    /// A session became a member.
    MemberJoined(&'a Arc<IdentityCard>),
    /// A member left.
    MemberLeft(&'a Arc<IdentityCard>),
    /// A member changed its profile.
    MemberUpdated(&'a Arc<IdentityCard>),
    /// A user's first session joined.
    UserJoined(&'a Arc<UserCard>),
    /// A user's last session left.
    UserLeft(&'a Arc<UserCard>),
    /// A user's state changed.
    UserUpdated(&'a Arc<UserCard>),
    /// A notice that only the dialect of its origin can express, in that dialect's words.
    Worded(&'a Arc<str>),
}

/// The identity of a session as others see it, shared by all notices of one occasion.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct IdentityCard {
    /// The session.
    pub id: SessionId,
    /// Its user.
    pub user: Option<Arc<str>>,
    /// Its profile, JSON as the session sent it; `None` until it is set.
    pub profile: Option<Arc<str>>,
}

impl IdentityCard {
    /// About what keeping it costs.
    pub(crate) fn bytes(&self) -> usize {
        // Two counters precede what an `Arc` holds.
        let len = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        size_of::<Self>() + 2 * size_of::<usize>() + len(&self.user) + len(&self.profile)
    }
}

/// A [`Body`] without its data.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[allow(missing_docs, reason = "each is the variant of `Body` with the same name")]
pub enum Kind {
    Message,
    Edit,
    Delete,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    UserJoined,
    UserLeft,
    UserUpdated,
    Worded,
}

impl Body<'_> {
    /// Which variant it is.
    #[inline]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Message { .. } => Kind::Message,
            Self::Edit { .. } => Kind::Edit,
            Self::Delete => Kind::Delete,
            Self::MemberJoined(_) => Kind::MemberJoined,
            Self::MemberLeft(_) => Kind::MemberLeft,
            Self::MemberUpdated(_) => Kind::MemberUpdated,
            Self::UserJoined(_) => Kind::UserJoined,
            Self::UserLeft(_) => Kind::UserLeft,
            Self::UserUpdated(_) => Kind::UserUpdated,
            Self::Worded(_) => Kind::Worded,
        }
    }

    /// Whether the publication is a notice about members or users.
    #[inline]
    pub fn is_notice(&self) -> bool {
        !matches!(self, Self::Message { .. } | Self::Edit { .. } | Self::Delete)
    }

    /// Whether it is a message. Notices are about the present and are never replayed.
    #[inline]
    pub fn is_message(&self) -> bool {
        matches!(self, Self::Message { .. })
    }
}

//! Permissions: the rules of a channel allow or forbid actions of sessions, in every dialect. The back end
//! may do everything.
//!
//! Most channels allow everybody everything. Such a channel is asked one question: whether it is such a
//! channel.

use super::Engine;
use crate::{
    app::{OptionsWord, SignedInMessages, Who},
    channel::Channel,
    command::Publish,
    dialect,
    error::ReplyError,
    id::{AppId, SessionId, SessionSlot},
    publication::{Audience, WithoutUser},
};

/// The receivers of an allowed publication.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Reach {
    /// The audience that the sender gives.
    AsSaid,
    /// The signed-in members of the audience that the sender gives.
    SignedIn,
    /// The session that the sender names. The sender is told if the session is no member.
    Confirmed,
}

impl Reach {
    /// Whom a session's publication is for that is said to be for `said`; `None`: for everyone.
    #[inline]
    pub(super) fn audience(self, said: Option<&Audience>, except_session: Option<SessionId>) -> Audience {
        let mut audience = match said {
            None => Audience { except_session, ..Audience::default() },
            Some(said) => Audience { except_session, ..said.clone() },
        };
        if self == Self::SignedIn {
            audience.without_user = WithoutUser::Excluded;
        }
        audience
    }
}

impl Engine {
    /// Refuses a publication that the session may not send to the channel. The channel need not exist.
    #[inline]
    pub(super) fn check_publish(
        &self,
        slot: SessionSlot,
        app: AppId,
        channel: Option<&Channel>,
        publish: &Publish<'_>,
    ) -> Result<Reach, ReplyError> {
        let Some(name) = publish.channel else { return Ok(Reach::AsSaid) };
        let word = self.rules(app, name, channel);
        let audience = publish.audience.as_deref();
        if word.is_open_to_senders() && audience.is_none() {
            return Ok(Reach::AsSaid);
        }
        self.check_rules(slot, word, channel, audience)
    }

    #[cold]
    fn check_rules(
        &self,
        slot: SessionSlot,
        word: OptionsWord,
        channel: Option<&Channel>,
        audience: Option<&Audience>,
    ) -> Result<Reach, ReplyError> {
        if word.wants_membership() && !self.is_member(slot, channel) {
            return Err(ReplyError::MembershipRequired);
        }
        if audience.is_some_and(|audience| audience.only_session.is_some()) {
            self.check_who(slot, word.direct())?;
            let is_confirmed = dialect::reports_absence(self.sessions.output(slot).format);
            return Ok(if is_confirmed { Reach::Confirmed } else { Reach::AsSaid });
        }
        let is_user = self.check_who(slot, Who::Users).is_ok();
        let for_signed_in = audience.is_some_and(|audience| audience.without_user == WithoutUser::Excluded);
        match word.signed_in_messages() {
            SignedInMessages::Always if is_user => return Ok(Reach::SignedIn),
            SignedInMessages::Never if for_signed_in => return Err(ReplyError::NotAllowed),
            _ if for_signed_in => self.check_who(slot, Who::Users)?,
            _ => {}
        }
        self.check_who(slot, word.publish()).map(|()| Reach::AsSaid)
    }

    /// Refuses a session that may not join the channel, and so may not read it.
    pub(super) fn check_join(&self, slot: SessionSlot, app: AppId, name: &str) -> Result<(), ReplyError> {
        let word = self.node.table.find(app, name, |channel| channel.options());
        self.check_join_of(slot, word.unwrap_or_else(|| self.rules(app, name, None)))
    }

    /// As [`Engine::check_join`], of a channel with these options.
    #[inline]
    pub(super) fn check_join_of(&self, slot: SessionSlot, word: OptionsWord) -> Result<(), ReplyError> {
        self.check_who(slot, word.join()).map_err(|error| match error {
            ReplyError::SessionRequired => ReplyError::UsersOnly,
            other => other,
        })
    }

    /// Refuses a session that may not read the channel: a session that may not join it, or, in a dialect that
    /// lets only members read, a session that has not joined it.
    pub(super) fn check_reader(&self, slot: SessionSlot, app: AppId, name: &str) -> Result<(), ReplyError> {
        self.check_join(slot, app, name)?;
        if !dialect::reads_as_member(self.sessions.output(slot).format) {
            return Ok(());
        }
        let channel = self.node.channel(app, Some(name));
        if self.is_member(slot, channel.as_deref()) { Ok(()) } else { Err(ReplyError::MembershipRequired) }
    }

    /// Refuses a session that may not edit messages of the channel.
    pub(super) fn check_edit(&self, slot: SessionSlot, app: AppId, name: &str) -> Result<(), ReplyError> {
        let word = self.node.table.find(app, name, |channel| channel.options());
        let Some(word) = word else { return Ok(()) };
        let is_user = self.check_who(slot, Who::Users).is_ok();
        let always = word.signed_in_messages() == SignedInMessages::Always && is_user;
        if always { Ok(()) } else { self.check_who(slot, word.publish()) }
    }

    /// The rules of a channel. The channel need not exist.
    #[inline]
    pub(super) fn rules(&self, app: AppId, name: &str, channel: Option<&Channel>) -> OptionsWord {
        channel.map_or_else(|| self.node.options(self.apps.of(app), name).into(), Channel::options)
    }

    fn is_member(&self, slot: SessionSlot, channel: Option<&Channel>) -> bool {
        let part = channel.and_then(|channel| channel.local(self.worker));
        part.is_some_and(|part| self.sessions.get(slot).memberships.find(part).is_some())
    }

    fn check_who(&self, slot: SessionSlot, who: Who) -> Result<(), ReplyError> {
        match who {
            Who::Anybody => Ok(()),
            Who::Users => self.sessions.get(slot).check_user(self.now_ms),
            Who::Nobody => Err(ReplyError::NotAllowed),
        }
    }
}

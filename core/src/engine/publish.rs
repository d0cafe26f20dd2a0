//! Executing commands: checks first, then the deed. Nothing is done when a check refuses.

use std::{slice, sync::Arc};

use arrayvec::ArrayVec;

use super::{
    Engine,
    check::{check_change, check_channel, check_message},
    membership::JoinAs,
    permission::Reach,
    presence::MembershipEvent,
    session::Verdict,
    submit::{ChannelOp, Submitted},
    waiting::Progress,
};
use crate::{
    app::App,
    channel::{Change, Channel, Viewer},
    command::{ChangeMessage, Command, Outcome, Publish},
    disconnect::Disconnect,
    error::ReplyError,
    id::{AppId, LocalId, SessionId, SessionSlot},
    limits::BURST,
    publication::{Audience, Payload, Publication, Sender, WithoutUser},
};

impl Engine {
    /// Executes a session's command.
    pub(super) fn execute(
        &mut self,
        slot: SessionSlot,
        command: Command<'_>,
    ) -> Result<Progress, ReplyError> {
        self.work += 1;
        let app = self.apps.of(self.sessions.get(slot).app).clone();
        match command {
            Command::Publish(publish) => {
                self.publish_for(slot, &publish, &mut slice::from_ref(&publish.payload))
            }
            Command::Join { .. } | Command::Update { .. } if self.node.is_saturated() => {
                self.counters.overloaded += 1;
                Err(ReplyError::Overloaded)
            }
            Command::Join { channel, echo, since, notices } => {
                check_channel(&app, channel)?;
                self.join(slot, channel, JoinAs { echo, since, notices })
            }
            Command::Change(change) => {
                self.may_write(slot, &app)?;
                check_change(&app, &change)?;
                if !app.sender_edits {
                    return Err(ReplyError::EditNotAllowed);
                }
                self.check_edit(slot, app.id, change.channel)?;
                let steady_ms = self.steady_ms;
                let session = self.sessions.get_mut(slot);
                session.take_messages(1, &app.limits, steady_ms)?;
                let by = Some((session.id(slot), session.user.clone()));
                self.ask_for_change(app.id, change.channel, owned_change(&change, by))
            }
            Command::History { channel, from, limit } => {
                check_channel(&app, channel)?;
                self.check_join(slot, app.id, channel)?;
                let reader = Viewer::User(self.sessions.get(slot).user.clone());
                Ok(self.history(app.id, channel, from, limit, reader))
            }
            Command::Leave { channel, echo } => {
                check_channel(&app, channel)?;
                Ok(self.leave(slot, channel, echo))
            }
            Command::Update { profile, echo } => {
                self.may_write(slot, &app)?;
                if profile.len() > app.limits.profile_bytes {
                    return Err(ReplyError::ProfileTooLarge);
                }
                Ok(self.update(slot, profile, echo))
            }
            Command::Users { channel, limit, after } => {
                check_channel(&app, channel)?;
                self.check_join(slot, app.id, channel)?;
                Ok(self.users_of(app.id, channel, limit, after))
            }
            Command::Roster { channel } => {
                check_channel(&app, channel)?;
                self.check_join(slot, app.id, channel)?;
                Ok(self.roster(app.id, channel))
            }
            Command::Members { channel, limit, after } => {
                check_channel(&app, channel)?;
                self.check_join(slot, app.id, channel)?;
                self.members(app.id, channel, limit, after)
            }
            Command::Session { token } => self.renew(slot, &app, token).map(Progress::Finished),
            Command::Ping => Ok(Progress::Finished(Outcome::Pong { time_ms: self.now_ms })),
            Command::End { why } => {
                self.disconnects.push((self.sessions.hot(slot).connection, why));
                Ok(Progress::Finished(Outcome::Disconnected { sessions: 1 }))
            }
        }
    }

    /// Publishes for a session: `payloads`, of which there are at most [`BURST`], each the way `publish`
    /// says. If the sender's allowance is not enough for all, they are cut to what it is enough for. The
    /// result is for all that are left.
    pub(super) fn publish_for(
        &mut self,
        slot: SessionSlot,
        publish: &Publish<'_>,
        payloads: &mut &[Payload<'_>],
    ) -> Result<Progress, ReplyError> {
        let (now_ms, steady_ms) = (self.now_ms, self.steady_ms);
        let (session, app) = {
            let session = self.sessions.get_mut(slot);
            let app = self.apps.of(session.app);
            (session, app)
        };
        session.may_write(app.session_required, now_ms)?;
        check_message(app, publish, payloads)?;
        let app_id = app.id;
        let target = match publish.channel.and_then(|name| self.own_channel(slot, name)) {
            Some(own) => Some(own),
            None => self.target(app_id, publish.channel),
        };
        let reach = self.check_publish(slot, app_id, target.as_deref(), publish)?;
        let app = self.apps.of(app_id);
        let session = self.sessions.get_mut(slot);
        *payloads = &payloads[..session.take_messages(payloads.len(), &app.limits, steady_ms)?];
        let id = session.id(slot);
        let shown = app.show_sender;
        let with_profile = app.shows_profiles();
        let remembered = shown || app.sender_edits || with_profile;
        let user = if remembered { session.user.clone() } else { None };
        let profile = if with_profile { session.profile.clone() } else { None };
        let (of_user, with) = (user.as_deref(), profile.as_ref());
        let sender = remembered.then_some(Sender { session: id, user: of_user, profile: with, shown });
        let except_session = if publish.echo.unwrap_or(session.echo) { None } else { Some(id) };
        let mut audience = match &publish.audience {
            None => Audience { except_session, ..Audience::default() },
            Some(audience) => Audience { except_session, ..(**audience).clone() },
        };
        if reach == Reach::SignedIn {
            audience.without_user = WithoutUser::Excluded;
        }
        self.publish(app_id, target, (publish, payloads), (&audience, sender))
    }

    fn may_write(&self, slot: SessionSlot, app: &App) -> Result<(), ReplyError> {
        self.sessions.get(slot).may_write(app.session_required, self.now_ms)
    }

    /// The channel of this name, if the session is in few and it is among them: so it need not be looked for
    /// among all.
    fn own_channel(&self, slot: SessionSlot, name: &str) -> Option<Arc<Channel>> {
        const FEW: usize = 2;
        let memberships = self.sessions.get(slot).memberships.as_slice();
        let own = memberships.iter().take(FEW).map(|membership| &self.channels[membership.local].channel);
        own.into_iter().find(|own| own.name() == Some(name) && !own.lock.is_closed()).cloned()
    }

    /// Where to publish: the channel, if there is one, or the app's broadcast stream.
    pub(super) fn target(&self, app: AppId, channel: Option<&str>) -> Option<Arc<Channel>> {
        match channel {
            Some(name) => self.node.table.find(app, name, Clone::clone),
            None => Some(self.node.broadcast(app).clone()),
        }
    }

    /// Publishes `payloads` to `target`, which is the channel or broadcast stream that `publish` names, if
    /// there is one. The outcome is that of the last.
    pub(super) fn publish(
        &mut self,
        app: AppId,
        target: Option<Arc<Channel>>,
        (publish, payloads): (&Publish<'_>, &[Payload<'_>]),
        (audience, sender): (&Audience, Option<Sender<'_>>),
    ) -> Result<Progress, ReplyError> {
        let mut publications = ArrayVec::<_, BURST>::new();
        for payload in payloads {
            let id = self.ids.message_id(self.now_ms);
            let publication = Publication::message(id, publish.event, *payload);
            publications.push(Publication { audience, sender, kept: publish.history, ..publication });
        }
        self.carry(app, target, publish, &mut publications)
    }

    /// Carries publications to `target`, all for one audience. The outcome is that of the last.
    #[inline]
    pub(super) fn carry(
        &mut self,
        app: AppId,
        mut target: Option<Arc<Channel>>,
        publish: &Publish<'_>,
        publications: &mut [Publication<'_>],
    ) -> Result<Progress, ReplyError> {
        let count = publications.len() as u64;
        self.counters.publications += count;
        let &Publication { id: last, audience, .. } = publications.last().expect("there is at least one");
        let outcome = |offset| match publish.channel {
            Some(_) => Outcome::Sent { message_id: last, offset },
            None => Outcome::Broadcast { message_id: last },
        };
        // What names its receivers comes alone.
        if let &mut [publication] = publications
            && Self::is_direct(publish.channel, audience)
        {
            self.publish_direct(app, &Publication { kept: false, ..publication })?;
            return Ok(Progress::Finished(outcome(None)));
        }
        loop {
            let keeps = publish.history && audience.only_session.is_none();
            if target.is_none()
                && let Some(name) = publish.channel.filter(|_| keeps)
                && self.node.options(app, name).history.is_on()
            {
                target = Some(self.node.find_or_create(app, name));
            }
            let Some(channel) = target else { return Ok(Progress::Finished(outcome(None))) };
            match self.submit_inline(
                &channel,
                ChannelOp { publications: &mut *publications, ..ChannelOp::default() },
            ) {
                Submitted::Done { receipt, .. } => return Ok(Progress::Finished(outcome(receipt.offset))),
                Submitted::Waiting(ticket) => {
                    return Ok(Progress::Waiting { ticket, outcome: outcome(None) });
                }
                Submitted::Refused(error) => {
                    self.counters.overloaded += count;
                    return Err(error);
                }
                // Whoever closed it also takes it out of the table; helping keeps us from waiting for that.
                Submitted::Closed => self.node.table.remove(&channel),
            }
            target = self.target(app, publish.channel);
        }
    }

    /// Sets a session's profile and tells every channel it is in.
    fn update(&mut self, slot: SessionSlot, profile: &str, echo: Option<bool>) -> Progress {
        let session = self.sessions.get_mut(slot);
        session.profile = Some(profile.into());
        let echo = echo.unwrap_or(session.echo);
        let parts: Vec<LocalId> = session.memberships.as_slice().iter().map(|m| m.local).collect();
        let mut last = None;
        for part in parts {
            if self.channels[part].channel.announces() {
                last =
                    self.change_membership(part, slot, None, Some(MembershipEvent::Updates), echo).or(last);
            }
        }
        match last {
            Some(ticket) => Progress::Waiting { ticket, outcome: Outcome::Updated },
            None => Progress::Finished(Outcome::Updated),
        }
    }

    /// Puts a fresh token in the place of the present one.
    fn renew(&mut self, slot: SessionSlot, app: &App, token: &str) -> Result<Outcome, ReplyError> {
        self.sessions.get_mut(slot).tokens.take(self.steady_ms / 1000)?;
        let claims = match self.verify_session(app, token) {
            Ok(claims) => {
                self.sessions.get_mut(slot).tokens.succeed();
                claims
            }
            Err(_) => {
                let (hot, session) = self.sessions.both(slot);
                if session.tokens.fail() == Verdict::Disconnect {
                    self.disconnects.push((hot.connection, Disconnect::BadTokens));
                }
                return Err(ReplyError::InvalidSession);
            }
        };
        let session = self.sessions.get_mut(slot);
        match &session.user {
            Some(user) if **user != *claims.user => return Err(ReplyError::InvalidSession),
            Some(_) => {}
            None => {
                session.user = Some(claims.user.clone());
                self.users.insert(app.id, claims.user.clone(), slot);
                let memberships = self.sessions.get(slot).memberships.as_slice();
                for part in memberships.iter().map(|membership| membership.local).collect::<Vec<_>>() {
                    self.change_membership(part, slot, None, Some(MembershipEvent::SignsIn), false);
                }
            }
        }
        let session = self.sessions.get_mut(slot);
        session.expires_at = claims.expires_at;
        let leeway = app.sessions.leeway_seconds();
        let expires_at = claims.expires_at.map(|end| end.saturating_sub(leeway));
        Ok(Outcome::Session { user: claims.user, expires_at })
    }
}

/// The change of a message, as its channel keeps it.
pub(super) fn owned_change(change: &ChangeMessage<'_>, by: Option<(SessionId, Option<Arc<str>>)>) -> Change {
    let ChangeMessage { id, payload, audience, .. } = change;
    Change { id: *id, payload: payload.map(Into::into), audience: audience.clone(), by }
}

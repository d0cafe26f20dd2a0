//! Executing commands: checks first, then the deed. Nothing is done when a check refuses.

use std::{slice, sync::Arc};

use arrayvec::ArrayVec;

use super::{
    Engine,
    check::{check_change, check_channel, check_message},
    membership::JoinAs,
    permission::Reach,
    presence::{Echo, MembershipEvent},
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
    publication::{Audience, Payload, Publication, Sender},
    trigger::Origin,
};

impl Engine {
    /// Executes a session's command.
    pub(super) fn execute(
        &mut self,
        slot: SessionSlot,
        command: Command<'_>,
    ) -> Result<Progress, ReplyError> {
        self.work += 1;
        let app = self.sessions.get(slot).app;
        match command {
            Command::Publish(publish) => {
                self.publish_for(slot, &publish, &mut slice::from_ref(&publish.payload))
            }
            Command::Join { .. } | Command::Update { .. } if self.node.is_saturated() => {
                self.counters.overloaded += 1;
                Err(ReplyError::Overloaded)
            }
            Command::Join { channel, echo, since, notices, payload } => {
                check_channel(self.apps.of(app), channel)?;
                self.ask_to_join(slot, channel, payload, JoinAs { echo, since, notices })
            }
            Command::Change(change) => {
                let configured = self.apps.of(app).clone();
                self.may_change(slot, &configured, &change)?;
                let steady_ms = self.steady_ms;
                let session = self.sessions.get_mut(slot);
                session.take_messages(1, &configured.limits, steady_ms)?;
                if let Some(called) = self.call_for_change(&configured, Some(slot), &change) {
                    return called;
                }
                let session = self.sessions.get(slot);
                let by = Some((session.id(slot), session.user.clone()));
                self.ask_for_change(app, change.channel, owned_change(&change, by))
            }
            Command::History { channel, from, limit } => {
                check_channel(self.apps.of(app), channel)?;
                self.check_reader(slot, app, channel)?;
                let reader = Viewer::User(self.sessions.get(slot).user.clone());
                Ok(self.history(app, channel, from, limit, reader))
            }
            Command::Leave { channel, echo } => {
                check_channel(self.apps.of(app), channel)?;
                Ok(self.leave(slot, channel, echo))
            }
            Command::Update { profile, echo } => {
                let configured = self.apps.of(app);
                self.may_write(slot, configured)?;
                if profile.len() > configured.limits.profile_bytes {
                    return Err(ReplyError::ProfileTooLarge);
                }
                Ok(self.update(slot, profile, echo))
            }
            Command::Users { channel, limit, after } => {
                check_channel(self.apps.of(app), channel)?;
                self.check_join(slot, app, channel)?;
                Ok(self.users_of(app, channel, limit, after))
            }
            Command::Roster { channel } => {
                check_channel(self.apps.of(app), channel)?;
                self.check_reader(slot, app, channel)?;
                Ok(self.roster(app, channel))
            }
            Command::Members { channel, limit, after } => {
                check_channel(self.apps.of(app), channel)?;
                self.check_join(slot, app, channel)?;
                let viewer = Viewer::User(self.sessions.get(slot).user.clone());
                self.members(app, channel, limit, after, &viewer)
            }
            Command::Session { token } => {
                let configured = self.apps.of(app).clone();
                self.renew(slot, &configured, token).map(Progress::Finished)
            }
            Command::Ping => Ok(Progress::Finished(Outcome::Pong { time_ms: self.now_ms })),
            Command::End { why } => {
                self.disconnects.push((self.sessions.hot(slot).connection, why));
                Ok(Progress::Finished(Outcome::Disconnected { sessions: 1 }))
            }
        }
    }

    /// Publishes `payloads` for a session, each in the way of `publish`. There are at most [`BURST`]
    /// payloads. If the sender's allowance is too small for all payloads, only the first ones are published.
    /// The result is for the published ones.
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
            None => self.node.channel(app_id, publish.channel),
        };
        if !self.batches.is_empty()
            && let Some(part) = target.as_ref().and_then(|channel| channel.local(self.worker))
        {
            self.publish_batch_of(part, slot);
        }
        let reach = self.check_publish(slot, app_id, target.as_deref(), publish)?;
        if self.node.has_triggers(app_id) {
            let run = self.run_for(app_id, publish, target.as_deref(), Origin::Session);
            if run.is_some() || self.has_calls(slot) {
                *payloads = &payloads[..1];
                return self.call_for_publish(slot, run, publish, payloads[0], reach);
            }
        }
        let app = self.apps.of(app_id);
        let session = self.sessions.get_mut(slot);
        *payloads = &payloads[..session.take_messages(payloads.len(), &app.limits, steady_ms)?];
        let id = session.id(slot);
        let user = if app.remembers_senders() { session.user.clone() } else { None };
        let profile = if app.shows_profiles() { session.profile.clone() } else { None };
        let sender = sender_of(app, id, user.as_deref(), profile.as_ref());
        let except_session = if publish.echo.unwrap_or(session.echo) { None } else { Some(id) };
        let audience = reach.audience(publish.audience.as_deref(), except_session);
        let published = self.publish(app_id, target, (publish, payloads), (&audience, sender));
        if reach == Reach::Confirmed { self.confirm(app_id, publish, published) } else { published }
    }

    pub(super) fn may_write(&self, slot: SessionSlot, app: &App) -> Result<(), ReplyError> {
        self.sessions.get(slot).may_write(app.session_required, self.now_ms)
    }

    /// Whether a session may change a message, as far as the check is possible outside the message's channel.
    pub(super) fn may_change(
        &self,
        slot: SessionSlot,
        app: &App,
        change: &ChangeMessage<'_>,
    ) -> Result<(), ReplyError> {
        self.may_write(slot, app)?;
        check_change(app, change)?;
        if !app.sender_edits {
            return Err(ReplyError::EditNotAllowed);
        }
        self.check_edit(slot, app.id, change.channel)
    }

    /// The channel of this name, if it is among the first memberships of the session. The look-up in the
    /// table is then saved.
    fn own_channel(&self, slot: SessionSlot, name: &str) -> Option<Arc<Channel>> {
        const FEW: usize = 2;
        let memberships = self.sessions.get(slot).memberships.as_slice();
        let own = memberships.iter().take(FEW).map(|membership| &self.channels[membership.local].channel);
        own.into_iter().find(|own| own.name() == Some(name) && !own.lock.is_closed()).cloned()
    }

    /// Publishes `payloads` to `target`, the channel or the broadcast stream that `publish` names, if
    /// `target` exists. The outcome is that of the last payload.
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

    /// Carries publications with one audience to `target`. The outcome is that of the last publication.
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
        self.counted(app).published(count);
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
                && self.node.options(self.apps.of(app), name).history.is_on()
            {
                target = Some(self.node.find_or_create(self.apps.of(app), name));
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
            target = self.node.channel(app, publish.channel);
        }
    }

    /// Sets a session's profile and tells every channel it is in.
    pub(super) fn update(&mut self, slot: SessionSlot, profile: &str, echo: Option<bool>) -> Progress {
        self.sessions.change(slot, |session| session.profile = Some(profile.into()));
        let session = self.sessions.get(slot);
        let echo = Echo::of(echo, session);
        let parts: Vec<LocalId> = session.memberships.as_slice().iter().map(|m| m.local).collect();
        let mut last = None;
        for part in parts {
            let what = MembershipEvent::Updates;
            match self.channels[part].channel.announces() {
                true => last = self.change_membership(part, slot, None, Some(what), echo).or(last),
                false => self.note_member_change(part, slot, what),
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
                self.sessions.change(slot, |session| session.user = Some(claims.user.clone()));
                self.users.insert(app.id, claims.user.clone(), slot);
                let memberships = self.sessions.get(slot).memberships.as_slice();
                for part in memberships.iter().map(|membership| membership.local).collect::<Vec<_>>() {
                    self.change_membership(part, slot, None, Some(MembershipEvent::SignsIn), Echo::Unwanted);
                }
            }
        }
        self.set_token_id(slot, claims.id);
        let session = self.sessions.get_mut(slot);
        session.expires_at = claims.expires_at;
        let leeway = app.sessions.leeway_seconds();
        let expires_at = claims.expires_at.map(|end| end.saturating_sub(leeway));
        Ok(Outcome::Session { user: claims.user, expires_at })
    }
}

/// The sender of a message, if messages of the app have one.
#[inline]
pub(super) fn sender_of<'a>(
    app: &App,
    session: SessionId,
    user: Option<&'a str>,
    profile: Option<&'a Arc<str>>,
) -> Option<Sender<'a>> {
    let profile = profile.filter(|_| app.shows_profiles());
    app.remembers_senders().then_some(Sender { session, user, profile, shown: app.show_sender })
}

/// The change of a message in the form that its channel keeps.
pub(super) fn owned_change(change: &ChangeMessage<'_>, by: Option<(SessionId, Option<Arc<str>>)>) -> Change {
    let ChangeMessage { id, payload, audience, .. } = change;
    Change { id: *id, payload: payload.map(Into::into), audience: audience.clone(), by }
}

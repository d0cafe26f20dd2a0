//! Executing commands: checks first, then the deed. Nothing is done when a check refuses.

use super::{
    Engine,
    members::Progress,
    operate::{Operated, Waiter, Waiting},
};
use crate::{
    app::App,
    command::{Command, Cursor, Outcome},
    dialect,
    error::ReplyError,
    id::{AppId, SessionId},
    publication::{Audience, Kind, Payload, Publication},
};

impl Engine {
    /// Executes a session's command.
    pub(super) fn execute(&mut self, slot: u32, command: Command<'_>) -> Result<Progress, ReplyError> {
        let app = self.hub.app(self.sessions.get(slot).app).clone();
        match command {
            Command::Publish { channel, event, payload, echo } => {
                self.may_write(slot, &app)?;
                check_message(&app, channel, event, payload)?;
                if let Some(name) = channel.filter(|_| app.membership_to_send)
                    && !self.is_member(slot, app.id, name)
                {
                    return Err(ReplyError::MembershipRequired);
                }
                let now_ms = self.now_ms;
                let session = self.sessions.get_mut(slot);
                if let Err(error) = session.take_message(&app.limits, now_ms) {
                    self.counters.rate_limited += 1;
                    return Err(error);
                }
                let sender = (!echo.unwrap_or(session.echo)).then(|| session.id(slot));
                self.publish(app.id, channel, event, payload, sender)
            }
            Command::Join { .. } | Command::Update { .. } if self.hub.is_swamped() => {
                self.counters.overloaded += 1;
                Err(ReplyError::Overloaded)
            }
            Command::Join { channel, echo } => {
                check_channel(&app, channel)?;
                self.join(slot, channel, echo)
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
                Ok(self.update(slot, &app, profile, echo))
            }
            Command::Members { channel, limit, after } => {
                check_channel(&app, channel)?;
                self.members(app.id, channel, limit, after)
            }
            Command::Session { token } => self.renew(slot, &app, token).map(Progress::Finished),
            Command::Ping => Ok(Progress::Finished(Outcome::Pong { time_ms: self.now_ms })),
        }
    }

    /// Publishes for an app's back end. `None`: the answer comes later, under `token`, from
    /// [`Engine::take_answers`].
    pub fn request_publish(
        &mut self,
        app: AppId,
        channel: Option<&str>,
        event: &str,
        payload: Payload<'_>,
        token: u64,
    ) -> Option<Result<Outcome, ReplyError>> {
        self.counters.commands += 1;
        let progress = check_message(self.hub.app(app), channel, event, payload)
            .and_then(|()| self.publish(app, channel, event, payload, None));
        self.settle_request(progress, token)
    }

    /// A page of members for an app's back end; answers as [`Engine::request_publish`] does.
    pub fn request_members(
        &mut self,
        app: AppId,
        channel: &str,
        limit: usize,
        after: Option<Cursor>,
        token: u64,
    ) -> Option<Result<Outcome, ReplyError>> {
        self.counters.commands += 1;
        let progress =
            check_channel(self.hub.app(app), channel).and_then(|()| self.members(app, channel, limit, after));
        self.settle_request(progress, token)
    }

    pub(super) fn settle_request(
        &mut self,
        progress: Result<Progress, ReplyError>,
        token: u64,
    ) -> Option<Result<Outcome, ReplyError>> {
        match progress {
            Ok(Progress::Finished(outcome)) => Some(Ok(outcome)),
            Ok(Progress::Waiting { ticket, outcome }) => {
                self.waiting.insert(ticket, Waiting { outcome, who: Waiter::Request(token) });
                None
            }
            Err(error) => {
                self.counters.command_errors += 1;
                Some(Err(error))
            }
        }
    }

    fn may_write(&self, slot: u32, app: &App) -> Result<(), ReplyError> {
        self.sessions.get(slot).may_write(app.session_required, self.now_ms)
    }

    fn is_member(&self, slot: u32, app: AppId, channel: &str) -> bool {
        let part = self.hub.table.find(app, channel, |channel| channel.local(self.worker)).flatten();
        part.is_some_and(|part| self.sessions.get(slot).memberships.find(part).is_some())
    }

    /// Publishes to a channel or to everyone; `without` is a sender that wants no echo.
    fn publish(
        &mut self,
        app: AppId,
        channel: Option<&str>,
        event: &str,
        payload: Payload<'_>,
        without: Option<SessionId>,
    ) -> Result<Progress, ReplyError> {
        let id = self.ids.message_id(self.now_ms);
        let audience = Audience { except_session: without, ..Audience::default() };
        let kind = Kind::Message;
        let publication = Publication { id, kind, offset: None, event, payload, audience: &audience };
        self.counters.publications += 1;
        loop {
            let target = match channel {
                Some(name) => self.hub.table.find(app, name, Clone::clone),
                None => Some(self.hub.broadcast(app).clone()),
            };
            let outcome = |offset| match channel {
                Some(_) => Outcome::Sent { message_id: id, offset },
                None => Outcome::Broadcast { message_id: id },
            };
            let Some(target) = target else { return Ok(Progress::Finished(outcome(None))) };
            match self.operate(&target, None, Some(publication)) {
                Operated::Done { receipt } => return Ok(Progress::Finished(outcome(receipt.offset))),
                Operated::Waiting(ticket) => return Ok(Progress::Waiting { ticket, outcome: outcome(None) }),
                Operated::Overloaded => {
                    self.counters.overloaded += 1;
                    return Err(ReplyError::Overloaded);
                }
                // Whoever closed it also takes it out of the table; helping keeps us from waiting for that.
                Operated::Closed => self.hub.table.remove(&target),
            }
        }
    }

    /// Sets a session's profile and tells every channel it is in.
    fn update(&mut self, slot: u32, app: &App, profile: &str, echo: Option<bool>) -> Progress {
        let session = self.sessions.get_mut(slot);
        session.profile = Some(profile.into());
        let echo = echo.unwrap_or(session.echo);
        let parts: Vec<u32> = session.memberships.as_slice().iter().map(|m| m.local).collect();
        let mut last = None;
        if app.announce {
            for part in parts {
                last = self.change_membership(part, slot, None, Some(Kind::Update), echo).or(last);
            }
        }
        match last {
            Some(ticket) => Progress::Waiting { ticket, outcome: Outcome::Updated },
            None => Progress::Finished(Outcome::Updated),
        }
    }

    /// Puts a fresh token in the place of the present one.
    fn renew(&mut self, slot: u32, app: &App, token: &str) -> Result<Outcome, ReplyError> {
        let claims = app.verify_session(token, self.now_ms / 1000).map_err(|_| ReplyError::InvalidSession)?;
        let session = self.sessions.get_mut(slot);
        match &session.user {
            Some(user) if **user != *claims.user => return Err(ReplyError::InvalidSession),
            Some(_) => {}
            None => {
                session.user = Some(claims.user.clone());
                self.users.entry((app.id, claims.user.clone())).or_default().push(slot);
            }
        }
        let session = self.sessions.get_mut(slot);
        session.expires_at = claims.expires_at;
        let leeway = app.sessions.leeway_seconds();
        let expires_at = claims.expires_at.map(|end| end.saturating_sub(leeway));
        Ok(Outcome::Session { user: claims.user, expires_at })
    }

    /// A member as JSON, for notices: `{"id","user"?,"data"?}`.
    pub(super) fn member_payload(&mut self, slot: u32) -> String {
        let session = self.sessions.get(slot);
        self.scratch.clear();
        dialect::put_member(&mut self.scratch, session.id(slot), session.user(), session.profile.as_deref());
        String::from_utf8(self.scratch.to_vec()).expect("JSON is UTF-8")
    }

    /// A presence notice with this payload.
    pub(super) fn notice<'a>(
        &mut self,
        kind: Kind,
        payload: &'a str,
        audience: &'a Audience,
    ) -> Publication<'a> {
        self.counters.notices += 1;
        let event = match kind {
            Kind::Join => "channel:join",
            Kind::Leave => "channel:leave",
            Kind::Update => "channel:update",
            Kind::Message => unreachable!("a message is no notice"),
        };
        let id = self.ids.message_id(self.now_ms);
        Publication { id, kind, offset: None, event, payload: Payload::Json(payload), audience }
    }
}

/// Prefix of the events that belong to the server.
const RESERVED_EVENTS: &str = "channel:";

fn check_channel(app: &App, channel: &str) -> Result<(), ReplyError> {
    let fits = (1..=app.limits.channel_name_bytes).contains(&channel.len());
    fits.then_some(()).ok_or(ReplyError::InvalidChannel)
}

fn check_message(
    app: &App,
    channel: Option<&str>,
    event: &str,
    payload: Payload<'_>,
) -> Result<(), ReplyError> {
    if let Some(channel) = channel {
        check_channel(app, channel)?;
    }
    if !(1..=app.limits.event_name_bytes).contains(&event.len()) {
        return Err(ReplyError::InvalidEvent);
    }
    if event.starts_with(RESERVED_EVENTS) {
        return Err(ReplyError::ReservedEvent);
    }
    if payload.len() > app.limits.message_bytes {
        return Err(ReplyError::MessageTooLarge);
    }
    Ok(())
}

//! Requests of an app's back end: checks them, and then executes them as commands of a session.

use std::{slice, sync::Arc};

use super::{
    Engine,
    check::{check_change, check_channel, check_given, check_message, check_payload},
    publish::owned_change,
    referral::Referral,
    user_state::Telling,
    waiting::Progress,
};
use crate::{
    channel::{Amendment, UserAnnouncement, Viewer},
    command::{AmendMessage, BackEndCommand, Outcome, Publish, PublishAs},
    disconnect::Disconnect,
    error::ReplyError,
    id::AppId,
    publication::{Audience, EVERYONE, Given, GivenTime, OwnedPayload, Payload, Publication},
    trigger::Triggers,
};

impl Engine {
    /// Executes a command of an app's back end. `None` if the answer comes later from
    /// [`Engine::take_answers`], under `token`.
    pub fn request(
        &mut self,
        app: AppId,
        command: BackEndCommand<'_>,
        token: u64,
    ) -> Option<Result<Outcome, ReplyError>> {
        self.counters.commands += 1;
        let progress = self.execute_request(app, command);
        self.finish_request(progress, token)
    }

    fn execute_request(&mut self, app: AppId, command: BackEndCommand<'_>) -> Result<Progress, ReplyError> {
        match command {
            BackEndCommand::Publish { publish, idempotency_key: None } => self.publish_request(app, &publish),
            BackEndCommand::Publish { publish, idempotency_key: Some(key) } => {
                self.publish_once(app, key, &publish)
            }
            BackEndCommand::PublishAs(publish) => self.publish_as(app, publish),
            BackEndCommand::PublishToUser { user, event, payload, note } => {
                let publish = Publish::new(None, event, payload);
                self.publish_to(app, (user, note), &publish, Triggers::Run)
            }
            BackEndCommand::Amend(amend) => self.amend(app, amend),
            BackEndCommand::Judge(judge) => self.judge(app, &judge),
            BackEndCommand::Change(change) => {
                let configured = self.apps.of(app).clone();
                check_change(&configured, &change)?;
                if let Some(called) = self.call_for_change(&configured, None, &change) {
                    return called;
                }
                self.ask_for_change(app, change.channel, owned_change(&change, None))
            }
            BackEndCommand::Members { channel, limit, after } => {
                check_channel(self.apps.of(app), channel)?;
                self.members(app, channel, limit, after, &Viewer::BackEnd)
            }
            BackEndCommand::AllMembers(channel) => {
                check_channel(self.apps.of(app), channel)?;
                self.all_members(app, channel)
            }
            BackEndCommand::Users { channel, limit, after } => {
                check_channel(self.apps.of(app), channel)?;
                Ok(self.users_of(app, channel, limit, after))
            }
            BackEndCommand::History { channel, from, limit } => {
                check_channel(self.apps.of(app), channel)?;
                Ok(self.history(app, channel, from, limit, Viewer::BackEnd))
            }
            BackEndCommand::Channels { prefix, limit, after } => {
                let page = self.channels_of(app, prefix, limit, after)?;
                Ok(Progress::Finished(Outcome::Channels(page)))
            }
            BackEndCommand::Options { channel } => {
                check_channel(self.apps.of(app), channel)?;
                let options = self.node.options(self.apps.of(app), channel);
                Ok(Progress::Finished(Outcome::Options { channel: channel.into(), options }))
            }
            BackEndCommand::SetOptions { channel, change, only_new } => {
                let configured = self.apps.of(app);
                check_channel(configured, channel)?;
                let options = change.apply(configured.channel_options(channel));
                if only_new && !self.is_first_to_set(app, channel, options)? {
                    let options = self.node.options(self.apps.of(app), channel);
                    return Ok(Progress::Finished(Outcome::Options { channel: channel.into(), options }));
                }
                self.set_options(app, channel, options)
            }
            BackEndCommand::SetUser { user, change, announce } => {
                let telling = if announce { Telling::Members } else { Telling::Nobody };
                self.set_user(app, user, &change, telling)
            }
            BackEndCommand::AnnounceUser { user, version, changed } => {
                let (user, changed) = (user.into(), changed.into());
                self.announce_user(app, UserAnnouncement { user, version, changed });
                Ok(Progress::Finished(Outcome::Done))
            }
            BackEndCommand::User { user } => Ok(Progress::Finished(self.user(app, user))),
            BackEndCommand::Sessions { user, limit, after } => self.sessions_of(app, user, limit, after),
            BackEndCommand::Watch { channel, after } => {
                check_channel(self.apps.of(app), channel)?;
                Ok(Progress::Finished(Outcome::Watched(self.watch(app, channel, after))))
            }
            BackEndCommand::Disconnect { whom, reconnect } => {
                self.disconnect(app, whom, Disconnect::ByServer { reconnect })
            }
            BackEndCommand::Revoke { tokens, for_s } => self.revoke(app, tokens, for_s),
            BackEndCommand::Enroll { session, channel, membership } => {
                check_channel(self.apps.of(app), channel)?;
                self.enroll_session(app, session, channel, membership)
            }
            BackEndCommand::Reconfigure => self.reconfigure(app),
            BackEndCommand::SetProfile { session, profile } => self.set_profile(app, session, profile),
            BackEndCommand::Tell { channel, audience, words } => self.tell(app, channel, &audience, &words),
        }
    }

    /// Publishes a message with the id, the time and the name that its back end gives.
    pub(super) fn publish_as(
        &mut self,
        app: AppId,
        publish_as: PublishAs<'_>,
    ) -> Result<Progress, ReplyError> {
        let PublishAs { publish, id, mut given, only_existing, triggers } = publish_as;
        let payloads = slice::from_ref(&publish.payload);
        check_message(self.apps.of(app), &publish, payloads)?;
        check_given(self.apps.of(app), publish.payload, &given)?;
        let referral = || Referral::PublishAs { id, given: given.clone(), only_existing };
        if triggers == Triggers::Run
            && let Some(called) = self.refer(app, &publish, referral)
        {
            return called;
        }
        let made = self.ids.message_id(self.now_ms);
        let id = id.unwrap_or(made);
        match &mut given.time {
            Some(time) => time.unix_ms = time.unix_ms.min(self.now_ms),
            None if id != made => {
                let text = self.now_ms.to_string().into();
                given.time = Some(GivenTime { unix_ms: self.now_ms, text });
            }
            None => {}
        }
        let given = (given != Given::default()).then(|| Arc::new(given));
        let mut target = self.node.channel(app, publish.channel);
        if let (None, Some(name), true) = (&target, publish.channel, only_existing) {
            if !self.node.is_configured(app, name) {
                return Ok(Progress::Finished(Outcome::Sent { message_id: id, offset: None }));
            }
            target = Some(self.node.find_or_create(self.apps.of(app), name));
        }
        let message = Publication::message(id, publish.event, publish.payload);
        let audience = publish.audience.as_deref().unwrap_or(&EVERYONE);
        let message = Publication { audience, given: given.as_ref(), kept: publish.history, ..message };
        self.carry(app, target, &publish, &mut [message])
    }

    /// Publishes to the sessions of a user.
    pub(super) fn publish_to(
        &mut self,
        app: AppId,
        (user, note): (&str, Option<Box<str>>),
        publish: &Publish<'_>,
        triggers: Triggers,
    ) -> Result<Progress, ReplyError> {
        check_message(self.apps.of(app), publish, slice::from_ref(&publish.payload))?;
        let audience = Audience { only_users: Some(Arc::new([user.into()])), ..Audience::default() };
        if triggers == Triggers::Run && self.node.has_triggers(app) {
            let direct = Publish { audience: Some(Box::new(audience.clone())), ..publish.clone() };
            let referral = || Referral::ToUser { user: user.into(), note: note.clone() };
            if let Some(called) = self.refer(app, &direct, referral) {
                return called;
            }
        }
        self.counters.publications += 1;
        self.counted(app).published(1);
        let given = note.map(|note| Arc::new(Given { note: Some(note), ..Given::default() }));
        let message = Publication::message(self.ids.message_id(self.now_ms), publish.event, publish.payload);
        let message = Publication { audience: &audience, given: given.as_ref(), ..message };
        self.publish_to_user(app, user, Arc::new(message.into()))
    }

    /// Changes a message if its channel remembers it, and tells the change's audience in any case.
    pub(super) fn amend(&mut self, app: AppId, amend: AmendMessage<'_>) -> Result<Progress, ReplyError> {
        let AmendMessage { channel, id, deletes, payload, audience, given, triggers } = amend;
        let configured = self.apps.of(app);
        if let Some(payload) = payload {
            check_payload(configured, payload)?;
        }
        check_given(configured, payload.unwrap_or(Payload::Json("")), &given)?;
        channel.map_or(Ok(()), |channel| check_channel(configured, channel))?;
        if triggers == Triggers::Run
            && self.node.has_triggers(app)
            && let Some(payload) = payload
        {
            let edit =
                Publish { audience: Some(Box::new(audience.clone())), ..Publish::new(channel, "", payload) };
            let referral = || Referral::Amend { id, audience: audience.clone(), given: given.clone() };
            if let Some(called) = self.refer(app, &edit, referral) {
                return called;
            }
        }
        let payload = payload.map(OwnedPayload::from);
        let amendment = Amendment { id, deletes, payload, audience, given: Arc::new(given) };
        match channel {
            Some(channel) => self.ask_to_amend(app, channel, &amendment),
            None if Self::is_direct(None, &amendment.audience) => {
                self.publish_direct(app, &amendment.publication(None, self.now_ms))?;
                Ok(Progress::Finished(Outcome::Broadcast { message_id: id }))
            }
            None => Err(ReplyError::InvalidCommand("A change without channel names its users.")),
        }
    }

    fn publish_request(&mut self, app: AppId, publish: &Publish<'_>) -> Result<Progress, ReplyError> {
        check_message(self.apps.of(app), publish, slice::from_ref(&publish.payload))?;
        self.publish_checked(app, publish)
    }

    /// Publishes what no check has refused.
    pub(super) fn publish_checked(
        &mut self,
        app: AppId,
        publish: &Publish<'_>,
    ) -> Result<Progress, ReplyError> {
        let payloads = slice::from_ref(&publish.payload);
        let target = self.node.channel(app, publish.channel);
        if let Some(called) = self.call_for_request(app, publish, target.as_deref()) {
            return called;
        }
        let audience = publish.audience.as_deref().unwrap_or(&EVERYONE);
        self.publish(app, target, (publish, payloads), (audience, None))
    }
}

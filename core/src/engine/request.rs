//! Requests of an app's back end: checks first, then the same work as for a session's commands.

use std::slice;

use super::{
    Engine,
    check::{check_change, check_channel, check_message},
    publish::owned_change,
    waiting::Progress,
};
use crate::{
    channel::Viewer,
    command::{BackEndCommand, Outcome, Publish},
    error::ReplyError,
    id::AppId,
    publication::EVERYONE,
};

impl Engine {
    /// Executes a command of an app's back end. `None`: the answer comes later, under `token`, from
    /// [`Engine::take_answers`].
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
            BackEndCommand::Change(change) => {
                let configured = self.node.app(app).clone();
                check_change(&configured, &change)?;
                if let Some(called) = self.call_for_change(&configured, None, &change) {
                    return called;
                }
                self.ask_for_change(app, change.channel, owned_change(&change, None))
            }
            BackEndCommand::Members { channel, limit, after } => {
                check_channel(self.node.app(app), channel)?;
                self.members(app, channel, limit, after)
            }
            BackEndCommand::Users { channel, limit, after } => {
                check_channel(self.node.app(app), channel)?;
                Ok(self.users_of(app, channel, limit, after))
            }
            BackEndCommand::History { channel, from, limit } => {
                check_channel(self.node.app(app), channel)?;
                Ok(self.history(app, channel, from, limit, Viewer::BackEnd))
            }
            BackEndCommand::Channels { prefix, limit, after } => {
                let page = self.channels_of(app, prefix, limit, after)?;
                Ok(Progress::Finished(Outcome::Channels(page)))
            }
            BackEndCommand::Options { channel } => {
                check_channel(self.node.app(app), channel)?;
                let options = self.node.options(app, channel);
                Ok(Progress::Finished(Outcome::Options { channel: channel.into(), options }))
            }
            BackEndCommand::SetOptions { channel, change } => {
                let configured = self.node.app(app);
                check_channel(configured, channel)?;
                let options = change.apply(configured.channel_options(channel));
                self.set_options(app, channel, options)
            }
            BackEndCommand::Sessions { user, limit, after } => self.sessions_of(app, user, limit, after),
            BackEndCommand::Disconnect { whom, reconnect } => Ok(self.disconnect(app, whom, reconnect)),
        }
    }

    fn publish_request(&mut self, app: AppId, publish: &Publish<'_>) -> Result<Progress, ReplyError> {
        let payloads = slice::from_ref(&publish.payload);
        check_message(self.node.app(app), publish, payloads)?;
        let target = self.target(app, publish.channel);
        if let Some(called) = self.call_for_request(app, publish, target.as_deref()) {
            return called;
        }
        let audience = publish.audience.as_deref().unwrap_or(&EVERYONE);
        self.publish(app, target, (publish, payloads), (audience, None))
    }
}

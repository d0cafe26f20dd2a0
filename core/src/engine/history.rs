//! Requests to a channel's history, users and options, and what histories cost.

use std::sync::atomic::{Ordering, fence};

use super::{
    Engine,
    submit::{ChannelOp, Submitted},
    waiting::Progress,
};
use crate::{
    app::ChannelOptions,
    channel::{Bounds, Change, ChannelReply, ChannelRequest, Page, PageStart, Viewer},
    command::{Outcome, UsersPage},
    error::ReplyError,
    id::AppId,
    limits::PAGE_BYTES,
};

impl Engine {
    /// Carries a change to the channel of its message.
    pub(super) fn ask_for_change(
        &mut self,
        app: AppId,
        name: &str,
        change: Change,
    ) -> Result<Progress, ReplyError> {
        let mut outcome = Outcome::Sent { message_id: change.id, offset: None };
        loop {
            let channel = self.node.channel(app, Some(name)).ok_or(ReplyError::UnknownMessage)?;
            let request = Some(Box::new(ChannelRequest::Change(Box::new(change.clone()))));
            match self.submit(&channel, ChannelOp { request, ..ChannelOp::default() }) {
                Submitted::Done { receipt, .. } => {
                    if let Outcome::Sent { offset, .. } = &mut outcome {
                        *offset = receipt.offset;
                    }
                    return Ok(Progress::Finished(outcome));
                }
                Submitted::Waiting(ticket) => return Ok(Progress::Waiting { ticket, outcome }),
                Submitted::Closed => self.node.table.remove(&channel),
                Submitted::Refused(error) => return Err(error),
            }
        }
    }

    /// A channel's history cost `before` bytes and costs `now`.
    pub(super) fn account(&mut self, app: AppId, before: usize, now: usize) {
        if self.node.account(app, before, now) > self.node.app(app).limits.history_bytes {
            self.evictor.ask_for(app);
        }
    }

    /// A page of what a channel remembers.
    pub(super) fn history(
        &mut self,
        app: AppId,
        name: &str,
        from: PageStart,
        messages: usize,
        reader: Viewer,
    ) -> Progress {
        let mut outcome = Outcome::History { channel: name.into(), position: None, page: Page::default() };
        loop {
            let Some(channel) = self.node.channel(app, Some(name)) else {
                return Progress::Finished(outcome);
            };
            let bounds = Bounds { messages, bytes: PAGE_BYTES };
            let request = Some(Box::new(ChannelRequest::Page { from, bounds, reader: reader.clone() }));
            match self.submit(&channel, ChannelOp { request, ..ChannelOp::default() }) {
                Submitted::Done { receipt, reply } => {
                    if let (Outcome::History { position, page, .. }, Some(ChannelReply::Page(read))) =
                        (&mut outcome, reply)
                    {
                        *position = Some(receipt.position);
                        *page = read;
                    }
                    return Progress::Finished(outcome);
                }
                Submitted::Waiting(ticket) => return Progress::Waiting { ticket, outcome },
                Submitted::Closed => self.node.table.remove(&channel),
                Submitted::Refused(_) => unreachable!("reading is not refused"),
            }
        }
    }

    /// A page of a channel's users.
    pub(super) fn users_of(&mut self, app: AppId, name: &str, limit: usize, after: Option<&str>) -> Progress {
        let mut users = UsersPage { channel: name.into(), total: 0, users: Vec::new(), next: None };
        loop {
            let Some(channel) = self.node.channel(app, Some(name)) else {
                return Progress::Finished(Outcome::Users(users));
            };
            let request = Some(Box::new(ChannelRequest::Users { after: after.map(Into::into), limit }));
            match self.submit(&channel, ChannelOp { request, ..ChannelOp::default() }) {
                Submitted::Done { reply, .. } => {
                    if let Some(ChannelReply::Users(page, total, more)) = reply {
                        users.fill(page, total, more);
                    }
                    return Progress::Finished(Outcome::Users(users));
                }
                Submitted::Waiting(ticket) => {
                    return Progress::Waiting { ticket, outcome: Outcome::Users(users) };
                }
                Submitted::Closed => self.node.table.remove(&channel),
                Submitted::Refused(_) => unreachable!("reading is not refused"),
            }
        }
    }

    /// A page of users for an app's back end; answers as [`Engine::request_publish`] does.
    pub fn request_users(
        &mut self,
        app: AppId,
        channel: &str,
        limit: usize,
        after: Option<&str>,
        token: u64,
    ) -> Option<Result<Outcome, ReplyError>> {
        self.counters.commands += 1;
        let progress = super::check::check_channel(self.node.app(app), channel)
            .map(|()| self.users_of(app, channel, limit, after));
        self.finish_request(progress, token)
    }

    /// What the options of a channel are, or would be if it came into being.
    pub fn options(&self, app: AppId, channel: &str) -> Result<Outcome, ReplyError> {
        super::check::check_channel(self.node.app(app), channel)?;
        Ok(Outcome::Options { channel: channel.into(), options: self.node.options(app, channel) })
    }

    /// Sets the options of a channel, whether it exists or not; `None`: those of the configuration. Answers as
    /// [`Engine::request_publish`] does.
    pub fn request_set_options(
        &mut self,
        app: AppId,
        channel: &str,
        options: Option<ChannelOptions>,
        token: u64,
    ) -> Option<Result<Outcome, ReplyError>> {
        self.counters.commands += 1;
        let progress = super::check::check_channel(self.node.app(app), channel)
            .and_then(|()| self.set_options(app, channel, options));
        self.finish_request(progress, token)
    }

    fn set_options(
        &mut self,
        app: AppId,
        name: &str,
        options: Option<ChannelOptions>,
    ) -> Result<Progress, ReplyError> {
        let resolved = self.node.resolve_options(app, name, options);
        let outcome = Outcome::Options { channel: name.into(), options: resolved };
        loop {
            let Some(channel) = self.node.channel(app, Some(name)) else {
                self.node.set_options(app, name, options)?;
                // Pairs with the fence in `Inside::options`: a channel that has come into being meanwhile either takes these
                // options with its first operation, or is found now.
                fence(Ordering::SeqCst);
                if self.node.channel(app, Some(name)).is_none() {
                    return Ok(Progress::Finished(outcome));
                }
                continue;
            };
            let request = Some(Box::new(ChannelRequest::SetOptions(options)));
            match self.submit(&channel, ChannelOp { request, ..ChannelOp::default() }) {
                Submitted::Done { .. } => return Ok(Progress::Finished(outcome)),
                Submitted::Waiting(ticket) => return Ok(Progress::Waiting { ticket, outcome }),
                Submitted::Closed => self.node.table.remove(&channel),
                Submitted::Refused(error) => return Err(error),
            }
        }
    }

    /// A page of history for an app's back end; answers as [`Engine::request_publish`] does.
    pub fn request_history(
        &mut self,
        app: AppId,
        channel: &str,
        from: PageStart,
        limit: usize,
        token: u64,
    ) -> Option<Result<Outcome, ReplyError>> {
        self.counters.commands += 1;
        let progress = super::check::check_channel(self.node.app(app), channel)
            .map(|()| self.history(app, channel, from, limit, Viewer::BackEnd));
        self.finish_request(progress, token)
    }
}

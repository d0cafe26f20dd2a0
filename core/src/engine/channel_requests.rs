//! Requests to a channel's history, users and options, and what histories cost.

use std::sync::atomic::{Ordering, fence};

use super::{
    Engine,
    submit::{ChannelOp, Submitted},
    waiting::Progress,
};
use crate::{
    app::ChannelOptions,
    channel::{Amendment, Bounds, Change, ChannelReply, ChannelRequest, Page, PageStart, Viewer},
    command::{Outcome, UsersPage},
    error::ReplyError,
    id::{AppId, MessageId},
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
        let message_id = change.id;
        let change = || ChannelRequest::Change(Box::new(change.clone()));
        changed(message_id, self.submit_request(app, name, change).ok_or(ReplyError::UnknownMessage)?)
    }

    /// Sends an amendment to the channel of its message. If the channel does not exist, no channel gets the
    /// amendment.
    pub(super) fn ask_to_amend(
        &mut self,
        app: AppId,
        name: &str,
        amendment: &Amendment,
    ) -> Result<Progress, ReplyError> {
        let message_id = amendment.id;
        let request = || ChannelRequest::Amend(Box::new(amendment.clone()));
        match self.submit_request(app, name, request) {
            Some(submitted) => changed(message_id, submitted),
            None => Ok(Progress::Finished(Outcome::Sent { message_id, offset: None })),
        }
    }

    /// Carries a request to the channel of this name, if there is one. `request` makes it anew for each
    /// channel that closes before it is accepted.
    pub(super) fn submit_request(
        &mut self,
        app: AppId,
        name: &str,
        request: impl Fn() -> ChannelRequest,
    ) -> Option<Submitted> {
        loop {
            let channel = self.node.channel(app, Some(name))?;
            let request = Some(Box::new(request()));
            match self.submit(&channel, ChannelOp { request, ..ChannelOp::default() }) {
                // Whoever closed it also takes it out of the table; helping keeps us from waiting for that.
                Submitted::Closed => self.node.table.remove(&channel),
                submitted => return Some(submitted),
            }
        }
    }

    /// A channel's history cost `before` bytes and costs `now`.
    pub(super) fn account(&mut self, app: AppId, before: usize, now: usize) {
        if self.node.account(app, before, now) > self.apps.of(app).limits.history_bytes {
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
        let outcome = |position, page| Outcome::History { channel: name.into(), position, page };
        let bounds = Bounds { messages, bytes: PAGE_BYTES };
        let request = || ChannelRequest::Page { from, bounds, reader: reader.clone() };
        match self.submit_request(app, name, request) {
            Some(Submitted::Done { receipt, reply: Some(ChannelReply::Page(page)) }) => {
                Progress::Finished(outcome(Some(receipt.position), page))
            }
            Some(Submitted::Waiting(ticket)) => {
                Progress::Waiting { ticket, outcome: outcome(None, Page::default()) }
            }
            None => Progress::Finished(outcome(None, Page::default())),
            Some(_) => unreachable!("reading is not refused, and a page is its reply"),
        }
    }

    /// A page of a channel's users.
    pub(super) fn users_of(&mut self, app: AppId, name: &str, limit: usize, after: Option<&str>) -> Progress {
        let mut users = UsersPage { channel: name.into(), total: 0, users: Vec::new(), next: None };
        let request = || ChannelRequest::Users { after: after.map(Into::into), limit };
        match self.submit_request(app, name, request) {
            Some(Submitted::Done { reply: Some(ChannelReply::Users(page, total, more)), .. }) => {
                users.fill(page, total, more);
                Progress::Finished(Outcome::Users(users))
            }
            Some(Submitted::Waiting(ticket)) => Progress::Waiting { ticket, outcome: Outcome::Users(users) },
            None => Progress::Finished(Outcome::Users(users)),
            Some(_) => unreachable!("reading is not refused, and users are its reply"),
        }
    }

    /// Sets the options of a channel that does not exist. Returns false if the channel exists.
    pub(super) fn is_first_to_set(
        &mut self,
        app: AppId,
        name: &str,
        options: Option<ChannelOptions>,
    ) -> Result<bool, ReplyError> {
        let Some(options) = options else { return Ok(false) };
        if self.node.channel(app, Some(name)).is_some() {
            return Ok(false);
        }
        self.node.set_first_options(app, name, options)
    }

    /// Sets the options of a channel, which need not exist; `None` restores the configured options.
    pub(super) fn set_options(
        &mut self,
        app: AppId,
        name: &str,
        options: Option<ChannelOptions>,
    ) -> Result<Progress, ReplyError> {
        let resolved = options.unwrap_or_else(|| self.apps.of(app).channel_options(name));
        let outcome = Outcome::Options { channel: name.into(), options: resolved };
        loop {
            match self.submit_request(app, name, || ChannelRequest::SetOptions(options)) {
                Some(Submitted::Done { .. }) => return Ok(Progress::Finished(outcome)),
                Some(Submitted::Waiting(ticket)) => return Ok(Progress::Waiting { ticket, outcome }),
                Some(Submitted::Refused(error)) => return Err(error),
                Some(Submitted::Closed) => unreachable!("a closed channel is looked up again"),
                None => self.node.set_options(app, name, options)?,
            }
            // Pairs with the fence in `Inside::changed_options`: a channel that has come into being meanwhile
            // either takes these options with its first operation, or is found now.
            fence(Ordering::SeqCst);
            if self.node.channel(app, Some(name)).is_none() {
                return Ok(Progress::Finished(outcome));
            }
        }
    }
}

/// What comes of a change of this message.
fn changed(message_id: MessageId, submitted: Submitted) -> Result<Progress, ReplyError> {
    match submitted {
        Submitted::Done { receipt, .. } => {
            Ok(Progress::Finished(Outcome::Sent { message_id, offset: receipt.offset }))
        }
        Submitted::Waiting(ticket) => {
            Ok(Progress::Waiting { ticket, outcome: Outcome::Sent { message_id, offset: None } })
        }
        Submitted::Refused(error) => Err(error),
        Submitted::Closed => unreachable!("a closed channel is looked up again"),
    }
}

//! Requests inside a channel's order: reading what it remembers, and what that costs.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::{
    Engine,
    submit::{ChannelOp, Submitted},
    waiting::Progress,
};
use crate::{
    app::ChannelOptions,
    channel::{
        Bounds, Change, Channel, ChannelReply, ChannelRequest, ChannelState, History, Page, PageStart, Viewer,
    },
    command::{Outcome, UsersPage},
    error::ReplyError,
    id::AppId,
    limits::PAGE_BYTES,
    publication::{Audience, OwnedPayload, Publication},
};

impl Engine {
    /// Does what a request asks for. Runs inside the channel's order.
    pub(super) fn serve(
        &mut self,
        channel: &Arc<Channel>,
        state: &mut ChannelState,
        request: ChannelRequest,
    ) -> Result<ChannelReply, ReplyError> {
        if let Some(history) = &mut state.history {
            history.expire(self.now_ms);
            self.account(channel, state);
            state.deserted = state.is_forgotten(self.now_ms);
        }
        let history = state.history.as_deref();
        let reply = match request {
            ChannelRequest::Page { from, bounds, reader } => ChannelReply::Page(
                history.map(|history| history.page(from, bounds, &reader)).unwrap_or_default(),
            ),
            ChannelRequest::CatchUp { since, bounds, reader } if since <= state.offset => {
                ChannelReply::CaughtUp(history.and_then(|history| history.catch_up(since, bounds, &reader)))
            }
            ChannelRequest::CatchUp { .. } => ChannelReply::CaughtUp(None),
            ChannelRequest::Trim(bytes) => {
                if let Some(history) = &mut state.history {
                    let forgotten = history.trim(bytes);
                    self.count_forgotten(channel.app(), forgotten);
                    self.account(channel, state);
                }
                ChannelReply::Done
            }
            ChannelRequest::SetOptions(options) => {
                channel.set_options(state, options, self.now_ms)?;
                self.account(channel, state);
                ChannelReply::Done
            }
            ChannelRequest::Users { after, limit } => {
                let users = state.users.as_deref();
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let mut rest = users
                    .into_iter()
                    .flat_map(|users| users.range::<Box<str>, _>((from.clone(), Bound::Unbounded)));
                let page = rest.by_ref().take(limit).map(|(user, count)| (user.clone(), *count)).collect();
                let more = rest.next().is_some();
                ChannelReply::Users(page, users.map_or(0, BTreeMap::len), more)
            }
            ChannelRequest::Change(change) => ChannelReply::Changed(self.change(channel, state, &change)?),
        };
        Ok(reply)
    }

    /// Edits or deletes a message. Returns the offset of that.
    fn change(
        &mut self,
        channel: &Arc<Channel>,
        state: &mut ChannelState,
        change: &Change,
    ) -> Result<u64, ReplyError> {
        self.check_mailboxes(state)?;
        let history = state.history.as_mut().ok_or(ReplyError::UnknownMessage)?;
        let old = history.find(change.id).ok_or(ReplyError::UnknownMessage)?;
        if !change.is_allowed(old.sender) {
            return Err(ReplyError::EditNotAllowed);
        }
        state.sequence += 1;
        state.offset += 1;
        channel.set_offset(state.offset);
        let payload = change.payload.as_ref().map(OwnedPayload::view);
        let (audience, lost) = (change.audience.as_ref(), history.lost(change.id));
        let changed = Arc::new(old.changed(state.offset, payload, audience, lost, self.now_ms));
        history.change(changed.clone());
        self.account(channel, state);
        self.counters.changes += 1;
        if let Some(loss) = changed.loss(state.offset) {
            // A message that is for one session from now on is lost to others of its user.
            let audience =
                Audience { except_session: changed.audience().only_session, ..loss.audience.clone() };
            self.distribute(channel, state, false, &Publication { audience: &audience, ..loss }, None);
            state.sequence += 1;
        }
        self.distribute(channel, state, false, &changed.view(), Some(changed.clone()));
        Ok(state.offset)
    }

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

    /// Tells everybody what a channel's history costs. Runs inside its order.
    #[inline]
    pub(super) fn account(&mut self, channel: &Channel, state: &ChannelState) {
        let over = |history: &History| state.interest.is_empty() && history.is_over(self.now_ms);
        let now =
            state.history.as_ref().filter(|history| !over(history)).map_or(0, |history| history.bytes());
        // Once the ring is full it costs the same after most messages.
        if now != channel.remembered() {
            self.account_change(channel, now);
        }
    }

    fn account_change(&mut self, channel: &Channel, now: usize) {
        let total = self.node.account(channel.app(), channel.remembered(), now);
        channel.set_remembered(now);
        if total > self.node.app(channel.app()).limits.history_bytes {
            self.evictor.ask_for(channel.app());
        }
    }

    /// Whether the app remembers far too much, or would with so many bytes more.
    pub(super) fn over_budget(&self, app: AppId, more: usize) -> bool {
        let limit = self.node.app(app).limits.history_bytes;
        self.node.remembered(app) + more > limit + limit / 8
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
        // First for whoever comes into being from now on, and then for the one that is there.
        let before = self.node.set_options(app, name, options)?;
        let options = self.node.options(app, name);
        let outcome = Outcome::Options { channel: name.into(), options };
        loop {
            let Some(channel) = self.node.channel(app, Some(name)) else {
                return Ok(Progress::Finished(outcome));
            };
            let request = Some(Box::new(ChannelRequest::SetOptions(options)));
            match self.submit(&channel, ChannelOp { request, ..ChannelOp::default() }) {
                Submitted::Done { .. } => return Ok(Progress::Finished(outcome)),
                Submitted::Waiting(ticket) => return Ok(Progress::Waiting { ticket, outcome }),
                Submitted::Closed => self.node.table.remove(&channel),
                Submitted::Refused(error) => {
                    self.node.set_options(app, name, before)?;
                    return Err(error);
                }
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

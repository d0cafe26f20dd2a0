//! Presence: notices about members and users.

use std::sync::Arc;

use bytes::BytesMut;

use super::Engine;
use crate::{
    channel::{Channel, ChannelState, Presence},
    dialect,
    id::SessionSlot,
    json::write_string,
    publication::{Audience, Kind, Payload, Publication},
};

impl Engine {
    /// Counts a user's sessions, and tells of the first and the last.
    pub(super) fn count_user(
        &mut self,
        channel: &Arc<Channel>,
        state: &mut ChannelState,
        presence: &Presence,
    ) {
        let Some(users) = &mut state.users else { return };
        let Presence { user, joins, except } = presence;
        let count = users.get(&**user).copied().unwrap_or_default();
        let now = if *joins { count + 1 } else { count.saturating_sub(1) };
        match now {
            0 => users.remove(&**user),
            now => users.insert((&**user).into(), now),
        };
        let kind = match (count, now) {
            (0, 1) => Kind::UserJoin,
            (1, 0) => Kind::UserLeave,
            _ => return,
        };
        let mut payload = BytesMut::from(&b"{\"user\":"[..]);
        write_string(&mut payload, user);
        payload.extend_from_slice(b"}");
        let payload = String::from_utf8(payload.to_vec()).expect("JSON is UTF-8");
        let audience = Audience { except_session: *except, ..Audience::default() };
        let notice = self.notice(kind, &payload, &audience);
        state.sequence += 1;
        self.distribute(channel, state, false, &notice, None);
    }

    /// A member as JSON, for notices: `{"id","user"?,"data"?}`.
    pub(super) fn member_payload(&mut self, slot: SessionSlot) -> String {
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
            Kind::UserJoin => "channel:user_join",
            Kind::UserLeave => "channel:user_leave",
            Kind::Message | Kind::Edit | Kind::Delete => unreachable!("a message is no notice"),
        };
        let id = self.ids.message_id(self.now_ms);
        Publication { audience, ..Publication::new(id, kind, event, Payload::Json(payload)) }
    }
}

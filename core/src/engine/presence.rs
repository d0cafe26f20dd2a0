//! Presence: notices about members and users.

use std::sync::Arc;

use bytes::BytesMut;

use super::Engine;
use crate::{
    channel::Presence,
    dialect,
    id::SessionSlot,
    json::write_string,
    publication::{Audience, Kind, OwnedPublication, Payload, Publication},
};

impl Engine {
    /// The notice of a user's first session in a channel or last.
    pub(super) fn user_notice(&mut self, kind: Kind, presence: &Presence) -> Arc<OwnedPublication> {
        let mut payload = BytesMut::from(&b"{\"user\":"[..]);
        write_string(&mut payload, &presence.user);
        payload.extend_from_slice(b"}");
        let payload = String::from_utf8(payload.to_vec()).expect("JSON is UTF-8");
        let audience = Audience { except_session: presence.except, ..Audience::default() };
        Arc::new(self.notice(kind, &payload, &audience).into())
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

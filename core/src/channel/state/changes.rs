//! Edits and deletions, as a channel applies them.

use std::sync::Arc;

use super::{ChannelState, Env};
use crate::{
    channel::{Amendment, Change, Channel},
    error::ReplyError,
    publication::{Audience, OwnedPayload, OwnedPublication, Publication},
};

impl ChannelState {
    /// Edits or deletes a message. Returns the offset of the change.
    pub(super) fn change(
        &mut self,
        channel: &Channel,
        change: &Change,
        env: &mut impl Env,
    ) -> Result<u64, ReplyError> {
        self.check_mailboxes(env)?;
        let history = self.history.as_mut().ok_or(ReplyError::UnknownMessage)?;
        let old = history.find(change.id).ok_or(ReplyError::UnknownMessage)?;
        if !change.is_allowed(old.sender) {
            return Err(ReplyError::EditNotAllowed);
        }
        self.offset += 1;
        channel.set_offset(self.offset);
        let payload = change.payload.as_ref().map(OwnedPayload::view);
        let (audience, lost) = (change.audience.as_ref(), history.lost(change.id));
        let changed = Arc::new(old.changed(self.offset, payload, audience, lost, env.now_ms()));
        history.change(changed.clone());
        self.account(channel, env);
        env.count_change();
        if let Some(loss) = changed.loss(self.offset) {
            // A message that is for one session after the change is lost to other sessions of its user.
            let audience =
                Audience { except_session: changed.audience().only_session, ..loss.audience.clone() };
            self.tell(&Publication { audience: &audience, ..loss }, None, env);
        }
        self.tell(&changed.view(), Some(changed.clone()), env);
        Ok(self.offset)
    }

    /// Edits or deletes a message if the channel remembers it, and tells the change's audience in any case.
    /// Returns the change's offset; the change of a message that the channel does not remember takes no
    /// offset.
    pub(super) fn amend(
        &mut self,
        channel: &Channel,
        amendment: &Amendment,
        env: &mut impl Env,
    ) -> Result<Option<u64>, ReplyError> {
        self.check_mailboxes(env)?;
        let now_ms = env.now_ms();
        let old = self.history.as_ref().and_then(|history| history.find(amendment.id));
        let Some(old) = old else {
            self.tell(&amendment.publication(None, now_ms), None, env);
            return Ok(None);
        };
        let told = amendment.publication(Some(&old), now_ms);
        let offset = self.offset + 1;
        let told: Arc<OwnedPublication> =
            Arc::new(Publication { offset: Some(offset), kept: old.kept, ..told }.into());
        let payload = amendment.payload.as_ref().map(OwnedPayload::view).filter(|_| !amendment.deletes);
        let lost = self.history.as_ref().map_or(&[][..], |history| history.lost(amendment.id));
        let now = Arc::new(old.amended(offset, payload, &amendment.given, lost, amendment.at_ms(now_ms)));
        self.offset = offset;
        channel.set_offset(offset);
        if let Some(history) = &mut self.history {
            history.change(now);
        }
        self.account(channel, env);
        env.count_change();
        self.tell(&told.view(), Some(told.clone()), env);
        Ok(Some(offset))
    }
}

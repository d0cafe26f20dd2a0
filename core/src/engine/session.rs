//! Sessions of one worker: the identity behind a connection, which may outlive it.
//!
//! A session knows its app, its user, its profile and its memberships. It does not know sockets or bytes on
//! the wire.

use core::net::IpAddr;
use std::sync::Arc;

use super::{
    memory::{block, text_bytes},
    outbox::Outbox,
    output::{Segments, SessionOutput},
    terms::Terms,
    window::Window,
};
use crate::{
    app::AppLimits,
    channel::Channel,
    error::ReplyError,
    id::{AppId, LocalId, Nonce, SessionId, SessionSlot, WorkerId},
    limits::{BAD_TOKENS, TOKENS_PER_SECOND},
    publication::IdentityCard,
    slots::Slots,
};

/// One session.
pub(super) struct Session {
    pub(super) nonce: Nonce,
    pub(super) worker: WorkerId,
    pub(super) app: AppId,
    /// The connection's default.
    pub(super) echo: bool,
    pub(super) user: Option<Arc<str>>,
    /// When the token ends, in Unix seconds; `None` without token, or if it has no end.
    pub(super) expires_at: Option<u64>,
    pub(super) profile: Option<Arc<str>>,
    pub(super) memberships: Memberships,
    /// Its join number in the app's broadcast stream.
    pub(super) broadcast_number: u64,
    rate: Rate,
    pub(super) tokens: TokenAllowance,
    rare: Option<Box<Rare>>,
}

/// What few sessions have.
#[derive(Default)]
struct Rare {
    /// What a congested session lost.
    missed: Missed,
    /// What its client may not have received, if the session can be resumed.
    outbox: Option<Outbox>,
    /// Its commands in flight.
    window: Option<Window>,
    /// What it was admitted with.
    terms: Option<Terms>,
    /// The id of its token.
    token_id: Option<Arc<str>>,
}

impl Rare {
    fn is_empty(&self) -> bool {
        let Self { missed, outbox, window, terms, token_id } = self;
        missed.is_empty() && outbox.is_none() && window.is_none() && terms.is_none() && token_id.is_none()
    }
}

/// Publications lost, by channel.
type Missed = Vec<(Arc<Channel>, u64)>;

impl Session {
    pub(super) fn new(worker: WorkerId, app: AppId, nonce: Nonce, echo: bool) -> Self {
        Self {
            nonce,
            worker,
            app,
            echo,
            user: None,
            expires_at: None,
            profile: None,
            memberships: Memberships::default(),
            broadcast_number: 0,
            rate: Rate::default(),
            tokens: TokenAllowance::default(),
            rare: None,
        }
    }

    pub(super) fn id(&self, slot: SessionSlot) -> SessionId {
        SessionId::new(self.worker, slot, self.nonce)
    }

    /// Who it is, for others.
    pub(super) fn card(&self, slot: SessionSlot) -> IdentityCard {
        IdentityCard { id: self.id(slot), user: self.user.clone(), profile: self.profile.clone() }
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The bytes of its user and its profile.
    fn text_bytes(&self) -> usize {
        text_bytes(self.user()) + text_bytes(self.profile.as_deref())
    }

    /// Whether it may write now, in an app that wants sessions or does not.
    pub(super) fn may_write(&self, required: bool, now_ms: u64) -> Result<(), ReplyError> {
        if required { self.check_user(now_ms) } else { self.check_expiry(now_ms) }
    }

    /// Refuses a session whose token has expired.
    fn check_expiry(&self, now_ms: u64) -> Result<(), ReplyError> {
        match self.expires_at {
            Some(end) if now_ms / 1000 >= end => Err(ReplyError::SessionExpired),
            _ => Ok(()),
        }
    }

    /// Refuses a session without a valid token.
    pub(super) fn check_user(&self, now_ms: u64) -> Result<(), ReplyError> {
        self.check_expiry(now_ms)?;
        let is_user = self.expires_at.is_some() || self.user.is_some();
        if is_user { Ok(()) } else { Err(ReplyError::SessionRequired) }
    }

    /// Takes messages from the allowance: as many as are left, and not none.
    pub(super) fn take_messages(
        &mut self,
        wanted: usize,
        limits: &AppLimits,
        steady_ms: u64,
    ) -> Result<usize, ReplyError> {
        let taken = match limits.messages_per_second {
            0 => wanted,
            rate => (0..wanted).take_while(|_| self.rate.take(rate, steady_ms)).count(),
        };
        if taken == 0 { Err(ReplyError::RateLimited) } else { Ok(taken) }
    }

    /// Counts publications of `channel` that the session lost. A `count` of 0 changes nothing.
    pub(super) fn miss(&mut self, channel: &Arc<Channel>, count: u64) {
        if count == 0 {
            return;
        }
        let missed = &mut self.rare.get_or_insert_default().missed;
        match missed.iter_mut().find(|(of, _)| Arc::ptr_eq(of, channel)) {
            Some((_, total)) => *total += count,
            None => missed.push((channel.clone(), count)),
        }
    }

    /// Number of channels it has lost publications of since it was last told.
    pub(super) fn missed_channels(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.missed.len())
    }

    /// Hands out what it lost since the last time.
    pub(super) fn take_missed(&mut self) -> Missed {
        let missed = self.rare.as_mut().map(|rare| std::mem::take(&mut rare.missed)).unwrap_or_default();
        self.drop_rare();
        missed
    }

    fn drop_rare(&mut self) {
        self.rare.take_if(|rare| rare.is_empty());
    }

    /// What it was admitted with, if that is anything special.
    pub(super) fn terms(&self) -> Option<&Terms> {
        self.rare.as_ref()?.terms.as_ref()
    }

    pub(super) fn set_terms(&mut self, terms: Option<Terms>) {
        if terms.is_some() || self.rare.is_some() {
            self.rare.get_or_insert_default().terms = terms;
            self.drop_rare();
        }
    }

    /// Sets the id of its token. Returns the id before.
    pub(super) fn set_token_id(&mut self, id: Option<Arc<str>>) -> Option<Arc<str>> {
        if id.is_none() && self.rare.is_none() {
            return None;
        }
        let before = std::mem::replace(&mut self.rare.get_or_insert_default().token_id, id);
        self.drop_rare();
        before
    }

    /// The address of its client, if back ends may see it.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.terms()?.address
    }

    /// Its commands in flight; `None`: there are none.
    #[inline]
    pub(super) fn window(&self) -> Option<&Window> {
        self.rare.as_ref()?.window.as_ref()
    }

    /// The same, to be changed.
    pub(super) fn existing_window(&mut self) -> Option<&mut Window> {
        self.rare.as_mut()?.window.as_mut()
    }

    /// Its window, which comes into being if need be.
    pub(super) fn window_mut(&mut self) -> &mut Window {
        self.rare.get_or_insert_default().window.get_or_insert_default()
    }

    /// Takes the window if nothing is in flight any more.
    pub(super) fn take_empty_window(&mut self) -> Option<Window> {
        let window = self.rare.as_mut()?.window.take_if(|window| window.is_empty());
        self.drop_rare();
        window
    }

    /// Records output in the outbox. Returns whether all that waits for its client is still there.
    #[cold]
    #[inline(never)]
    pub(super) fn record(&mut self, mut segments: Segments<'_>) -> bool {
        let Some(outbox) = self.outbox() else { return true };
        segments.all(|(buffer, range)| outbox.record(buffer, range).is_ok())
    }

    /// What its client may not have received.
    pub(super) fn outbox(&mut self) -> Option<&mut Outbox> {
        self.rare.as_mut()?.outbox.as_mut()
    }

    /// From now on its output is kept until it is known to have arrived.
    pub(super) fn set_outbox(&mut self, outbox: Outbox) {
        self.rare.get_or_insert_default().outbox = Some(outbox);
    }
}

/// The allowance of messages: a bucket that holds one second's messages and fills at the app's rate (the
/// generic cell rate algorithm, ITU-T I.371). The bucket is stored as the time in microseconds at which it is
/// full.
#[derive(Default)]
struct Rate {
    full_at_us: u64,
}

impl Rate {
    fn take(&mut self, per_second: u32, steady_ms: u64) -> bool {
        let now_us = steady_ms * 1000;
        let cost_us = 1_000_000 / u64::from(per_second).clamp(1, 1_000_000);
        let full_at_us = self.full_at_us.max(now_us) + cost_us;
        let fits = full_at_us <= now_us + 1_000_000;
        if fits {
            self.full_at_us = full_at_us;
        }
        fits
    }
}

/// The time that a session's tokens may cost the server: the check of a signature takes up to 0.35 ms for
/// each key. Two bytes, which fit into a session's padding.
#[derive(Default)]
pub(super) struct TokenAllowance {
    /// The second, modulo 256, of the last token.
    second: u8,
    /// The tokens of that second in the lower half; in the upper, tokens in a row that did not verify.
    counts: u8,
}

const _: () = assert!(TOKENS_PER_SECOND < 16 && BAD_TOKENS < 16, "each count has four bits");

/// What follows a token that does not verify.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Verdict {
    Refuse,
    Disconnect,
}

impl TokenAllowance {
    /// Whether one more token may be checked.
    pub(super) fn take(&mut self, now_s: u64) -> Result<(), ReplyError> {
        let second = (now_s & 0xff) as u8;
        if second != self.second {
            self.second = second;
            self.counts &= 0xf0;
        }
        if self.bad() >= BAD_TOKENS {
            return Err(ReplyError::InvalidSession);
        }
        if self.counts & 0x0f >= TOKENS_PER_SECOND {
            return Err(ReplyError::TooManyTokens);
        }
        self.counts += 1;
        Ok(())
    }

    /// The token that was taken does not verify.
    pub(super) fn fail(&mut self) -> Verdict {
        if self.bad() < BAD_TOKENS {
            self.counts += 0x10;
        }
        if self.bad() == BAD_TOKENS { Verdict::Disconnect } else { Verdict::Refuse }
    }

    /// The token that was taken verifies.
    pub(super) fn succeed(&mut self) {
        self.counts &= 0x0f;
    }

    fn bad(&self) -> u8 {
        self.counts >> 4
    }
}

/// A session's place in a channel: the worker's part of the channel, and its join number there.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Membership {
    pub(super) local: LocalId,
    pub(super) number: u64,
}

/// Memberships sorted by local part. Most sessions have one, which needs no allocation.
#[derive(Default)]
pub(super) enum Memberships {
    #[default]
    None,
    One(Membership),
    Many(Vec<Membership>),
}

impl Memberships {
    pub(super) fn as_slice(&self) -> &[Membership] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// The bytes of a list of several.
    fn bytes(&self) -> usize {
        match self {
            Self::None | Self::One(_) => 0,
            Self::Many(many) => block(many.capacity() * size_of::<Membership>()),
        }
    }

    pub(super) fn find(&self, local: LocalId) -> Option<Membership> {
        let all = self.as_slice();
        all.binary_search_by_key(&local, |m| m.local).ok().map(|at| all[at])
    }

    /// Adds a membership that is not there yet.
    pub(super) fn insert(&mut self, new: Membership) {
        match self {
            Self::None => *self = Self::One(new),
            Self::One(one) => {
                let mut many = vec![*one, new];
                many.sort_by_key(|m| m.local);
                *self = Self::Many(many);
            }
            Self::Many(many) => {
                let at = many.partition_point(|m| m.local < new.local);
                many.insert(at, new);
            }
        }
    }

    pub(super) fn remove(&mut self, local: LocalId) {
        match self {
            Self::One(one) if one.local == local => *self = Self::None,
            Self::Many(many) => {
                many.retain(|m| m.local != local);
                if many.is_empty() {
                    *self = Self::None;
                }
            }
            _ => {}
        }
    }
}

/// The sessions of a worker, by slot; what fan-out touches lies apart from the rest.
#[derive(Default)]
pub(super) struct Sessions {
    cold: Slots<Session, SessionSlot>,
    /// One for each slot that was ever used.
    hot: Vec<SessionOutput>,
    /// Bytes of users and profiles, and of lists of memberships.
    text_bytes: usize,
    membership_bytes: usize,
}

impl Sessions {
    pub(super) fn insert(&mut self, session: Session, hot: SessionOutput) -> SessionSlot {
        self.text_bytes += session.text_bytes();
        let slot = self.cold.insert(session);
        match self.hot.get_mut(slot.0 as usize) {
            Some(place) => *place = hot,
            None => self.hot.push(hot),
        }
        slot
    }

    pub(super) fn remove(&mut self, slot: SessionSlot) -> Session {
        let session = self.cold.remove(slot);
        self.text_bytes -= session.text_bytes();
        self.membership_bytes -= session.memberships.bytes();
        session
    }

    /// Changes the user or the profile of a session, and keeps the count of their bytes.
    pub(super) fn change<R>(&mut self, slot: SessionSlot, change: impl FnOnce(&mut Session) -> R) -> R {
        let session = &mut self.cold[slot];
        let before = session.text_bytes();
        let result = change(session);
        self.text_bytes = self.text_bytes + session.text_bytes() - before;
        result
    }

    /// Changes the memberships of a session, and keeps the count of their bytes.
    pub(super) fn change_memberships(&mut self, slot: SessionSlot, change: impl FnOnce(&mut Memberships)) {
        let memberships = &mut self.cold[slot].memberships;
        let before = memberships.bytes();
        change(memberships);
        self.membership_bytes = self.membership_bytes + memberships.bytes() - before;
    }

    /// The bytes of all sessions, without their memberships.
    pub(super) fn bytes(&self) -> usize {
        self.cold.bytes() + self.hot.capacity() * size_of::<SessionOutput>() + self.text_bytes
    }

    /// The bytes of lists of memberships.
    pub(super) fn membership_bytes(&self) -> usize {
        self.membership_bytes
    }

    pub(super) fn len(&self) -> usize {
        self.cold.len()
    }

    /// The number of slots that were ever used.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.hot.len()).expect("slots are 32 bits")
    }

    /// Whether the slot has a live session of this app.
    pub(super) fn is_of(&self, slot: SessionSlot, app: AppId) -> bool {
        self.cold.get(slot).is_some_and(|session| session.app == app) && !self.output(slot).is_ended()
    }

    /// Whether the slot has a live session.
    pub(super) fn is_live(&self, slot: SessionSlot) -> bool {
        self.cold.get(slot).is_some() && !self.output(slot).is_ended()
    }

    pub(super) fn get(&self, slot: SessionSlot) -> &Session {
        &self.cold[slot]
    }

    pub(super) fn get_mut(&mut self, slot: SessionSlot) -> &mut Session {
        &mut self.cold[slot]
    }

    pub(super) fn output(&self, slot: SessionSlot) -> &SessionOutput {
        &self.hot[slot.0 as usize]
    }

    pub(super) fn hot(&mut self, slot: SessionSlot) -> &mut SessionOutput {
        &mut self.hot[slot.0 as usize]
    }

    pub(super) fn both(&mut self, slot: SessionSlot) -> (&mut SessionOutput, &mut Session) {
        (&mut self.hot[slot.0 as usize], &mut self.cold[slot])
    }

    /// The slot of the session with this id, if it still lives.
    pub(super) fn find(&self, id: SessionId) -> Option<SessionSlot> {
        let session = self.cold.get(id.slot())?;
        (session.nonce == *id.nonce()).then_some(id.slot())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn session_and_its_hot_part_are_small() {
        assert!(size_of::<Session>() <= 176, "{}", size_of::<Session>());
        assert!(size_of::<SessionOutput>() <= 16, "{}", size_of::<SessionOutput>());
    }

    #[test]
    fn memberships_stay_sorted_and_find_each_other() {
        let mut memberships = Memberships::default();
        for local in [5, 1, 9, 3] {
            memberships.insert(Membership { local: LocalId(local), number: u64::from(local) * 10 });
        }
        assert!(memberships.as_slice().is_sorted_by_key(|m| m.local));
        memberships.remove(LocalId(5));
        assert_eq!(memberships.find(LocalId(5)), None);
        assert_eq!(memberships.find(LocalId(9)).map(|m| m.number), Some(90));
        for local in [1, 9, 3] {
            memberships.remove(LocalId(local));
        }
        assert_eq!(memberships.len(), 0);
    }

    #[test]
    fn rate_allows_a_second_worth_at_once_and_then_the_rate() {
        let mut rate = Rate::default();
        let taken = (0..20).filter(|_| rate.take(10, 5_000)).count();
        assert_eq!(taken, 10);
        assert!(!rate.take(10, 5_099));
        assert!(rate.take(10, 5_100));
        assert!(!rate.take(10, 5_101));
    }

    #[test]
    fn tokens_are_checked_a_few_times_a_second_and_bad_ones_end_the_connection() {
        let mut tokens = TokenAllowance::default();
        for _ in 0..TOKENS_PER_SECOND {
            assert_eq!(tokens.take(7), Ok(()));
            tokens.succeed();
        }
        assert_eq!(tokens.take(7), Err(ReplyError::TooManyTokens));
        assert_eq!(tokens.take(8), Ok(()), "the next second");
        for _ in 1..BAD_TOKENS {
            assert_eq!(tokens.fail(), Verdict::Refuse);
        }
        tokens.succeed();
        for _ in 1..BAD_TOKENS {
            assert_eq!(tokens.fail(), Verdict::Refuse);
        }
        assert_eq!(tokens.fail(), Verdict::Disconnect);
        assert_eq!(tokens.take(9), Err(ReplyError::InvalidSession), "no more is checked");
    }
}

//! Triggers, as the engine sees them: which rules an app has, what a trigger is told, and what it decides.
//!
//! A trigger runs on a message or a join before it takes effect. How it runs is the business of a
//! [`TriggerRuntime`], on threads of its own: it takes a [`TriggerCall`], which is plain data, and posts a
//! [`Verdict`] to the mailbox of the worker that called. Nothing here runs anything.

use std::sync::Arc;

use crate::{
    app::fit,
    id::{AppId, MessageId, SessionId, WorkerId},
    publication::{Audience, OwnedPayload},
};

/// Triggers of one app: one bit each in [`RuleMask`].
pub const TRIGGERS: usize = 64;

/// What a trigger may publish, and what it may answer, in one run.
pub const TRIGGER_PUBLICATIONS: usize = 16;

/// On what a trigger runs.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Action {
    /// A message, or the edit of one.
    Message,
    /// A session becomes a member.
    Join,
}

/// What is about to happen.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TriggerKind {
    /// A message is to be published.
    Message,
    /// A message is to get another payload.
    Edit,
    /// A session is to become a member.
    Join,
}

impl TriggerKind {
    /// The action that names it.
    pub fn action(self) -> Action {
        match self {
            Self::Message | Self::Edit => Action::Message,
            Self::Join => Action::Join,
        }
    }
}

/// Where a message goes.
#[derive(Copy, Clone, Debug)]
pub enum Place<'a> {
    /// To a channel.
    Channel(&'a str),
    /// To every session of the app.
    Broadcast,
    /// To sessions and users by name, whatever channels they are in.
    Direct,
}

/// Whose command it is.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Origin {
    /// A session's.
    Session,
    /// The back end's.
    BackEnd,
}

/// When a trigger runs.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the keys of docs/TRIGGERS.md")]
pub struct TriggerRule {
    pub name: Box<str>,
    pub active: bool,
    /// A channel's name, or the beginning of one with a `*` behind it.
    pub channel: Box<str>,
    pub on_message: bool,
    pub on_join: bool,
    /// Whether it runs on messages to channels, on broadcasts, and on direct messages.
    pub in_channels: bool,
    pub on_broadcasts: bool,
    pub on_direct: bool,
    /// Whether it runs on what the back end publishes too.
    pub server: bool,
}

impl TriggerRule {
    fn runs_on(&self, action: Action, place: Place<'_>, origin: Origin) -> bool {
        let acts = match action {
            Action::Message => self.on_message,
            Action::Join => self.on_join,
        };
        let is_there = match place {
            Place::Channel(name) => self.in_channels && fit(&self.channel, name).is_some(),
            Place::Broadcast => self.on_broadcasts,
            Place::Direct => self.on_direct,
        };
        self.active && acts && is_there && (origin == Origin::Session || self.server)
    }
}

/// Some rules of a set: bit `i` is the `i`-th.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct RuleMask(pub u64);

impl RuleMask {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first rule from `at` on.
    pub fn next(self, at: usize) -> Option<usize> {
        (at..TRIGGERS).find(|at| self.0 >> at & 1 == 1)
    }
}

/// The triggers of an app, in the order in which they run. A change makes another set.
pub struct TriggerSet {
    rules: Vec<TriggerRule>,
    /// What runs them.
    pub runtime: Arc<dyn TriggerRuntime>,
}

impl TriggerSet {
    /// At most [`TRIGGERS`] rules; those beyond never run.
    pub fn new(mut rules: Vec<TriggerRule>, runtime: Arc<dyn TriggerRuntime>) -> Self {
        rules.truncate(TRIGGERS);
        Self { rules, runtime }
    }

    /// The rules.
    pub fn rules(&self) -> &[TriggerRule] {
        &self.rules
    }

    /// The rules that run.
    pub fn matching(&self, action: Action, place: Place<'_>, origin: Origin) -> RuleMask {
        let rules = self.rules.iter().enumerate();
        RuleMask(
            rules
                .filter(|(_, rule)| rule.runs_on(action, place, origin))
                .fold(0, |mask, (at, _)| mask | 1 << at),
        )
    }
}

/// Runs triggers.
pub trait TriggerRuntime: Send + Sync {
    /// Takes a call. It never waits, and for each call it posts one verdict. The engine bounds how many calls
    /// of an app it has, and how many bytes.
    fn submit(&self, call: TriggerCall);
}

/// A run of triggers: one after another, each with the payload that the one before decided.
pub struct TriggerCall {
    /// The app.
    pub app: AppId,
    /// Whose mailbox the verdict goes to.
    pub worker: WorkerId,
    /// Names the call in the verdict.
    pub ticket: u64,
    /// Which rules of the set run.
    pub rules: RuleMask,
    /// What they are told.
    pub input: Arc<TriggerInput>,
}

/// What a trigger is told.
#[derive(Debug)]
pub struct TriggerInput {
    /// What is about to happen.
    pub kind: TriggerKind,
    /// The channel; `None`: none.
    pub channel: Option<Box<str>>,
    /// The message's event; empty for a join and an edit.
    pub event: Box<str>,
    /// The message; `null` for a join.
    pub payload: OwnedPayload,
    /// Who sent it; `None`: the back end.
    pub client: Option<TriggerClient>,
    /// Whether the sender receives it too.
    pub echo: bool,
    /// Whether history may keep it.
    pub history: bool,
    /// Whom it is for; `None`: everyone.
    pub audience: Option<Box<Audience>>,
    /// The message that is edited.
    pub message_id: Option<MessageId>,
    /// When it came, in Unix milliseconds.
    pub time_ms: u64,
}

impl TriggerInput {
    /// About what it keeps in memory.
    pub fn bytes(&self) -> usize {
        let channel = self.channel.as_ref().map_or(0, |name| name.len());
        let audience = self.audience.as_ref().map_or(0, |audience| audience.heap_bytes());
        size_of::<Self>() + channel + self.event.len() + self.payload.view().len() + audience
    }
}

/// A sender.
#[derive(Debug)]
pub struct TriggerClient {
    /// Its session.
    pub session: SessionId,
    /// Its user.
    pub user: Option<Arc<str>>,
    /// Its profile, JSON as it was sent.
    pub profile: Option<Arc<str>>,
    /// When its token ends, in Unix seconds.
    pub expires_at: Option<u64>,
}

/// What became of a call.
#[derive(Debug)]
pub struct Verdict {
    /// What happens to the message or the join.
    pub decision: Decision,
    /// What its sender alone receives.
    pub answers: Vec<Said>,
    /// What is published to channels of the app. Runs no trigger.
    pub publications: Vec<Said>,
}

impl Verdict {
    /// Only a decision.
    pub fn new(decision: Decision) -> Self {
        Self { decision, answers: Vec::new(), publications: Vec::new() }
    }

    /// Whether nothing speaks against the message or the join so far.
    pub fn is_open(&self) -> bool {
        matches!(self.decision, Decision::Pass | Decision::Replace(_))
    }

    /// About what it keeps in memory.
    pub fn bytes(&self) -> usize {
        let decided = match &self.decision {
            Decision::Replace(payload) => payload.view().len(),
            Decision::Refuse(why) => why.len(),
            Decision::Pass | Decision::Fail => 0,
        };
        decided + self.answers.iter().chain(&self.publications).map(Said::bytes).sum::<usize>()
    }
}

/// What happens to a message or a join.
#[derive(Debug)]
pub enum Decision {
    /// It takes effect as it is.
    Pass,
    /// The message takes effect with this payload.
    Replace(OwnedPayload),
    /// It does not, and its sender is told why.
    Refuse(Box<str>),
    /// It does not, because the trigger failed.
    Fail,
}

/// What a trigger says of its own.
#[derive(Debug)]
pub struct Said {
    /// The channel to publish to; of an answer, the one that its sender is told.
    pub channel: Option<Box<str>>,
    /// The event.
    pub event: Box<str>,
    /// The message.
    pub payload: OwnedPayload,
}

impl Said {
    /// About what it keeps in memory.
    pub fn bytes(&self) -> usize {
        let channel = self.channel.as_ref().map_or(0, |name| name.len());
        size_of::<Self>() + channel + self.event.len() + self.payload.view().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl TriggerRuntime for Nothing {
        fn submit(&self, _: TriggerCall) {}
    }

    fn rule(channel: &str) -> TriggerRule {
        TriggerRule {
            name: channel.into(),
            active: true,
            channel: channel.into(),
            on_message: true,
            on_join: false,
            in_channels: true,
            on_broadcasts: false,
            on_direct: false,
            server: false,
        }
    }

    fn mask(rules: &[TriggerRule], action: Action, place: Place<'_>, origin: Origin) -> u64 {
        TriggerSet::new(rules.to_vec(), Arc::new(Nothing)).matching(action, place, origin).0
    }

    #[test]
    fn a_rule_runs_on_the_channels_that_its_pattern_names() {
        let rules = [rule("room"), rule("room*"), rule("*"), rule("other")];
        let of = |channel| mask(&rules, Action::Message, Place::Channel(channel), Origin::Session);
        assert_eq!((of("room"), of("room:1"), of("roo"), of("other")), (0b0111, 0b0110, 0b0100, 0b1100));
    }

    #[test]
    fn a_rule_runs_on_its_actions_in_its_scope_while_it_is_active() {
        let join = TriggerRule { on_message: false, on_join: true, ..rule("*") };
        let wide = TriggerRule { on_broadcasts: true, on_direct: true, in_channels: false, ..rule("*") };
        let server = TriggerRule { server: true, ..rule("*") };
        let off = TriggerRule { active: false, ..server.clone() };
        let rules = [rule("*"), join, wide, server, off];
        let of = |action, place, origin| mask(&rules, action, place, origin);
        assert_eq!(of(Action::Message, Place::Channel("c"), Origin::Session), 0b01001);
        assert_eq!(of(Action::Join, Place::Channel("c"), Origin::Session), 0b00010);
        assert_eq!(of(Action::Message, Place::Broadcast, Origin::Session), 0b00100);
        assert_eq!(of(Action::Message, Place::Direct, Origin::Session), 0b00100);
        assert_eq!(of(Action::Message, Place::Channel("c"), Origin::BackEnd), 0b01000);
    }

    #[test]
    fn rules_beyond_the_bound_never_run() {
        let rules = vec![rule("c"); TRIGGERS + 1];
        let mask = RuleMask(mask(&rules, Action::Message, Place::Channel("c"), Origin::Session));
        assert_eq!((mask.0, mask.next(TRIGGERS - 1), mask.next(TRIGGERS)), (u64::MAX, Some(63), None));
    }
}

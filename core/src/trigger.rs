//! The engine's interface to triggers: the rules of an app, the input of a trigger, and its verdict.
//!
//! A trigger runs before a message or a join takes effect. A [`TriggerRuntime`] runs triggers on its own
//! threads. The runtime takes a [`TriggerCall`], which is plain data, and posts a [`Verdict`] to the mailbox
//! of the worker that made the call. This module runs no trigger.

use std::sync::Arc;

use crate::{
    app::fit,
    id::{AppId, MessageId, SessionId, WorkerId},
    publication::{Audience, OwnedPayload},
};

/// The most triggers of one app. Each has one bit in a [`RuleMask`].
pub const TRIGGERS: usize = 64;

/// The most publications, and the most answers, of a trigger in one run.
pub const TRIGGER_PUBLICATIONS: usize = 16;

/// An action on which a trigger runs.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Action {
    /// A message is published or edited.
    Message,
    /// A session becomes a member.
    Join,
}

/// The kind of an action.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TriggerKind {
    /// A message is published.
    Message,
    /// A message gets another payload.
    Edit,
    /// A session becomes a member.
    Join,
}

impl TriggerKind {
    /// The action of this kind.
    pub fn action(self) -> Action {
        match self {
            Self::Message | Self::Edit => Action::Message,
            Self::Join => Action::Join,
        }
    }
}

/// The destination of a message.
#[derive(Copy, Clone, Debug)]
pub enum Place<'a> {
    /// The message is for a channel.
    Channel(&'a str),
    /// The message is for every session of the app.
    Broadcast,
    /// The message is for named sessions and users, whatever channels they are in.
    Direct,
}

/// The origin of a command.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Origin {
    /// A session sent the command.
    Session,
    /// The back end sent the command.
    BackEnd,
}

/// The rule by which a trigger runs.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the keys of docs/TRIGGERS.md")]
pub struct TriggerRule {
    pub name: Box<str>,
    pub active: bool,
    /// A channel's name, or the beginning of one with a `*` behind it.
    pub channel: Box<str>,
    pub on_message: bool,
    pub on_join: bool,
    /// The trigger runs on messages to channels. The next two fields are for broadcasts and direct messages.
    pub in_channels: bool,
    pub on_broadcasts: bool,
    pub on_direct: bool,
    /// Whether the trigger also runs on publications of the back end.
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

/// A subset of a set's rules: bit `i` stands for the rule with index `i`.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct RuleMask(pub u64);

impl RuleMask {
    /// Whether the subset is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The index of the first rule of the subset from `at` on.
    pub fn next(self, at: usize) -> Option<usize> {
        (at..TRIGGERS).find(|at| self.0 >> at & 1 == 1)
    }
}

/// The triggers of an app, in the order in which they run. A changed configuration makes a new set.
pub struct TriggerSet {
    rules: Vec<TriggerRule>,
    /// The runtime that runs the triggers.
    pub runtime: Arc<dyn TriggerRuntime>,
}

impl TriggerSet {
    /// A set of at most [`TRIGGERS`] rules. Further rules never run.
    pub fn new(mut rules: Vec<TriggerRule>, runtime: Arc<dyn TriggerRuntime>) -> Self {
        rules.truncate(TRIGGERS);
        Self { rules, runtime }
    }

    /// The rules of the set.
    pub fn rules(&self) -> &[TriggerRule] {
        &self.rules
    }

    /// The rules that run on an action at a place.
    pub fn matching(&self, action: Action, place: Place<'_>, origin: Origin) -> RuleMask {
        let rules = self.rules.iter().enumerate();
        RuleMask(
            rules
                .filter(|(_, rule)| rule.runs_on(action, place, origin))
                .fold(0, |mask, (at, _)| mask | 1 << at),
        )
    }
}

/// A runtime that runs triggers.
pub trait TriggerRuntime: Send + Sync {
    /// Takes a call without waiting. The runtime posts one verdict for each call. The engine bounds the
    /// number and the bytes of an app's calls.
    fn submit(&self, call: TriggerCall);
}

/// A call of one or more triggers. Each trigger gets the payload that the trigger before it decided.
pub struct TriggerCall {
    /// The app.
    pub app: AppId,
    /// The worker whose mailbox gets the verdict.
    pub worker: WorkerId,
    /// The call's ticket, which its verdict repeats.
    pub ticket: u64,
    /// The rules of the set that run.
    pub rules: RuleMask,
    /// The input of the triggers.
    pub input: Arc<TriggerInput>,
}

/// The input of a trigger.
#[derive(Debug)]
pub struct TriggerInput {
    /// The kind of the action.
    pub kind: TriggerKind,
    /// The channel; `None` if the message has no channel.
    pub channel: Option<Box<str>>,
    /// The message's event; empty for a join and an edit.
    pub event: Box<str>,
    /// The message's payload; `null` for a join.
    pub payload: OwnedPayload,
    /// The client that sent the command; `None` for the back end.
    pub client: Option<TriggerClient>,
    /// Whether the sender receives the message too.
    pub echo: bool,
    /// Whether the history may keep the message.
    pub history: bool,
    /// The message's audience; `None` for everyone.
    pub audience: Option<Box<Audience>>,
    /// The id of the message that is edited.
    pub message_id: Option<MessageId>,
    /// The time at which the command came, in Unix milliseconds.
    pub time_ms: u64,
}

impl TriggerInput {
    /// The approximate memory of the input.
    pub fn bytes(&self) -> usize {
        let channel = self.channel.as_ref().map_or(0, |name| name.len());
        let audience = self.audience.as_ref().map_or(0, |audience| audience.heap_bytes());
        size_of::<Self>() + channel + self.event.len() + self.payload.view().len() + audience
    }
}

/// The client that sent a command.
#[derive(Debug)]
pub struct TriggerClient {
    /// The client's session.
    pub session: SessionId,
    /// The client's user.
    pub user: Option<Arc<str>>,
    /// The client's profile, JSON as the client wrote it.
    pub profile: Option<Arc<str>>,
    /// The time at which the client's token expires, in Unix seconds.
    pub expires_at: Option<u64>,
}

/// The result of a call.
#[derive(Debug)]
pub struct Verdict {
    /// The decision about the message or the join.
    pub decision: Decision,
    /// Messages that the sender alone receives.
    pub answers: Vec<Said>,
    /// Messages to channels of the app. No trigger runs on them.
    pub publications: Vec<Said>,
}

impl Verdict {
    /// The verdict that everything stays as it is.
    pub fn pass() -> Self {
        Self::new(Decision::Pass)
    }

    /// A verdict with a decision and nothing else.
    pub fn new(decision: Decision) -> Self {
        Self { decision, answers: Vec::new(), publications: Vec::new() }
    }

    /// Whether the message or the join is not refused so far.
    pub fn is_open(&self) -> bool {
        matches!(self.decision, Decision::Pass | Decision::Replace(_))
    }

    /// The approximate memory of the verdict.
    pub fn bytes(&self) -> usize {
        let decided = match &self.decision {
            Decision::Replace(payload) => payload.view().len(),
            Decision::Refuse(why) => why.len(),
            Decision::Pass | Decision::Fail => 0,
        };
        decided + self.answers.iter().chain(&self.publications).map(Said::bytes).sum::<usize>()
    }
}

/// The decision about a message or a join.
#[derive(Debug)]
pub enum Decision {
    /// The message or the join takes effect unchanged.
    Pass,
    /// The message takes effect with this payload.
    Replace(OwnedPayload),
    /// The message or the join takes no effect, and its sender is told the reason.
    Refuse(Box<str>),
    /// The message or the join takes no effect, because the trigger failed.
    Fail,
}

/// A message of a trigger.
#[derive(Debug)]
pub struct Said {
    /// The channel of the publication; in an answer, the channel that the sender is told.
    pub channel: Option<Box<str>>,
    /// The message's event.
    pub event: Box<str>,
    /// The message's payload.
    pub payload: OwnedPayload,
}

impl Said {
    /// The approximate memory of the message.
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

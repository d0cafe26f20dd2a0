//! Calls of triggers: the commands that wait for a verdict, and the effect of each verdict.
//!
//! ```text
//!   checks ─▶ call (owned input) ─▶ runtime, on its own threads
//!                  │                     │
//!              the sender's line         ▼
//!   [call] [call, judged] [call]   Mail::Verdict ─▶ judged ─▶ checks again ─▶ the deed ─▶ its answer
//!     └── takes effect first
//! ```
//!
//! The calls of a session form a line in the order in which the commands were sent, and take effect in that
//! order, whatever the order of the verdicts. A command in a line is also in its session's window, which
//! holds commands that may not overtake it. A message of an ended session takes effect, because it was sent
//! before the end. A message of a session that the back end disconnected takes no effect.
//!
//! A verdict takes effect between two mails, never inside the handling of a mail, because the effect itself
//! handles mail.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;

use super::{
    Engine, RandomState,
    check::{check_change, check_message},
    input::Flow,
    membership::JoinAs,
    permission::Reach,
    publish::{owned_change, sender_of},
    referral::Referral,
    session::Session,
    waiting::{Progress, Waiter},
    window::Executed,
};
use crate::{
    app::App,
    channel::Channel,
    command::{ChangeMessage, Outcome, Publish},
    dialect::{self, Memo},
    error::ReplyError,
    id::{AppId, SessionId, SessionSlot},
    publication::{Audience, EVERYONE, Payload, Publication},
    trigger::{
        Action, Decision, Origin, Place, RuleMask, Said, TRIGGER_PUBLICATIONS, TriggerCall, TriggerClient,
        TriggerInput, TriggerKind, TriggerSet, Verdict,
    },
};

/// A bit of a channel's note: sessions' messages to the channel have triggers. The note's other bits are the
/// generation.
const NOTE_SESSIONS: u32 = 1;
/// A bit of a channel's note: the back end's messages to the channel have triggers. See [`NOTE_SESSIONS`].
const NOTE_BACK_END: u32 = 2;
const NOTE_BITS: u32 = 2;

/// The calls of an engine.
#[derive(Default)]
pub(super) struct Calls {
    /// The room that each call has reserved, until its verdict comes.
    flights: HashMap<u64, Flight, RandomState>,
    lines: HashMap<Line, VecDeque<Called>, RandomState>,
    /// Lines whose verdicts have come.
    judged: VecDeque<Line>,
    /// The last known triggers of each app, if there are any, with the number of their change.
    sets: HashMap<AppId, (u32, Option<Arc<TriggerSet>>), RandomState>,
}

struct Flight {
    app: AppId,
    bytes: usize,
    line: Line,
}

/// The owner of a line, whose calls take effect in order.
#[derive(Copy, Clone, Eq, PartialEq, Hash)]
enum Line {
    Session(SessionId),
    BackEnd(AppId),
}

impl Line {
    fn of(app: AppId, input: &TriggerInput) -> Self {
        match &input.client {
            Some(client) => Self::Session(client.session),
            None => Self::BackEnd(app),
        }
    }
}

/// A command that waits for its own verdict, or for the verdicts of earlier commands.
struct Called {
    ticket: u64,
    app: AppId,
    who: Option<Waiter>,
    input: Arc<TriggerInput>,
    deed: Deed,
    verdict: Option<Verdict>,
}

/// The effect of a call unless its triggers refuse. The call's input has the rest of the data.
pub(super) enum Deed {
    /// A publication, with the audience of the time when it was sent.
    Publish {
        reach: Reach,
    },
    Change {
        audience: Option<Audience>,
    },
    Join(JoinAs),
    /// None but the answer: a dialect acts on the verdict.
    Judge,
    /// A command of the back end.
    Referred(Box<Referral>),
}

/// The triggers of a call.
pub(super) struct Run {
    set: Arc<TriggerSet>,
    rules: RuleMask,
}

impl Calls {
    /// Whether a verdict has come that has not taken effect yet.
    pub(super) fn has_verdict(&self) -> bool {
        !self.judged.is_empty()
    }
}

impl Engine {
    /// The triggers of an app, if there are any, with the number of their change.
    fn trigger_set(&mut self, app: AppId) -> (u32, Option<Arc<TriggerSet>>) {
        let generation = self.node.trigger_generation(app);
        match self.calls.sets.get(&app) {
            Some(known) if known.0 == generation => known.clone(),
            _ => {
                let known = self.node.trigger_set(app);
                self.calls.sets.insert(app, known.clone());
                known
            }
        }
    }

    /// Whether messages of the session wait for verdicts. Its further messages wait behind them, even if no
    /// trigger is for them.
    pub(super) fn has_calls(&self, slot: SessionSlot) -> bool {
        !self.calls.lines.is_empty() && self.calls.lines.contains_key(&Line::Session(self.session_id(slot)))
    }

    /// The triggers for a publication. Patterns are compared once for each channel and each change of
    /// triggers.
    #[cold]
    #[inline(never)]
    pub(super) fn run_for(
        &mut self,
        app: AppId,
        publish: &Publish<'_>,
        channel: Option<&Channel>,
        origin: Origin,
    ) -> Option<Run> {
        let channel = channel.filter(|channel| channel.name().is_some());
        let wanted = match origin {
            Origin::Session => NOTE_SESSIONS,
            Origin::BackEnd => NOTE_BACK_END,
        };
        if let Some(channel) = channel {
            let note = channel.triggers();
            if note >> NOTE_BITS == self.node.trigger_generation(app) && note & wanted == 0 {
                return None;
            }
        }
        let (generation, set) = self.trigger_set(app);
        let place = match publish.channel {
            Some(name) => Place::Channel(name),
            None if publish.audience.as_deref().is_some_and(|to| Self::is_direct(None, to)) => Place::Direct,
            None => Place::Broadcast,
        };
        let matching = |origin| match &set {
            Some(set) => set.matching(Action::Message, place, origin),
            None => RuleMask(0),
        };
        if let Some(channel) = channel {
            let bit = |origin, bit| if matching(origin).is_empty() { 0 } else { bit };
            let bits = bit(Origin::Session, NOTE_SESSIONS) | bit(Origin::BackEnd, NOTE_BACK_END);
            channel.note_triggers(generation << NOTE_BITS | bits);
        }
        let rules = matching(origin);
        set.filter(|_| !rules.is_empty()).map(|set| Run { set, rules })
    }

    /// The triggers for an action without a publication.
    pub(super) fn run_at(
        &mut self,
        app: AppId,
        action: Action,
        channel: &str,
        origin: Origin,
    ) -> Option<Run> {
        if !self.node.has_triggers(app) {
            return None;
        }
        let set = self.trigger_set(app).1?;
        let rules = set.matching(action, Place::Channel(channel), origin);
        (!rules.is_empty()).then_some(Run { set, rules })
    }

    /// Calls the triggers for a session's message that all checks have admitted. Without triggers, the
    /// message waits for the verdicts of earlier messages.
    pub(super) fn call_for_publish(
        &mut self,
        slot: SessionSlot,
        run: Option<Run>,
        publish: &Publish<'_>,
        payload: Payload<'_>,
        reach: Reach,
    ) -> Result<Progress, ReplyError> {
        let steady_ms = self.steady_ms;
        let session = self.sessions.get_mut(slot);
        let app = session.app;
        session.take_messages(1, &self.apps.of(app).limits, steady_ms)?;
        let client = client_of(session, slot);
        let echo = publish.echo.unwrap_or(session.echo);
        let input = TriggerInput { echo, ..self.input_of(publish, payload, Some(client)) };
        let deed = Deed::Publish { reach };
        match run {
            Some(run) => self.call(app, run, input, deed),
            None => Ok(Progress::Called(self.enqueue(app, Arc::new(input), deed, Some(Verdict::pass())))),
        }
    }

    /// Calls the triggers for a back end's message, if there are any.
    pub(super) fn call_for_request(
        &mut self,
        app: AppId,
        publish: &Publish<'_>,
        channel: Option<&Channel>,
    ) -> Option<Result<Progress, ReplyError>> {
        if !self.node.has_triggers(app) {
            return None;
        }
        let run = self.run_for(app, publish, channel, Origin::BackEnd)?;
        let input = self.input_of(publish, publish.payload, None);
        Some(self.call(app, run, input, Deed::Publish { reach: Reach::AsSaid }))
    }

    /// Calls the triggers for an edit, if there are any. `slot` is the sender; `None`: the back end.
    pub(super) fn call_for_change(
        &mut self,
        app: &App,
        slot: Option<SessionSlot>,
        change: &ChangeMessage<'_>,
    ) -> Option<Result<Progress, ReplyError>> {
        let payload = change.payload?;
        let origin = if slot.is_some() { Origin::Session } else { Origin::BackEnd };
        let run = self.run_at(app.id, Action::Message, change.channel, origin)?;
        let publish = Publish {
            audience: change.audience.clone().map(Box::new),
            ..Publish::new(Some(change.channel), "", payload)
        };
        let client = slot.map(|slot| client_of(self.sessions.get(slot), slot));
        let input = TriggerInput {
            kind: TriggerKind::Edit,
            message_id: Some(change.id),
            ..self.input_of(&publish, payload, client)
        };
        let deed = Deed::Change { audience: change.audience.clone() };
        Some(self.call(app.id, run, input, deed))
    }

    /// Makes a session a member, unless a trigger refuses. Triggers do not run for a session that is a member
    /// already. `payload` is the payload that the triggers are shown.
    pub(super) fn ask_to_join(
        &mut self,
        slot: SessionSlot,
        channel: &str,
        payload: Payload<'_>,
        how: JoinAs,
    ) -> Result<Progress, ReplyError> {
        let app = self.sessions.get(slot).app;
        // The channels of a session that a directory lists were judged when its back end named them.
        if self.sessions.output(slot).format.has_directory() {
            return self.join(slot, channel, how);
        }
        let Some(run) = self.run_at(app, Action::Join, channel, Origin::Session) else {
            return self.join(slot, channel, how);
        };
        if self.membership(slot, channel).is_some() {
            return self.join(slot, channel, how);
        }
        if !dialect::judges_joins_first(self.sessions.output(slot).format) {
            self.check_join(slot, app, channel)?;
        }
        self.may_join_another(slot)?;
        let session = self.sessions.get(slot);
        let client = client_of(session, slot);
        let echo = how.echo.unwrap_or(session.echo);
        let publish = Publish::new(Some(channel), "", payload);
        let input = self.input_of(&publish, payload, Some(client));
        let input = TriggerInput { kind: TriggerKind::Join, echo, ..input };
        self.call(app, run, input, Deed::Join(how))
    }

    /// Makes a session's input wait while a channel that the session's token claims waits for its verdict.
    pub(super) fn await_claimed(&mut self, slot: SessionSlot, called: Progress) {
        let executed = Executed { id: None, commands: 1, publication: None };
        // The window is empty, because the session has sent nothing yet.
        let (Flow::Pause | Flow::Continue | Flow::Yield) = self.conclude(slot, executed, Ok(called), || None);
    }

    pub(super) fn input_of(
        &self,
        publish: &Publish<'_>,
        payload: Payload<'_>,
        client: Option<TriggerClient>,
    ) -> TriggerInput {
        TriggerInput {
            kind: TriggerKind::Message,
            channel: publish.channel.map(Into::into),
            event: publish.event.into(),
            payload: payload.into(),
            client,
            echo: true,
            history: publish.history,
            audience: publish.audience.clone(),
            message_id: None,
            time_ms: self.now_ms,
        }
    }

    pub(super) fn call(
        &mut self,
        app: AppId,
        Run { set, rules }: Run,
        input: TriggerInput,
        deed: Deed,
    ) -> Result<Progress, ReplyError> {
        let bytes = input.bytes();
        if !self.node.reserve_call(self.apps.of(app), bytes) {
            self.counters.overloaded += 1;
            return Err(ReplyError::Overloaded);
        }
        self.counters.triggered += 1;
        let input = Arc::new(input);
        let line = Line::of(app, &input);
        let ticket = self.enqueue(app, input.clone(), deed, None);
        self.calls.flights.insert(ticket, Flight { app, bytes, line });
        set.runtime.submit(TriggerCall { app, worker: self.worker, ticket, rules, input });
        Ok(Progress::Called(ticket))
    }

    /// Puts a command at the end of its line. Returns the command's ticket.
    fn enqueue(&mut self, app: AppId, input: Arc<TriggerInput>, deed: Deed, verdict: Option<Verdict>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let line = self.calls.lines.entry(Line::of(app, &input)).or_default();
        line.push_back(Called { ticket, app, who: None, input, deed, verdict });
        ticket
    }

    /// Notes the receiver of a call's answer.
    pub(super) fn await_verdict(&mut self, ticket: u64, who: Waiter) {
        let line = match (&who, self.calls.flights.get(&ticket)) {
            (Waiter::Session { session, .. }, _) => Line::Session(*session),
            (_, Some(flight)) => flight.line,
            (_, None) => return,
        };
        let mut calls = self.calls.lines.get_mut(&line).into_iter().flatten();
        if let Some(called) = calls.rfind(|called| called.ticket == ticket) {
            called.who = Some(who);
        }
    }

    /// Takes a verdict that has come.
    pub(super) fn on_verdict(&mut self, ticket: u64, verdict: Verdict) {
        let Some(Flight { app, bytes, line }) = self.calls.flights.remove(&ticket) else { return };
        self.node.release_call(app, bytes);
        let mut calls = self.calls.lines.get_mut(&line).into_iter().flatten();
        if let Some(called) = calls.find(|called| called.ticket == ticket) {
            called.verdict = Some(verdict);
            self.calls.judged.push_back(line);
        }
    }

    /// Applies one verdict whose turn has come. Returns false if there is none.
    pub(super) fn apply_next_verdict(&mut self) -> bool {
        let Some(&line) = self.calls.judged.front() else { return false };
        let judged = self.calls.lines.get_mut(&line).and_then(|calls| {
            let is_judged = calls.front().is_some_and(|called| called.verdict.is_some());
            let called = if is_judged { calls.pop_front() } else { None };
            called.map(|called| (called, calls.is_empty()))
        });
        let Some((called, is_last)) = judged else {
            self.calls.judged.pop_front();
            return true;
        };
        if is_last {
            self.calls.lines.remove(&line);
        }
        self.apply(called);
        true
    }

    /// Drops the calls of a session that its app's back end has disconnected.
    pub(super) fn drop_calls(&mut self, session: SessionId) {
        if let Some(calls) = self.calls.lines.remove(&Line::Session(session)) {
            self.counters.command_errors += calls.len() as u64;
        }
    }

    fn apply(&mut self, called: Called) {
        let Called { ticket: _, app, who, input, deed, verdict } = called;
        let Some(Verdict { decision, answers, publications }) = verdict else { return };
        self.work += 1;
        let slot = input.client.as_ref().and_then(|client| self.sessions.find(client.session));
        let result = match decision {
            Decision::Refuse(why) => {
                self.counters.trigger_refusals += 1;
                Ok(Progress::Finished(Outcome::Refused(why)))
            }
            Decision::Fail => {
                self.counters.trigger_refusals += 1;
                Err(ReplyError::TriggerFailed)
            }
            Decision::Pass => self.do_deed(app, slot, &input, deed, input.payload.view()),
            Decision::Replace(payload) => self.do_deed(app, slot, &input, deed, payload.view()),
        };
        if let Some(slot) = slot {
            answers.iter().take(TRIGGER_PUBLICATIONS).for_each(|said| self.answer_client(slot, said));
        }
        if let Some(who) = who {
            self.settle(who, result);
        }
        publications.iter().take(TRIGGER_PUBLICATIONS).for_each(|said| self.publish_said(app, said));
    }

    /// Applies a call that its triggers have admitted, if the checks still allow it. `slot` is the sender's
    /// slot, whose session may have ended.
    fn do_deed(
        &mut self,
        app: AppId,
        slot: Option<SessionSlot>,
        input: &TriggerInput,
        deed: Deed,
        payload: Payload<'_>,
    ) -> Result<Progress, ReplyError> {
        let app = self.apps.of(app).clone();
        let channel = input.channel.as_deref();
        match (deed, channel, slot) {
            (Deed::Publish { reach }, ..) => self.publish_judged(&app, slot, input, payload, reach),
            (Deed::Change { audience }, Some(channel), _) => {
                let id = input.message_id.ok_or(ReplyError::UnknownMessage)?;
                let change = ChangeMessage { channel, id, payload: Some(payload), audience };
                match slot {
                    Some(slot) => self.may_change(slot, &app, &change)?,
                    None => check_change(&app, &change)?,
                }
                let by = input.client.as_ref().map(|client| (client.session, client.user.clone()));
                self.ask_for_change(app.id, channel, owned_change(&change, by))
            }
            (Deed::Judge, ..) => Ok(Progress::Finished(Outcome::Judged(payload.into()))),
            (Deed::Referred(referral), ..) => self.execute_referred(app.id, input, *referral, payload),
            (Deed::Join(_), ..) if self.node.is_saturated() => Err(ReplyError::Overloaded),
            (Deed::Join(how), Some(channel), Some(slot)) => self.join(slot, channel, how),
            // A session that has ended joins no channel. Changes and joins always name their channel.
            (Deed::Join(_) | Deed::Change { .. }, ..) => Err(ReplyError::InvalidChannel),
        }
    }

    fn publish_judged(
        &mut self,
        app: &App,
        slot: Option<SessionSlot>,
        input: &TriggerInput,
        payload: Payload<'_>,
        mut reach: Reach,
    ) -> Result<Progress, ReplyError> {
        let channel = input.channel.as_deref();
        let publish = Publish {
            history: input.history,
            audience: input.audience.clone(),
            ..Publish::new(channel, &input.event, payload)
        };
        check_message(app, &publish, &[payload])?;
        let target = self.node.channel(app.id, channel);
        if let Some(slot) = slot {
            self.may_write(slot, app)?;
            reach = self.check_publish(slot, app.id, target.as_deref(), &publish)?;
        }
        let client = input.client.as_ref();
        let sender = client.and_then(|client| {
            sender_of(app, client.session, client.user.as_deref(), client.profile.as_ref())
        });
        let except_session = client.filter(|_| !input.echo).map(|client| client.session);
        let audience = reach.audience(input.audience.as_deref(), except_session);
        let published = self.publish(app.id, target, (&publish, &[payload]), (&audience, sender));
        if reach == Reach::Confirmed { self.confirm(app.id, &publish, published) } else { published }
    }

    /// Sends a sender the answer of a trigger.
    fn answer_client(&mut self, slot: SessionSlot, said: &Said) {
        let id = self.ids.message_id(self.now_ms);
        let format = self.sessions.hot(slot).format;
        let publication = Publication::message(id, &said.event, said.payload.view());
        self.reply(slot, |out| {
            let memo = &mut Memo::new(format);
            dialect::encode_publication(format, out, memo, said.channel.as_deref(), &publication);
        });
    }

    /// Publishes a message of a trigger. No trigger runs for such a message.
    fn publish_said(&mut self, app: AppId, said: &Said) {
        let payload = said.payload.view();
        let publish = Publish::new(said.channel.as_deref(), &said.event, payload);
        let checked = check_message(self.apps.of(app), &publish, &[payload]);
        let target = self.node.channel(app, publish.channel);
        let published =
            checked.and_then(|()| self.publish(app, target, (&publish, &[payload]), (&EVERYONE, None)));
        // The trigger gets no answer.
        self.counters.command_errors += u64::from(published.is_err());
    }
}

fn client_of(session: &Session, slot: SessionSlot) -> TriggerClient {
    TriggerClient {
        session: session.id(slot),
        user: session.user.clone(),
        profile: session.profile.clone(),
        expires_at: session.expires_at,
    }
}

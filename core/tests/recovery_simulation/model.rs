//! What a channel remembers, as the protocol describes it: fed with what took place, in the order of the
//! offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfare_core::{
    app::HistoryLimits,
    id::SessionId,
    publication::{self, WithoutUser},
};
use serde_json::{Value, json};

/// The place of an operation among all of a run. Payloads carry it, so that each is unique.
pub(crate) type Number = usize;

/// Whom a message is for.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct Audience {
    pub(crate) only: Option<Vec<&'static str>>,
    pub(crate) except: Option<Vec<&'static str>>,
    /// A session of the harness, and its id.
    pub(crate) session: Option<(usize, SessionId)>,
    /// Whether sessions without user are left out.
    pub(crate) signed_in: bool,
}

impl Audience {
    /// Whether `user` may read it later.
    pub(crate) fn admits(&self, user: Option<&str>) -> bool {
        let names = |list: &Vec<&str>| user.is_some_and(|user| list.contains(&user));
        self.session.is_none()
            && (!self.signed_in || user.is_some())
            && self.only.as_ref().is_none_or(names)
            && !self.except.as_ref().is_some_and(names)
    }

    /// Whether `session`, of `user`, may receive it live.
    pub(crate) fn admits_session(&self, session: usize, user: Option<&str>) -> bool {
        let this = self.session.as_ref().is_none_or(|(only, _)| *only == session);
        this && Audience { session: None, ..self.clone() }.admits(user)
    }

    /// As members of a command.
    pub(crate) fn write(&self, command: &mut Value) {
        if let Some(only) = &self.only {
            command["to_users"] = json!(only);
        }
        if let Some(except) = &self.except {
            command["except_users"] = json!(except);
        }
        if self.signed_in {
            command["signed_in"] = json!(true);
        }
        if let Some((_, session)) = &self.session {
            command["to_session"] = json!(session.to_string());
        }
    }

    /// As the back end gives it.
    pub(crate) fn of_request(&self) -> publication::Audience {
        let list = |users: &Vec<&str>| -> Arc<[Box<str>]> { users.iter().map(|&user| user.into()).collect() };
        publication::Audience {
            except_session: None,
            only_session: self.session.as_ref().map(|(_, id)| *id),
            only_users: self.only.as_ref().map(list),
            except_users: self.except.as_ref().map(list),
            without_user: if self.signed_in { WithoutUser::Excluded } else { WithoutUser::AsOthers },
        }
    }
}

/// Who sent a message.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Author {
    pub(crate) client: usize,
    pub(crate) session: usize,
    pub(crate) user: Option<&'static str>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum ChannelOp {
    Send { audience: Audience, history: bool, echo: bool },
    Edit { target: String, audience: Option<Audience> },
    Delete { target: String, audience: Option<Audience> },
}

/// What became of it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Fate {
    Open,
    /// Who asked was gone before the answer.
    Lost,
    Done {
        id: String,
        offset: Option<u64>,
    },
    Refused(String),
}

/// An operation on a channel; without author, the back end's.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) channel: usize,
    pub(crate) deed: ChannelOp,
    pub(crate) by: Option<Author>,
    pub(crate) fate: Fate,
    /// Whom it was for, once it took place.
    pub(crate) meant: Option<Audience>,
}

impl Op {
    /// Whether it is of a message that `session` sent and did not want to see.
    pub(crate) fn is_unechoed(&self, session: usize) -> bool {
        matches!(self.deed, ChannelOp::Send { echo: false, .. })
            && self.by.as_ref().is_some_and(|by| by.session == session)
    }
}

/// A message that took an offset, as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The operation that sent it, and the one that last changed it.
    pub(crate) sent: Number,
    pub(crate) now: Number,
    pub(crate) id: String,
    at_ms: u64,
    pub(crate) audience: Audience,
    /// Whom it was for, and since which offset.
    audiences: Vec<(u64, Audience)>,
    pub(crate) deleted: bool,
    /// The offset of the last that happened to it.
    pub(crate) last: u64,
    pub(crate) remembered: bool,
    by: Option<Author>,
}

impl Message {
    /// Whether the change that took `offset` took it from `user`, and left it to none of the user's sessions
    /// but `session`.
    pub(crate) fn is_lost_by(&self, offset: u64, session: Option<usize>, user: Option<&str>) -> bool {
        let Some(at) = self.audiences.iter().rposition(|(since, _)| *since == offset) else { return false };
        let (before, after) =
            (at.checked_sub(1).map(|before| &self.audiences[before].1), &self.audiences[at].1);
        let kept = session.is_some_and(|session| after.admits_session(session, user));
        before.is_some_and(|before| before.admits(user)) && !after.admits(user) && !kept
    }

    /// The offset of the last change that took it from `user`, who has not got it back.
    pub(crate) fn lost_at(&self, user: Option<&str>) -> Option<u64> {
        let lost = |(offset, _): &&(u64, Audience)| self.is_lost_by(*offset, None, user);
        self.audiences
            .iter()
            .rev()
            .find(lost)
            .map(|(offset, _)| *offset)
            .filter(|_| !self.audience.admits(user))
    }

    /// Whether it was for one session alone once it had been sent.
    pub(crate) fn was_for_one(&self) -> bool {
        self.audiences.iter().any(|(_, audience)| audience.session.is_some())
    }
}

/// What took an offset: the message, and whether it was sent, edited or deleted.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Event {
    pub(crate) op: Number,
    /// The offset of the message.
    pub(crate) of: u64,
    pub(crate) kind: &'static str,
}

/// One who recovers is to see this.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(crate) struct Expected {
    pub(crate) offset: u64,
    pub(crate) kind: &'static str,
    /// Which payload; `None`: null.
    pub(crate) payload: Option<Number>,
}

/// A channel's stream, of one epoch.
pub(crate) struct Stream {
    pub(crate) limits: HistoryLimits,
    /// `None`: there is no such channel.
    pub(crate) epoch: Option<String>,
    pub(crate) offset: u64,
    pub(crate) log: BTreeMap<u64, Event>,
    /// By their offsets.
    pub(crate) messages: BTreeMap<u64, Message>,
    /// The last offset of what certainly was forgotten, and of what may have been. They differ only where
    /// deleted messages were forgotten at a time that cannot be seen.
    pub(crate) forgotten: u64,
    pub(crate) maybe_forgotten: u64,
    /// When it was last of use.
    pub(crate) used_ms: u64,
}

impl Stream {
    pub(crate) fn new(limits: HistoryLimits) -> Self {
        Self {
            limits,
            epoch: None,
            offset: 0,
            log: BTreeMap::new(),
            messages: BTreeMap::new(),
            forgotten: 0,
            maybe_forgotten: 0,
            used_ms: 0,
        }
    }

    /// What `reader` may see of what is remembered, oldest first; `None` is the back end.
    pub(crate) fn visible(&self, reader: Option<Option<&str>>) -> Vec<(u64, &Message)> {
        let shown = |message: &Message| {
            message.remembered && !message.deleted && reader.is_none_or(|user| message.audience.admits(user))
        };
        self.messages.iter().filter(|(_, m)| shown(m)).map(|(&offset, m)| (offset, m)).collect()
    }

    pub(crate) fn message(&self, id: &str) -> Option<(u64, &Message)> {
        self.messages.iter().find(|(_, message)| message.id == id).map(|(&offset, message)| (offset, message))
    }

    /// Whether there is a message of this id that can be changed.
    pub(crate) fn can_change(&self, id: &str) -> bool {
        self.message(id).is_some_and(|(_, message)| message.remembered && !message.deleted)
    }

    /// Whether the author may change the message.
    pub(crate) fn may_change(&self, id: &str, by: &Option<Author>, sender_edits: bool) -> bool {
        let Some(by) = by else { return true };
        let own =
            |sender: &Author| sender.session == by.session || by.user.is_some() && sender.user == by.user;
        sender_edits && self.message(id).is_none_or(|(_, message)| message.by.as_ref().is_some_and(own))
    }

    /// The operation took place and got the next offset. Returns whom it was for.
    pub(crate) fn take(&mut self, number: Number, op: &Op, id: &str, now_ms: u64) -> Audience {
        self.offset += 1;
        let (offset, on) = (self.offset, self.limits.is_on());
        let (kind, target, audience) = match &op.deed {
            ChannelOp::Send { audience, .. } => {
                let message = Message {
                    sent: number,
                    now: number,
                    id: id.into(),
                    at_ms: now_ms,
                    audience: audience.clone(),
                    audiences: vec![(offset, audience.clone())],
                    deleted: false,
                    last: offset,
                    remembered: on,
                    by: op.by.clone(),
                };
                self.messages.insert(offset, message);
                self.used_ms = now_ms;
                self.log.insert(offset, Event { op: number, of: offset, kind: "e" });
                self.bound();
                return audience.clone();
            }
            ChannelOp::Edit { target, audience } => ("message:edit", target, audience),
            ChannelOp::Delete { target, audience } => ("message:delete", target, audience),
        };
        assert_eq!(id, target, "op {number} is of that message");
        assert!(self.can_change(target), "op {number} changed what is not there: {op:?}");
        let of = self.message(target).expect("it can be changed").0;
        let message = self.messages.get_mut(&of).expect("it can be changed");
        if let Some(audience) = audience {
            message.audiences.push((offset, audience.clone()));
            message.audience = audience.clone();
        }
        message.now = number;
        message.last = offset;
        message.deleted = kind == "message:delete";
        let meant = message.audience.clone();
        self.log.insert(offset, Event { op: number, of, kind });
        meant
    }

    /// Forgets what the limits do not allow.
    pub(crate) fn bound(&mut self) {
        let kept = self.messages.values().filter(|message| message.remembered).count();
        let surplus = kept.saturating_sub(self.limits.messages as usize);
        let oldest: Vec<u64> = self.remembered().take(surplus).collect();
        oldest.into_iter().for_each(|offset| self.forget(offset, true));
        if !self.limits.is_on() {
            self.forgotten = self.offset;
            self.maybe_forgotten = self.offset;
        }
    }

    /// Forgets what is too old.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let age_ms = u64::from(self.limits.age_ms);
        let old = |message: &Message| message.remembered && now_ms - message.at_ms > age_ms;
        let old: Vec<u64> = self.messages.iter().filter(|(_, m)| old(m)).map(|(&offset, _)| offset).collect();
        old.into_iter().for_each(|offset| self.forget(offset, true));
    }

    /// Whether the channel may be gone, if it has no members.
    pub(crate) fn may_vanish(&self, now_ms: u64) -> bool {
        !self.limits.is_on() || now_ms - self.used_ms > u64::from(self.limits.age_ms)
    }

    /// The channel is over.
    pub(crate) fn vanish(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Nothing older than what is shown first is remembered; what was deleted just before may be.
    pub(crate) fn learn_oldest(&mut self, first_shown: Option<u64>) {
        let end = first_shown.unwrap_or(u64::MAX);
        let gone: Vec<u64> = self.remembered().take_while(|&offset| offset < end).collect();
        let shown = gone.iter().rposition(|offset| !self.messages[offset].deleted);
        for (place, offset) in gone.into_iter().enumerate() {
            self.forget(offset, shown.is_some_and(|shown| place <= shown));
        }
    }

    fn remembered(&self) -> impl Iterator<Item = u64> {
        self.messages.iter().filter(|(_, message)| message.remembered).map(|(&offset, _)| offset)
    }

    fn forget(&mut self, offset: u64, certainly: bool) {
        let message = self.messages.get_mut(&offset).expect("it is there");
        message.remembered = false;
        self.maybe_forgotten = self.maybe_forgotten.max(message.last);
        if certainly {
            self.forgotten = self.forgotten.max(message.last);
        }
    }

    /// What `user` missed since `offset`, if everything is remembered.
    pub(crate) fn missed(&self, user: Option<&str>, since: u64) -> Vec<Expected> {
        let mut missed: Vec<Expected> = Vec::new();
        for (&offset, message) in self.messages.iter().filter(|(_, m)| m.remembered) {
            let payload = (!message.deleted).then_some(message.now);
            if !message.audience.admits(user) {
                let lost = message.lost_at(user).filter(|lost| offset <= since && *lost > since);
                missed.extend(lost.map(|offset| Expected { offset, kind: "message:delete", payload: None }));
            } else if offset > since {
                missed.extend(payload.map(|_| Expected { offset, kind: "e", payload }));
            } else if message.last > since {
                let kind = if message.deleted { "message:delete" } else { "message:edit" };
                missed.push(Expected { offset: message.last, kind, payload });
            }
        }
        missed.sort_by_key(|expected| expected.offset);
        missed
    }
}

//! Commands and their outcomes: the vocabulary that every dialect decodes to and encodes from.
//!
//! A session's command is a [`Command`], and a back end's command is a [`BackEndCommand`]. The result of both
//! is an [`Outcome`].

mod cursor;
mod options_change;
mod pages;
mod watched;

use std::sync::Arc;

pub use self::{
    cursor::Cursor,
    options_change::OptionsChange,
    pages::{MembersPage, Roster, SessionsPage, UserSession, UsersPage},
    watched::{Sample, Watched},
};
use crate::{
    app::ChannelOptions,
    channel::{HistoryItem, Page, PageStart, Position},
    disconnect::Disconnect,
    id::{MessageId, SessionId},
    publication::{Audience, Given, IdentityCard, OwnedPayload, Payload, UserChange, UserState},
    trigger::{TriggerKind, Triggers},
};

/// A command of a session. Its text borrows from the frame.
#[derive(Clone, Debug)]
pub enum Command<'a> {
    /// Become a member.
    Join {
        /// Of which channel.
        channel: &'a str,
        /// Whether to see the own notice; `None`: as the connection has it.
        echo: Option<bool>,
        /// What the session knows already, if it was a member before.
        since: Option<Position>,
        /// Whether the member receives presence notices, if the channel announces members; `None` means yes.
        /// A second join changes the setting.
        notices: Option<bool>,
        /// The payload that the join's triggers are shown.
        payload: Payload<'a>,
    },
    /// Stop being a member.
    Leave {
        /// Of which channel.
        channel: &'a str,
        /// As for joining.
        echo: Option<bool>,
    },
    /// Publish.
    Publish(Publish<'a>),
    /// Edit or delete a message.
    Change(ChangeMessage<'a>),
    /// A page of what a channel remembers.
    History {
        /// The channel.
        channel: &'a str,
        /// Where it begins, and which way it goes.
        from: PageStart,
        /// How many messages at most.
        limit: usize,
    },
    /// Set the session's profile.
    Update {
        /// Any JSON.
        profile: &'a str,
        /// As for joining.
        echo: Option<bool>,
    },
    /// A page of a channel's members.
    Members {
        /// The channel.
        channel: &'a str,
        /// How many at most.
        limit: usize,
        /// Where to go on.
        after: Option<Cursor>,
    },
    /// The members of a channel that keeps a roster, in one list. For an asker that is a member, the list
    /// agrees with the notices: it contains the changes of all notices before it, and none of a notice after
    /// it.
    Roster {
        /// The channel.
        channel: &'a str,
    },
    /// A page of a channel's users.
    Users {
        /// The channel.
        channel: &'a str,
        /// How many at most.
        limit: usize,
        /// The user to go on after.
        after: Option<&'a str>,
    },
    /// Renew the session's token.
    Session {
        /// The fresh token.
        token: &'a str,
    },
    /// Nothing; shows that the server answers.
    Ping,
    /// End the session, because of a message that its client sent.
    End {
        /// The reason.
        why: Disconnect,
    },
}

/// What is to be published: to a channel's members, or, without a channel, to the sessions of the app.
#[derive(Clone, Debug)]
pub struct Publish<'a> {
    /// The channel; `None` is a broadcast.
    pub channel: Option<&'a str>,
    /// The event's name.
    pub event: &'a str,
    /// The message.
    pub payload: Payload<'a>,
    /// Whether the sender receives it too.
    pub echo: Option<bool>,
    /// Whether the channel's history may keep it.
    pub history: bool,
    /// Whom it is for; `None`: everyone.
    pub audience: Option<Box<Audience>>,
}

/// An edit or a deletion of a message that its channel remembers.
#[derive(Clone, Debug)]
pub struct ChangeMessage<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The message.
    pub id: MessageId,
    /// What it is to say; `None`: it is to go.
    pub payload: Option<Payload<'a>>,
    /// Whom it is for from now on; `None`: as before.
    pub audience: Option<Audience>,
}

impl<'a> Publish<'a> {
    /// For everybody, to be kept if the channel has history.
    pub fn new(channel: Option<&'a str>, event: &'a str, payload: Payload<'a>) -> Self {
        Self { channel, event, payload, echo: None, history: true, audience: None }
    }
}

/// A command of an app's back end. Its text borrows from the request.
#[derive(Clone, Debug)]
pub enum BackEndCommand<'a> {
    /// Publish a message.
    Publish {
        /// The message and its audience.
        publish: Publish<'a>,
        /// The idempotency key. A second request with the same key publishes nothing, and has the outcome of
        /// the first request.
        idempotency_key: Option<&'a str>,
    },
    /// Publish with an id, a time and a sender's name that the back end gives.
    PublishAs(PublishAs<'a>),
    /// Publish to the sessions of a user. All these sessions receive such messages in one order.
    PublishToUser {
        /// The user.
        user: &'a str,
        /// The event's name.
        event: &'a str,
        /// The message.
        payload: Payload<'a>,
        /// A note that only the dialect of the command reads; see [`Given::note`].
        note: Option<Box<str>>,
    },
    /// Edit or delete a message of any sender.
    Change(ChangeMessage<'a>),
    /// Edit or delete a message if its channel remembers it, and tell an audience in any case.
    Amend(AmendMessage<'a>),
    /// Run the triggers for the back end on a message or a join that does not take effect by this command.
    Judge(Judge<'a>),
    /// A page of a channel's members.
    Members {
        /// The channel.
        channel: &'a str,
        /// The most members on the page.
        limit: usize,
        /// The end of the page before.
        after: Option<Cursor>,
    },
    /// All members of the channel of this name. The command fails if the whole list is too long.
    AllMembers(&'a str),
    /// A page of a channel's users.
    Users {
        /// The channel.
        channel: &'a str,
        /// The most users on the page.
        limit: usize,
        /// The last user of the page before.
        after: Option<&'a str>,
    },
    /// A page of a channel's history.
    History {
        /// The channel.
        channel: &'a str,
        /// The beginning of the page, and its direction.
        from: PageStart,
        /// The most messages on the page.
        limit: usize,
    },
    /// A page of the app's channels, unsorted. A page looks at a bounded number of channels, so it may be
    /// short.
    Channels {
        /// The beginning of the channels' names.
        prefix: &'a str,
        /// The most channels on the page.
        limit: usize,
        /// The cursor of the page before.
        after: Option<&'a str>,
    },
    /// The options of a channel, or the options with which the channel would be created.
    Options {
        /// The channel.
        channel: &'a str,
    },
    /// Set the options of a channel, which need not exist.
    SetOptions {
        /// The channel.
        channel: &'a str,
        /// The differences from the configuration.
        change: OptionsChange,
        /// Whether an existing channel keeps its options. A dialect that gives options with a join means them
        /// for a channel that the join creates.
        only_new: bool,
    },
    /// Change a user's state, and tell members of the user's channels whose options ask for it.
    SetUser {
        /// The user.
        user: &'a str,
        /// The change.
        change: UserChange,
        /// Whether members are told.
        announce: bool,
    },
    /// Tell members of the user's channels whose options ask for it of a change of the user's state that the
    /// command's dialect has made.
    AnnounceUser {
        /// The user.
        user: &'a str,
        /// The version of the state since the change.
        version: u64,
        /// The changed keys.
        changed: &'a [Box<str>],
    },
    /// The state of a user.
    User {
        /// The user.
        user: &'a str,
    },
    /// A page of a user's sessions, or of all sessions of the app.
    Sessions {
        /// The user; `None` for sessions of all users.
        user: Option<&'a str>,
        /// The most sessions on the page.
        limit: usize,
        /// The end of the page before.
        after: Option<Cursor>,
    },
    /// Samples of a channel's publications on this worker. The first question starts the sampling, and a
    /// pause without questions ends it.
    Watch {
        /// The channel.
        channel: &'a str,
        /// The number of the last sample in the answer before.
        after: u64,
    },
    /// End sessions.
    Disconnect {
        /// The sessions to end.
        whom: Disconnection,
        /// Whether the clients of these sessions are asked to come back.
        reconnect: bool,
    },
    /// Refuse session tokens from now on, and end the sessions of these tokens.
    Revoke {
        /// The tokens.
        tokens: TokensOf<'a>,
        /// For how many seconds they are refused.
        for_s: u64,
    },
    /// Make a session join or leave a channel.
    Enroll {
        /// The session.
        session: SessionId,
        /// The channel.
        channel: &'a str,
        /// Whether the session joins or leaves.
        membership: Membership,
    },
    /// Apply settings of the app that [`Node::set_xano`](crate::engine::Node::set_xano) has changed, on all
    /// workers and to all channels.
    Reconfigure,
    /// Set the profile of a session.
    SetProfile {
        /// The session.
        session: SessionId,
        /// The profile, as JSON.
        profile: &'a str,
    },
    /// Send clients a notice that only the asking dialect can express.
    Tell {
        /// The channel, whose members receive the notice; `None` for the users in the audience.
        channel: Option<&'a str>,
        /// The audience of the notice.
        audience: Audience,
        /// The notice in the dialect's words.
        words: Arc<str>,
    },
}

/// Whether a session becomes a member or stops being one.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Membership {
    /// The session becomes a member.
    Begins,
    /// The session is no longer a member.
    Ends,
}

/// A publication of which the back end decides more than the usual fields.
#[derive(Clone, Debug)]
pub struct PublishAs<'a> {
    /// The message and its audience.
    pub publish: Publish<'a>,
    /// The message's id, any UUID; `None` if the server makes the id. The server does not check that the id
    /// is unique.
    pub id: Option<MessageId>,
    /// The time, the name and other fields. A time in the future counts as now.
    pub given: Given,
    /// Whether the message is published only to an existing channel: one with members, with history, or with
    /// options that were set.
    pub only_existing: bool,
    /// Whether the app's triggers run.
    pub triggers: Triggers,
}

/// A message or a join on which triggers run before a dialect makes it take effect.
#[derive(Clone, Debug)]
pub struct Judge<'a> {
    /// The kind of the action.
    pub kind: TriggerKind,
    /// The message, or the channel and the payload of a join or an edit.
    pub publish: Publish<'a>,
    /// The id of the message that is edited.
    pub message_id: Option<MessageId>,
}

/// A change of a message that the channel need not remember.
#[derive(Clone, Debug)]
pub struct AmendMessage<'a> {
    /// The channel; `None` if the audience's users are told, in whatever channels they are.
    pub channel: Option<&'a str>,
    /// The message.
    pub id: MessageId,
    /// Whether the message is deleted.
    pub deletes: bool,
    /// The message's new payload, if it changes.
    pub payload: Option<Payload<'a>>,
    /// The audience of the change. A remembered message keeps its own audience.
    pub audience: Audience,
    /// The other fields of the change.
    pub given: Given,
    /// Whether the app's triggers run.
    pub triggers: Triggers,
}

impl<'a> BackEndCommand<'a> {
    /// A publication without an idempotency key.
    pub fn publish(publish: Publish<'a>) -> Self {
        Self::Publish { publish, idempotency_key: None }
    }
}

/// What came of a command.
#[derive(Debug)]
pub enum Outcome {
    /// Of `Join`.
    Joined {
        /// The channel.
        channel: Box<str>,
        /// False if the session was a member already.
        joined: bool,
        /// Members now.
        members: usize,
        /// Where the session's part of the channel's stream begins.
        position: Position,
        /// The messages of the past that the session receives.
        recovery: Recovery,
    },
    /// Of `Leave`.
    Left {
        /// The channel.
        channel: Box<str>,
        /// False if the session was no member.
        left: bool,
    },
    /// Of `Publish` to a channel.
    Sent {
        /// The publication's id.
        message_id: MessageId,
        /// Its offset; `None` if the channel has no members.
        offset: Option<u64>,
    },
    /// Of `Publish` to everyone.
    Broadcast {
        /// The publication's id.
        message_id: MessageId,
    },
    /// Of `Update`.
    Updated,
    /// Of `Members`.
    Members(MembersPage),
    /// The result of [`BackEndCommand::AllMembers`].
    AllMembers(Vec<IdentityCard>),
    /// Of `History`.
    History {
        /// The channel.
        channel: Box<str>,
        /// Where its stream stands; `None` if there is no such channel.
        position: Option<Position>,
        /// The messages.
        page: Page,
    },
    /// Of `Session`.
    Session {
        /// The session's user.
        user: Arc<str>,
        /// When it ends, in Unix seconds.
        expires_at: Option<u64>,
    },
    /// Of `Ping`.
    Pong {
        /// The server's clock.
        time_ms: u64,
    },
    /// The result of [`BackEndCommand::Enroll`] and [`BackEndCommand::Tell`].
    Done,
    /// The result of [`BackEndCommand::Judge`]: the payload that the triggers have decided.
    Judged(OwnedPayload),
    /// The result of `Roster`.
    Roster(Roster),
    /// A user's state.
    User {
        /// The user.
        user: Box<str>,
        /// The state after the command; `None` if the app has no state of the user.
        state: Option<Arc<UserState>>,
        /// The keys whose values the command changed.
        changed: Vec<Box<str>>,
    },
    /// The result of [`BackEndCommand::Sessions`].
    Sessions(SessionsPage),
    /// The result of [`BackEndCommand::Watch`].
    Watched(Watched),
    /// Of `Users`.
    Users(UsersPage),
    /// A channel's options.
    Options {
        /// The channel.
        channel: Box<str>,
        /// What it is like.
        options: ChannelOptions,
    },
    /// The result of [`BackEndCommand::Channels`].
    Channels(ChannelsPage),
    /// A trigger refused the command, with this reason.
    Refused(Box<str>),
    /// The result of [`BackEndCommand::Disconnect`].
    Disconnected {
        /// Sessions that were told to go.
        sessions: usize,
    },
}

/// The messages that a session receives on joining, from the time of its absence.
#[derive(Debug)]
pub enum Recovery {
    /// The session did not ask for recovery.
    NotAsked,
    /// The channel's history no longer reaches back to the session's position.
    Lost,
    /// Every message since the session's position, in order.
    Recovered(Vec<HistoryItem>),
}

/// The session tokens that a back end revokes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TokensOf<'a> {
    /// A user's tokens.
    User {
        /// The user.
        name: &'a str,
        /// Tokens that were issued in this Unix second or before are refused; `None` for the present second.
        issued_until: Option<u64>,
    },
    /// The tokens with this id.
    Id(&'a str),
}

/// Whom a back end wants gone.
#[derive(Clone, Debug)]
pub enum Disconnection {
    /// One session.
    Session(SessionId),
    /// All sessions of a user.
    User(Box<str>),
    /// All sessions that began with a token of this id.
    Token(Box<str>),
}

/// A page of channels.
#[derive(Debug)]
pub struct ChannelsPage {
    /// The channels' names and numbers of members.
    pub channels: Vec<(Box<str>, usize)>,
    /// The cursor of the next page; `None` on the last page.
    pub next: Option<String>,
}

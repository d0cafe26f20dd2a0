//! Commands and their outcomes: the one vocabulary that every dialect decodes to and encodes from.
//!
//! A session says [`Command`]s, an app's back end [`BackEndCommand`]s. Both come to an [`Outcome`].

mod options_change;

use std::sync::Arc;

pub use self::options_change::OptionsChange;

use crate::{
    app::ChannelOptions,
    channel::{HistoryItem, Page, PageStart, Position},
    disconnect::Disconnect,
    id::{MessageId, SessionId},
    publication::{Audience, Given, IdentityCard, Payload, UserChange, UserState},
};

/// What a session wants done. Text borrows from the frame it came in.
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
        /// Whether the member is told who joins, leaves and updates, where that is announced; `None`: yes.
        /// Joining again changes it.
        notices: Option<bool>,
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
    /// The members of a channel that keeps a roster, in one list that agrees with the notices: to its asker,
    /// if that is a member, it has what the notices before it tell, and nothing that those after it tell.
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
    /// End the session, for what its client has sent.
    End {
        /// Why.
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

/// What an app's back end wants done. Text borrows from the request it came in.
#[derive(Clone, Debug)]
pub enum BackEndCommand<'a> {
    /// Publish.
    Publish {
        /// What, and to whom.
        publish: Publish<'a>,
        /// A repetition with the same key publishes nothing and has the outcome of the first.
        idempotency_key: Option<&'a str>,
    },
    /// Publish with an id, a time and a sender's name that the back end gives.
    PublishAs(PublishAs<'a>),
    /// Publish to the sessions of a user, in one order for all of them.
    PublishToUser {
        /// The user.
        user: &'a str,
        /// The event's name.
        event: &'a str,
        /// The message.
        payload: Payload<'a>,
        /// What the dialect alone reads that it came by; see [`Given::note`].
        note: Option<Box<str>>,
    },
    /// Edit or delete a message, whoever sent it.
    Change(ChangeMessage<'a>),
    /// Edit or delete a message if it is remembered, and tell an audience in any case.
    Amend(AmendMessage<'a>),
    /// A page of a channel's members.
    Members {
        /// The channel.
        channel: &'a str,
        /// How many at most.
        limit: usize,
        /// Where to go on.
        after: Option<Cursor>,
    },
    /// All members of the channel of this name. The list is whole, or the command fails.
    AllMembers(&'a str),
    /// A page of a channel's users.
    Users {
        /// The channel.
        channel: &'a str,
        /// How many at most.
        limit: usize,
        /// The user to go on after.
        after: Option<&'a str>,
    },
    /// A page of a channel's history.
    History {
        /// The channel.
        channel: &'a str,
        /// Where it begins, and which way it goes.
        from: PageStart,
        /// How many messages at most.
        limit: usize,
    },
    /// A page of the app's channels, unsorted. Each page looks at a bounded number of channels, so it may be
    /// short.
    Channels {
        /// How their names begin.
        prefix: &'a str,
        /// How many at most.
        limit: usize,
        /// The cursor of the page before.
        after: Option<&'a str>,
    },
    /// The options that a channel has, or would come into being with.
    Options {
        /// The channel.
        channel: &'a str,
    },
    /// Set a channel's options, whether or not it exists.
    SetOptions {
        /// The channel.
        channel: &'a str,
        /// What is to differ from the configuration.
        change: OptionsChange,
        /// Whether nothing is to change if the channel exists already: a dialect that gives options with a
        /// join means them for channels that the join makes.
        only_new: bool,
    },
    /// Change the state of a user, and tell it to members of the user's channels whose options ask for it.
    SetUser {
        /// The user.
        user: &'a str,
        /// What is to be different.
        change: UserChange,
        /// Whether members are told.
        announce: bool,
    },
    /// The state of a user.
    User {
        /// The user.
        user: &'a str,
    },
    /// A page of a user's sessions.
    Sessions {
        /// The user.
        user: &'a str,
        /// How many at most.
        limit: usize,
        /// Where to go on.
        after: Option<Cursor>,
    },
    /// End sessions.
    Disconnect {
        /// Whose.
        whom: Disconnection,
        /// Whether their clients are asked to come back.
        reconnect: bool,
    },
    /// Have a session enter or leave a channel.
    Enroll {
        /// The session.
        session: SessionId,
        /// The channel.
        channel: &'a str,
        /// Which of both.
        membership: Membership,
    },
    /// Tell clients what only the dialect has words for that asks for it.
    Tell {
        /// The channel, whose members are told; `None`: the users that the audience names.
        channel: Option<&'a str>,
        /// Whom it is for.
        audience: Audience,
        /// The words.
        words: Arc<str>,
    },
}

/// Whether a session becomes a member or stops being one.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Membership {
    /// It becomes one.
    Begins,
    /// It is one no more.
    Ends,
}

/// A publication of which the back end decides more than of others.
#[derive(Clone, Debug)]
pub struct PublishAs<'a> {
    /// What, and to whom.
    pub publish: Publish<'a>,
    /// The message's id, any UUID; `None`: the server makes one. Nobody checks that no other message has it.
    pub id: Option<MessageId>,
    /// What else it says. A time in the future counts as now.
    pub given: Given,
    /// Whether nothing is done if there is no such channel: nobody is in it, it remembers nothing, and no
    /// options were set for it.
    pub only_existing: bool,
}

/// A change of a message that need not be remembered.
#[derive(Clone, Debug)]
pub struct AmendMessage<'a> {
    /// The channel; `None`: the audience's users are told, whatever they are in.
    pub channel: Option<&'a str>,
    /// The message.
    pub id: MessageId,
    /// Whether it goes.
    pub deletes: bool,
    /// What it is to say, if it is to say something else.
    pub payload: Option<Payload<'a>>,
    /// Whom the change is told. The message stays for whom it was for.
    pub audience: Audience,
    /// What else is to be different.
    pub given: Given,
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
        /// What the session receives of the time before.
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
    /// Of [`BackEndCommand::AllMembers`].
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
    /// Of [`BackEndCommand::Enroll`] and [`BackEndCommand::Tell`].
    Done,
    /// Of `Roster`.
    Roster(Roster),
    /// A user's state; `None`: nothing is known.
    User {
        /// The user.
        user: Box<str>,
        /// Its state, as it is now.
        state: Option<Arc<UserState>>,
        /// The keys whose values were changed.
        changed: Vec<Box<str>>,
    },
    /// Sessions of a user.
    Sessions(SessionsPage),
    /// Of `Users`.
    Users(UsersPage),
    /// A channel's options.
    Options {
        /// The channel.
        channel: Box<str>,
        /// What it is like.
        options: ChannelOptions,
    },
    /// Channels of an app.
    Channels(ChannelsPage),
    /// Of [`BackEndCommand::Disconnect`].
    Disconnected {
        /// Sessions that were told to go.
        sessions: usize,
    },
}

/// What a session that joins receives of the time in which it was away.
#[derive(Debug)]
pub enum Recovery {
    /// The session did not ask for recovery.
    NotAsked,
    /// The channel's history no longer reaches back to the session's position.
    Lost,
    /// Every message since the session's position, in order.
    Recovered(Vec<HistoryItem>),
}

/// Whom a back end wants gone.
#[derive(Clone, Debug)]
pub enum Disconnection {
    /// One session.
    Session(SessionId),
    /// All sessions of a user.
    User(Box<str>),
}

/// A page of members.
#[derive(Debug)]
pub struct MembersPage {
    /// The channel.
    pub channel: Box<str>,
    /// Members in all.
    pub total: usize,
    /// This page.
    pub members: Vec<IdentityCard>,
    /// Where the next one begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// The members of a channel that keeps a roster.
#[derive(Debug)]
pub struct Roster {
    /// The channel.
    pub channel: Box<str>,
    /// Members in all; more than there are in the list if these are too many for one.
    pub total: usize,
    /// The members.
    pub members: Vec<Arc<IdentityCard>>,
}

/// A page of a channel's users.
#[derive(Debug)]
pub struct UsersPage {
    /// The channel.
    pub channel: Box<str>,
    /// Users in all.
    pub total: usize,
    /// This page: users, and how many sessions of each are members.
    pub users: Vec<(Box<str>, u32)>,
    /// The user after which the next page begins; `None` at the end.
    pub next: Option<Box<str>>,
}

impl UsersPage {
    /// Takes over what was read.
    pub fn fill(&mut self, users: Vec<(Box<str>, u32)>, total: usize, more: bool) {
        self.next = users.last().filter(|_| more).map(|(user, _)| user.clone());
        self.users = users;
        self.total = total;
    }
}

/// A page of a user's sessions.
#[derive(Debug)]
pub struct SessionsPage {
    /// The user.
    pub user: Box<str>,
    /// This page.
    pub sessions: Vec<UserSession>,
    /// Where the next one begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// A session, as its app's back end sees it.
#[derive(Debug)]
pub struct UserSession {
    /// The session.
    pub id: SessionId,
    /// Its profile, JSON as it was sent; `None` until it was set.
    pub profile: Option<Arc<str>>,
    /// The channels it is in.
    pub channels: Vec<Box<str>>,
}

/// A page of channels.
#[derive(Debug)]
pub struct ChannelsPage {
    /// Names and numbers of members.
    pub channels: Vec<(Box<str>, usize)>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// Where a page of members ended: on a worker, after a join number.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Cursor {
    /// The worker to go on at.
    pub worker: u16,
    /// The join number to go on after.
    pub after: u64,
}

impl Cursor {
    /// The textual form, `worker.number`.
    pub fn text(&self) -> String {
        format!("{}.{}", self.worker, self.after)
    }

    /// Parses the textual form.
    pub fn parse(text: &str) -> Option<Self> {
        let (worker, after) = text.split_once('.')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        (digits(worker) && digits(after)).then_some(())?;
        Some(Self { worker: worker.parse().ok()?, after: after.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_survives_its_textual_form_and_refuses_others() {
        let cursor = Cursor { worker: 3, after: 77 };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        for text in ["", ".", "3", "3.", ".7", "3.x", "-1.2", "+1.2", "99999.1", "1.99999999999999999999"] {
            assert_eq!(Cursor::parse(text), None, "{text:?}");
        }
    }
}

//! What the original keeps of its users, connections and channels: one directory for each app.
//!
//! The directory is data and rules without sockets, clock or lock. A back end's request is applied to it as a
//! whole; what has to reach connected clients comes out as [`Effect`]s, in order. The shell keeps a directory
//! behind a lock and hands the effects to its engine before it lets go, so that the order of a channel's
//! frames in the directory is their order for its members. No message of a client, and no delivery, looks
//! into a directory.
//!
//! ```text
//!   /connect ─▶ waiting ──/ws──▶ attached ──socket closed, /disconnect──▶ gone
//!                  └── 15 s ─────────────────────────────────────────────▶ gone
//! ```
//!
//! Invariants: a connection's user exists; a connection is in a channel's list exactly if the channel is in
//! its own; a user with connections and a channel with users do not expire.

mod channel;
mod clients;
mod messages;
mod notices;
mod report;
mod user;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use self::{channel::Channel, notices::Presence, user::User};
use super::{
    entry::{Entry, Ring},
    schema::{Connect, InfoConfig, Item, Settings, SettingsByChannel, Subscription, UserState},
    timestamp::Moment,
    tree::{Json, Members, object},
};
use crate::{
    command::Membership,
    id::{IdGenerator, MessageId, SessionId},
    publication::{Audience, Given},
};

/// Opens a connection: a UUID that its client keeps to itself.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct ConnId(pub(super) u128);

impl ConnId {
    /// An id from bits of the operating system's randomness.
    pub fn from_random(bits: u128) -> Self {
        Self::parse(&MessageId::from_random(bits).to_string()).expect("it is a UUID")
    }

    /// The id that a text spells, in any spelling of a UUID.
    pub fn parse(text: &str) -> Option<Self> {
        super::fields::parse_uuid(text).map(Self)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MessageId::from_bits(self.0).fmt(f)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnId(…)")
    }
}

/// How long a connection without a client is kept.
const WAITING_US: u64 = 15_000_000;
/// How long a user without connections is kept.
const USER_US: u64 = 86_400_000_000;
/// How long a channel without users is kept.
const CHANNEL_US: u64 = 7 * USER_US;

/// How much a directory may hold.
#[derive(Copy, Clone, Debug)]
pub struct DirectoryLimits {
    /// Bytes of messages and notices that are remembered.
    pub bytes: usize,
    /// Bytes of one message as compact JSON, with its further members.
    pub message_bytes: usize,
    /// Connections that wait for their clients.
    pub waiting: usize,
    /// Users.
    pub users: usize,
    /// Channels.
    pub channels: usize,
}

impl Default for DirectoryLimits {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            message_bytes: 64 << 10,
            waiting: 10_000,
            users: 1_000_000,
            channels: 100_000,
        }
    }
}

/// What has to happen outside the directory.
#[derive(Debug)]
pub enum Effect {
    /// Clients are told something.
    Tell(Box<Tell>),
    /// A client's session enters or leaves a channel.
    Enroll {
        /// The session.
        session: SessionId,
        /// The channel.
        channel: Box<str>,
        /// Which of both.
        membership: Membership,
    },
    /// A client's session ends.
    End {
        /// The session.
        session: SessionId,
    },
}

/// Something that clients are told.
#[derive(Debug)]
pub struct Tell {
    /// The channel; `None`: the users of the audience, wherever they are.
    pub channel: Option<Box<str>>,
    /// Whom it is for.
    pub audience: Audience,
    /// What they are told.
    pub what: What,
}

/// What is told.
#[derive(Debug)]
pub enum What {
    /// A message.
    Message {
        /// The message.
        content: Content,
        /// Whether histories may keep it.
        history: bool,
    },
    /// A message says something else from now on.
    Edit(Content),
    /// The message of this id is gone.
    Delete(MessageId),
    /// A frame, without the brackets around it, for which only this dialect has words.
    Words(Arc<str>),
}

/// What a message says, or says from now on.
#[derive(Debug)]
pub struct Content {
    /// The message's id.
    pub id: MessageId,
    /// The payload, if one is given.
    pub payload: Option<Box<str>>,
    /// The rest.
    pub given: Given,
}

/// Why a request is refused that makes sense.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Full {
    Connections,
    Users,
    Channels,
}

/// See the module.
#[derive(Debug)]
pub struct Directory {
    limits: DirectoryLimits,
    ids: IdGenerator,
    started: Moment,
    /// Moments given out only rise.
    last: Moment,
    users: HashMap<Box<str>, User>,
    connections: HashMap<ConnId, Connection>,
    sessions: HashMap<SessionId, ConnId>,
    channels: BTreeMap<Box<str>, Channel>,
    memory: Memory,
    /// When something is to be looked at that may be kept no longer.
    deadlines: BTreeSet<(Moment, Expiring)>,
    waiting: usize,
    counters: DirectoryCounters,
}

/// What a directory has done.
#[derive(Copy, Clone, Default, Debug)]
pub struct DirectoryCounters {
    /// Messages of back ends.
    pub messages: u64,
    /// Connections that these were for.
    pub deliveries: u64,
    /// Connections whose clients never came, or came no more.
    pub collected: u64,
    /// Requests that found a bound reached.
    pub refused: u64,
}

/// What may be kept no longer.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
enum Expiring {
    Connection(ConnId),
    User(Box<str>),
    Channel(Box<str>),
}

#[derive(Debug)]
struct Connection {
    user: Box<str>,
    channels: BTreeSet<Box<str>>,
    last_active: Moment,
    /// Of its client.
    session: Option<SessionId>,
}

/// What all rings together cost.
#[derive(Debug)]
pub(super) struct Memory {
    used: usize,
    most: usize,
    /// Entries that were forgotten for want of room.
    forgotten: u64,
}

impl Memory {
    /// Appends an entry to a ring of at most `most`. Without room the ring's oldest go, and then it itself.
    fn push(&mut self, ring: &mut Ring, most: usize, now: Moment, entry: &Arc<Entry>) {
        self.cut(ring, most - 1);
        let bytes = entry.bytes();
        while self.used + bytes > self.most {
            self.forgotten += 1;
            match ring.pop() {
                Some(freed) => self.release(freed),
                None => return,
            }
        }
        self.used += bytes;
        ring.push(now, entry.clone());
    }

    fn cut(&mut self, ring: &mut Ring, most: usize) {
        while ring.len() > most {
            self.release(ring.pop().unwrap_or_default());
        }
    }

    fn replace(&mut self, ring: &mut Ring, edit: &Item) {
        if let Some(entry) = ring.message_mut(edit.uuid) {
            let edited = Arc::new(entry.edited(edit));
            self.used = self.used - entry.bytes() + edited.bytes();
            *entry = edited;
        }
    }

    fn release(&mut self, bytes: usize) {
        self.used -= bytes;
    }
}

/// A client that may come in.
#[derive(Debug)]
pub struct Arrival {
    /// Its user.
    pub user: Box<str>,
    /// What others see of the user's state, as JSON.
    pub public_state: Box<str>,
    /// The channels that it is in.
    pub channels: Vec<Box<str>>,
}

impl Directory {
    /// An empty directory. `seed` is random.
    pub fn new(limits: DirectoryLimits, seed: u64, now: Moment) -> Self {
        Self {
            limits,
            ids: IdGenerator::new(seed),
            started: now,
            last: now,
            users: HashMap::new(),
            connections: HashMap::new(),
            sessions: HashMap::new(),
            channels: BTreeMap::new(),
            memory: Memory { used: 0, most: limits.bytes, forgotten: 0 },
            deadlines: BTreeSet::new(),
            waiting: 0,
            counters: DirectoryCounters::default(),
        }
    }

    /// What it has done.
    pub fn counters(&self) -> DirectoryCounters {
        self.counters
    }

    /// When [`Directory::expire`] has something to do.
    pub fn next_due(&self) -> Option<Moment> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// A moment after every other.
    pub(super) fn tick(&mut self, now: Moment) -> Moment {
        self.last = now.max(self.last.after(1));
        self.last
    }

    pub(super) fn fresh_id(&mut self) -> MessageId {
        let (high, low) = (self.ids.random(), self.ids.random());
        MessageId::from_random(u128::from(high) << 64 | u128::from(low))
    }

    pub(super) fn is_connection(&self, conn: ConnId) -> bool {
        self.connections.contains_key(&conn)
    }

    pub(super) fn is_connection_of_another(&self, conn: ConnId, user: &str) -> bool {
        self.connections.get(&conn).is_some_and(|connection| *connection.user != *user)
    }

    pub(super) fn is_user(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// A back end announces a client. `fresh` is its id unless the back end chose one.
    pub(super) fn connect(
        &mut self,
        request: Connect,
        fresh: ConnId,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> Result<Members, Full> {
        let Connect { username, conn_id, mut channels, public_keys, fresh_state, state, settings, info } =
            request;
        channels.sort_unstable();
        let conn = conn_id.unwrap_or(fresh);
        self.check_room(&username, conn, &channels)?;
        let now = self.tick(now);
        let uuid = self.fresh_id();
        let user = self.users.entry(username.clone()).or_insert_with(|| {
            let mut user = User::new(uuid, now);
            user.merge(fresh_state);
            user
        });
        user.public_keys = public_keys;
        user.merge(state);
        user.last_active = now;
        self.register(conn, &username, now);
        for channel in &channels {
            self.enter(conn, channel, &settings, now, effects);
        }
        let user = &self.users[&*username];
        let (state, public_state) = (user.state.clone(), user.public_state());
        let channels_info = self.channels_info(channels.iter().map(|name| &**name), &info);
        Ok(object! {
            "conn_id": conn.to_string(),
            "state": state,
            "username": &*username,
            "public_state": public_state,
            "channels": channels.iter().map(|name| &**name).collect::<Json>(),
            "channels_info": channels_info,
        })
    }

    fn check_room(&mut self, user: &str, conn: ConnId, channels: &[Box<str>]) -> Result<(), Full> {
        let DirectoryLimits { waiting, users, .. } = self.limits;
        let full = if !self.is_connection(conn) && self.waiting >= waiting {
            Some(Full::Connections)
        } else if !self.is_user(user) && self.users.len() >= users {
            Some(Full::Users)
        } else {
            return self.check_channels(channels.iter());
        };
        self.counters.refused += 1;
        full.map_or(Ok(()), Err)
    }

    fn check_channels<'a>(&mut self, channels: impl Iterator<Item = &'a Box<str>>) -> Result<(), Full> {
        let new = channels.filter(|channel| !self.channels.contains_key(*channel)).count();
        if self.channels.len() + new <= self.limits.channels {
            return Ok(());
        }
        self.counters.refused += 1;
        Err(Full::Channels)
    }

    /// Says which messages are too long.
    pub(super) fn check_items(&self, items: &[Item]) -> Result<(), Members> {
        let most = self.limits.message_bytes;
        let mut errors = Members::default();
        for (at, item) in items.iter().enumerate() {
            let message = item.message.iter().map(|message| Json::Object(message.clone()).compact().len());
            let bytes = message.sum::<usize>() + Json::Object(item.extras.clone()).compact().len();
            if bytes > most {
                let sentence = super::fields::wrong(&format!("Longer than {most} bytes."));
                errors.push(at.to_string(), object! { "message": sentence });
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Takes in a connection, or has one live longer that is there.
    fn register(&mut self, conn: ConnId, user: &str, now: Moment) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            if connection.session.is_none() {
                let before = connection.last_active;
                self.deadlines.remove(&(before.after(WAITING_US), Expiring::Connection(conn)));
                self.deadlines.insert((now.after(WAITING_US), Expiring::Connection(conn)));
            }
            connection.last_active = now;
            return;
        }
        let connection =
            Connection { user: user.into(), channels: BTreeSet::new(), last_active: now, session: None };
        self.connections.insert(conn, connection);
        self.waiting += 1;
        self.deadlines.insert((now.after(WAITING_US), Expiring::Connection(conn)));
        if let Some(user) = self.users.get_mut(user) {
            user.connections.push(conn);
        }
    }

    /// Makes a connection a member. Returns whether it was none.
    fn enter(
        &mut self,
        conn: ConnId,
        name: &str,
        settings: &SettingsByChannel,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> bool {
        self.find_or_create(name, settings, now);
        let Some(connection) = self.connections.get_mut(&conn) else { return false };
        if !connection.channels.insert(name.into()) {
            return false;
        }
        let (user, session) = (connection.user.clone(), connection.session);
        if !self.channels[name].users.contains_key(&user) {
            self.tell_presence(name, &user, Presence::Joined, now, effects);
        }
        if let Some(channel) = self.channels.get_mut(name) {
            channel.add(&user, conn);
        }
        if let Some(session) = session {
            effects.push(Effect::Enroll { session, channel: name.into(), membership: Membership::Begins });
        }
        true
    }

    /// The channel, which comes into being with the settings that are given for it.
    fn find_or_create(&mut self, name: &str, settings: &SettingsByChannel, now: Moment) -> &mut Channel {
        if !self.channels.contains_key(name) {
            let own = settings.iter().find(|(of, _)| **of == *name);
            let own = own.map_or_else(Settings::default, |(_, settings)| *settings);
            let channel = Channel::new(self.fresh_id(), own, now);
            self.channels.insert(name.into(), channel);
            self.deadlines.insert((now.after(CHANNEL_US), Expiring::Channel(name.into())));
        }
        self.channels.get_mut(name).expect("it is there now")
    }

    /// Ends a membership. Returns whether there was one.
    pub(super) fn leave(&mut self, conn: ConnId, name: &str, now: Moment, effects: &mut Vec<Effect>) -> bool {
        let Some(connection) = self.connections.get_mut(&conn) else { return false };
        if !connection.channels.remove(name) {
            return false;
        }
        let (user, session) = (connection.user.clone(), connection.session);
        if let Some(session) = session {
            effects.push(Effect::Enroll { session, channel: name.into(), membership: Membership::Ends });
        }
        let Some(channel) = self.channels.get_mut(name) else { return true };
        if channel.remove(&user, conn) == Some(true) {
            if channel.users.is_empty() {
                self.deadlines.insert((now.after(CHANNEL_US), Expiring::Channel(name.into())));
            }
            self.tell_presence(name, &user, Presence::Parted, now, effects);
        }
        true
    }

    pub(super) fn subscribe(
        &mut self,
        request: &Subscription,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> Result<Members, Full> {
        let Subscription { conn_id, channels, settings, info } = request;
        let now = self.tick(now);
        let in_all = self.connections[conn_id].channels.len() + channels.len();
        if in_all > super::schema::CHANNELS {
            self.counters.refused += 1;
            return Err(Full::Channels);
        }
        self.check_channels(channels.iter())?;
        let mut entered: Vec<&str> = Vec::new();
        for channel in channels {
            if self.enter(*conn_id, channel, settings, now, effects) {
                entered.push(channel);
            }
        }
        entered.sort_unstable();
        Ok(self.subscription_answer(*conn_id, info, "subscribed_to", &entered))
    }

    pub(super) fn unsubscribe(
        &mut self,
        request: &Subscription,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> Members {
        let Subscription { conn_id, channels, info, .. } = request;
        let now = self.tick(now);
        let mut left: Vec<&str> = Vec::new();
        for channel in channels {
            if self.leave(*conn_id, channel, now, effects) {
                left.push(channel);
            }
        }
        left.sort_unstable();
        self.subscription_answer(*conn_id, info, "unsubscribed_from", &left)
    }

    fn subscription_answer(&self, conn: ConnId, info: &InfoConfig, what: &str, changed: &[&str]) -> Members {
        let channels = &self.connections[&conn].channels;
        let mut answer = object! {
            "channels": channels.iter().map(|name| &**name).collect::<Json>(),
            "channels_info": self.channels_info(channels.iter().map(|name| &**name), info),
        };
        answer.push(what, changed.iter().copied().collect::<Json>());
        answer
    }

    pub(super) fn set_user_state(
        &mut self,
        request: UserState,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> Members {
        let UserState { user: name, state, public_keys } = request;
        let now = self.tick(now);
        let user = self.users.get_mut(&*name).expect("the request was checked");
        if let Some(keys) = public_keys {
            user.public_keys = keys;
        }
        let changed = user.merge(state);
        user.last_active = now;
        let answer = object! {
            "user_state": user.state.clone(),
            "changed_state": user::pairs(&changed),
            "public_keys": user.public_keys.iter().map(|key| &**key).collect::<Json>(),
        };
        if !changed.is_empty() {
            self.tell_state(&name, &changed, now, effects);
        }
        answer
    }

    pub(super) fn configure(&mut self, settings: &SettingsByChannel, now: Moment) -> Result<Members, Full> {
        self.check_channels(settings.iter().map(|(name, _)| name))?;
        let now = self.tick(now);
        for (name, own) in settings {
            self.find_or_create(name, settings, now).settings = *own;
        }
        let info = InfoConfig { history: false, users: false, ..InfoConfig::default() };
        Ok(self.channels_info(settings.iter().map(|(name, _)| &**name), &info))
    }
}

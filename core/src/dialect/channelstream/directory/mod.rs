//! The directory: the users, connections and channels that Channelstream's protocol remembers. Each app has
//! one directory.
//!
//! The directory is data and rules without sockets, clock or lock. A back end's request is applied to the
//! directory as a whole. Everything that connected clients have to receive comes out as [`Effect`]s, in
//! order. The shell keeps a directory behind a lock and hands the effects to its engine before it releases
//! the lock, so members receive a channel's frames in the order of the directory. A client's message and a
//! delivery never read a directory.
//!
//! ```text
//!   /connect ─▶ waiting ──/ws──▶ attached ──socket closed, /disconnect──▶ gone
//!                  └── 15 s ─────────────────────────────────────────────▶ gone
//! ```
//!
//! Invariants: a connection's user exists. A channel lists a connection exactly if the connection lists the
//! channel. A user with connections and a channel with users do not expire. The directory lists a member of
//! another dialect exactly while the member is in the channel.

mod channel;
mod clients;
mod figures;
mod memory;
mod messages;
mod names;
mod notices;
mod others;
mod report;
mod states;
mod user;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

pub use self::figures::{DirectoryCounters, DirectoryLimits, DirectorySizes};
pub(super) use self::report::Listing;
use self::{channel::Channel, memory::Memory, names::Names, notices::Presence, others::Others, user::User};
use super::{
    effect::Effect,
    schema::{Connect, InfoConfig, Item, Settings, SettingsByChannel, Subscription, UserState},
    timestamp::Moment,
    tree::{Json, Members, object},
};
use crate::{
    command::Membership,
    id::{IdGenerator, MessageId, SessionId},
    secret::Secret,
    user_states::UserStates,
};

/// The id of a connection: a UUID, which is also the client's secret.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct ConnId(pub(super) u128);

impl ConnId {
    /// The id of these random bits of the operating system.
    pub fn from_random(bits: u128) -> Self {
        Self::parse(&MessageId::from_random(bits).to_string()).expect("it is a UUID")
    }

    /// The id that a text spells, in any spelling of a UUID.
    pub fn parse(text: &str) -> Option<Self> {
        super::fields::parse_uuid(text).map(Self)
    }
}

impl ConnId {
    /// The secret by which the node finds the client's outlet.
    pub fn secret(self) -> Secret {
        Secret::new(self.0)
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

/// The lifetime of a connection without a client, in microseconds.
const WAITING_US: u64 = 15_000_000;
/// The lifetime of a user without connections, in microseconds.
const USER_US: u64 = 86_400_000_000;
/// The lifetime of a channel without users, in microseconds.
const CHANNEL_US: u64 = 7 * USER_US;

/// The reason why a well-formed request is refused.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Full {
    Connections,
    Users,
    Channels,
    /// The user's state is too long.
    State,
}

/// A directory; see the module's description.
#[derive(Debug)]
pub struct Directory {
    limits: DirectoryLimits,
    ids: IdGenerator,
    started: Moment,
    /// The last moment that the directory gave out. Every moment is later than the one before it.
    last: Moment,
    users: HashMap<Box<str>, Box<User>>,
    connections: HashMap<ConnId, Connection>,
    sessions: HashMap<SessionId, ConnId>,
    channels: BTreeMap<Box<str>, Channel>,
    /// The members of channels whom other dialects serve, by channel. A channel without such members has no
    /// entry.
    others: BTreeMap<Box<str>, Others>,
    states: Arc<UserStates>,
    memory: Memory,
    /// When to look at connections, users and channels that may expire.
    deadlines: BTreeSet<(Moment, Expiring)>,
    waiting: usize,
    counters: DirectoryCounters,
}

/// A connection, a user or a channel that may expire.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
enum Expiring {
    Connection(ConnId),
    User(Box<str>),
    Channel(Box<str>),
}

#[derive(Debug)]
struct Connection {
    user: Box<str>,
    channels: Names,
    last_active: Moment,
    /// The session of the connection's client.
    session: Option<SessionId>,
}

/// A client that may attach.
#[derive(Debug)]
pub struct Arrival {
    /// The user of the client.
    pub user: Box<str>,
    /// The public part of the user's state, as JSON.
    pub public_state: Box<str>,
    /// The channels of the client's connection.
    pub channels: Vec<Box<str>>,
    /// Whether another session is attached to the connection.
    pub is_attached: bool,
}

impl Directory {
    /// An empty directory, for an app with these states of users. `seed` is random.
    pub fn new(limits: DirectoryLimits, seed: u64, now: Moment, states: Arc<UserStates>) -> Self {
        Self {
            limits,
            ids: IdGenerator::new(seed),
            started: now,
            last: now,
            users: HashMap::new(),
            connections: HashMap::new(),
            sessions: HashMap::new(),
            channels: BTreeMap::new(),
            others: BTreeMap::new(),
            states,
            memory: Memory::new(limits.bytes),
            deadlines: BTreeSet::new(),
            waiting: 0,
            counters: DirectoryCounters::default(),
        }
    }

    /// The counters of the directory.
    pub fn counters(&self) -> DirectoryCounters {
        DirectoryCounters { forgotten: self.memory.forgotten(), ..self.counters }
    }

    /// The sizes of the directory.
    pub fn sizes(&self) -> DirectorySizes {
        DirectorySizes {
            users: self.users.len(),
            connections: self.connections.len(),
            waiting: self.waiting,
            bytes: self.memory.used(),
        }
    }

    /// When [`Directory::expire`] has to be called next.
    pub fn next_due(&self) -> Option<Moment> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// The next moment, which is later than every moment before it.
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

    pub(super) fn user_of(&self, conn: ConnId) -> Option<&str> {
        self.connections.get(&conn).map(|connection| &*connection.user)
    }

    /// The channels of a user's connections, sorted.
    fn channels_of(&self, user: &str) -> BTreeSet<Box<str>> {
        let connections = self.users.get(user).into_iter().flat_map(|user| &user.connections);
        let connections = connections.filter_map(|conn| self.connections.get(conn));
        connections.flat_map(|connection| connection.channels.iter().cloned()).collect()
    }

    pub(super) fn is_in(&self, conn: ConnId, channel: &str) -> bool {
        self.connections.get(&conn).is_some_and(|connection| connection.channels.contains(channel))
    }

    /// Opens a connection for a client that a back end announces. `fresh` is the connection's id unless the
    /// back end chose one.
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
        let (now, before) = (self.tick(now), self.public_state(&username));
        let fresh = if self.is_user(&username) { Vec::new() } else { fresh_state };
        let changed = self.change_state(&username, (fresh, state), Some(public_keys), effects)?;
        let uuid = self.fresh_id();
        let user = self.users.entry(username.clone()).or_insert_with(|| Box::new(User::new(uuid, now)));
        user.last_active = now;
        self.show_profile(&username, &before, effects);
        self.register(conn, &username, now);
        for channel in &channels {
            self.enter(conn, channel, &settings, now, effects);
        }
        let public_state = self.public_state(&username);
        let channels_info = self.channels_info(channels.iter().map(|name| &**name), &info);
        Ok(object! {
            "conn_id": conn.to_string(),
            "state": changed.state,
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

    /// Checks the sizes of messages. The error names the messages that are too long.
    pub(super) fn check_items(&self, items: &[Item]) -> Result<(), Members> {
        let most = self.limits.message_bytes;
        let mut errors = Members::default();
        for (at, item) in items.iter().enumerate() {
            let message = item.message.iter().map(|message| message.compact().len());
            let bytes = message.sum::<usize>() + item.extras.compact().len();
            if bytes > most {
                let sentence = super::fields::wrong(&format!("Longer than {most} bytes."));
                errors.push(at.to_string(), object! { "message": sentence });
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Adds a connection, or prolongs the life of an existing one.
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
            Connection { user: user.into(), channels: Names::default(), last_active: now, session: None };
        self.connections.insert(conn, connection);
        self.waiting += 1;
        self.deadlines.insert((now.after(WAITING_US), Expiring::Connection(conn)));
        if let Some(user) = self.users.get_mut(user) {
            user.connections.push(conn);
        }
    }

    /// Makes a connection a member of a channel. Returns false if it was a member before.
    fn enter(
        &mut self,
        conn: ConnId,
        name: &str,
        settings: &SettingsByChannel,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> bool {
        self.find_or_create(name, settings, now, effects);
        let Some(connection) = self.connections.get_mut(&conn) else { return false };
        if !connection.channels.insert(name) {
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

    /// The channel with this name, which is created with its settings in `settings` if it does not exist.
    fn find_or_create(
        &mut self,
        name: &str,
        settings: &SettingsByChannel,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> &mut Channel {
        if !self.channels.contains_key(name) {
            let own = settings.iter().find(|(of, _)| **of == *name);
            let own = own.map_or_else(Settings::default, |(_, settings)| *settings);
            let known = self.others.get(name).map(|others| others.channel.uuid);
            let channel = Channel::new(known.unwrap_or_else(|| self.fresh_id()), own, now);
            self.channels.insert(name.into(), channel);
            remember(name, Settings::default(), own, effects);
            self.deadlines.insert((now.after(CHANNEL_US), Expiring::Channel(name.into())));
        }
        self.channels.get_mut(name).expect("it is there now")
    }

    /// Removes a connection from a channel. Returns whether it was a member.
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
    ) -> Result<Members, Full> {
        let UserState { user: name, state, public_keys } = request;
        let (now, before) = (self.tick(now), self.public_state(&name));
        let changed = self.change_state(&name, (Vec::new(), state), public_keys, effects)?;
        if let Some(user) = self.users.get_mut(&name) {
            user.last_active = now;
        }
        let answer = object! {
            "user_state": changed.state,
            "changed_state": states::pairs(&changed.values),
            "public_keys": changed.public_keys.iter().map(|key| &**key).collect::<Json>(),
        };
        self.tell_state(&name, &changed.values, now, effects);
        self.show_profile(&name, &before, effects);
        Ok(answer)
    }

    pub(super) fn configure(
        &mut self,
        settings: &SettingsByChannel,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> Result<Members, Full> {
        self.check_channels(settings.iter().map(|(name, _)| name))?;
        let now = self.tick(now);
        for (name, own) in settings {
            let channel = self.find_or_create(name, settings, now, effects);
            let before = std::mem::replace(&mut channel.settings, *own);
            remember(name, before, *own, effects);
        }
        let info = InfoConfig { history: false, users: false, ..InfoConfig::default() };
        Ok(self.channels_info(settings.iter().map(|(name, _)| &**name), &info))
    }
}

/// Has the histories of all dialects keep what a channel's new settings ask for.
fn remember(channel: &str, before: Settings, now: Settings, effects: &mut Vec<Effect>) {
    if now.remembered() != before.remembered() {
        effects.push(Effect::Remember { channel: channel.into(), messages: now.remembered() });
    }
}

//! Arrival and departure of clients, and the expiry of connections, users and channels.

use std::sync::Arc;

use super::{
    super::{effect::Effect, timestamp::Moment, tree::Json},
    Arrival, CHANNEL_US, ConnId, Directory, Expiring, USER_US, WAITING_US,
};
use crate::id::SessionId;

impl Directory {
    /// Ends a connection. Returns false if the connection does not exist.
    pub(in super::super) fn disconnect(
        &mut self,
        conn: ConnId,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(connection) = self.connections.get(&conn) else { return false };
        if let Some(session) = connection.session {
            effects.push(Effect::End { session });
        }
        self.remove(conn, now, effects);
        true
    }

    fn remove(&mut self, conn: ConnId, now: Moment, effects: &mut Vec<Effect>) {
        let now = self.tick(now);
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        // A session that ends leaves its channels itself.
        match connection.session.take() {
            Some(session) => {
                self.sessions.remove(&session);
            }
            None => {
                self.waiting -= 1;
                let due = connection.last_active.after(WAITING_US);
                self.deadlines.remove(&(due, Expiring::Connection(conn)));
            }
        }
        for channel in self.connections[&conn].channels.clone().iter() {
            self.leave(conn, channel, now, effects);
        }
        let Some(connection) = self.connections.remove(&conn) else { return };
        if let Some(user) = self.users.get_mut(&connection.user) {
            user.connections.retain(|own| *own != conn);
            if user.connections.is_empty() {
                self.deadlines.insert((user.last_active.after(USER_US), Expiring::User(connection.user)));
            }
        }
    }

    /// The arrival of a connection's client; `None` if the connection does not exist.
    pub fn arrival(&self, conn: ConnId) -> Option<Arrival> {
        let connection = self.connections.get(&conn)?;
        let public_state = Json::Object(self.public_state(&connection.user)).compact().into();
        let channels = connection.channels.iter().cloned().collect();
        let is_attached = connection.session.is_some();
        Some(Arrival { user: connection.user.clone(), public_state, channels, is_attached })
    }

    /// Attaches a session to its connection: `session` is now a member of the connection's channels. Returns
    /// the frames that the client has missed.
    pub fn attach(
        &mut self,
        conn: ConnId,
        session: SessionId,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> Vec<Arc<str>> {
        let now = self.tick(now);
        let Some(connection) = self.connections.get_mut(&conn) else { return Vec::new() };
        let since = connection.last_active;
        let before = connection.session.replace(session);
        connection.last_active = now;
        self.sessions.insert(session, conn);
        if let Some(before) = before {
            self.sessions.remove(&before);
            effects.push(Effect::End { session: before });
            return Vec::new();
        }
        self.waiting -= 1;
        self.deadlines.remove(&(since.after(WAITING_US), Expiring::Connection(conn)));
        self.missed(conn, since)
    }

    /// The frames that a connection has missed: those of its channels, one channel after another, and then
    /// its user's private messages.
    fn missed(&self, conn: ConnId, since: Moment) -> Vec<Arc<str>> {
        let connection = &self.connections[&conn];
        let channels = connection.channels.iter().filter_map(|name| self.channels.get(name));
        let of_channels = channels.flat_map(|channel| channel.catch_up(&connection.user, since));
        of_channels.chain(self.users[&connection.user].catch_up(since)).collect()
    }

    /// Ends the connection of a session that has ended, unless the connection has another session by now.
    pub fn detach(&mut self, session: SessionId, now: Moment, effects: &mut Vec<Effect>) {
        if let Some(&conn) = self.sessions.get(&session) {
            self.remove(conn, now, effects);
        }
    }

    /// Removes the connections, users and channels whose time is over.
    pub fn expire(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        while let Some((due, _)) = self.deadlines.first()
            && *due <= now
        {
            let Some((_, what)) = self.deadlines.pop_first() else { return };
            match what {
                Expiring::Connection(conn) => {
                    self.counters.collected += 1;
                    self.remove(conn, now, effects);
                }
                Expiring::User(name) => self.expire_user(name, now),
                Expiring::Channel(name) => self.expire_channel(name, now),
            }
        }
    }

    fn expire_user(&mut self, name: Box<str>, now: Moment) {
        let Some(user) = self.users.get(&name).filter(|user| user.connections.is_empty()) else { return };
        let due = user.last_active.after(USER_US);
        if due > now {
            self.deadlines.insert((due, Expiring::User(name)));
            return;
        }
        self.memory.release(user.frames.bytes());
        self.users.remove(&name);
    }

    fn expire_channel(&mut self, name: Box<str>, now: Moment) {
        let Some(channel) = self.channels.get(&name).filter(|channel| channel.users.is_empty()) else {
            return;
        };
        let due = channel.last_active.after(CHANNEL_US);
        if due > now {
            self.deadlines.insert((due, Expiring::Channel(name)));
            return;
        }
        channel.forget(&mut self.memory);
        self.channels.remove(&name);
    }
}

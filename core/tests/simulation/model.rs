//! What should happen when nobody ever waits: each command takes effect at once, so everything that everyone
//! receives is known beforehand.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    checker::{Key, Kind, Peer, Seen},
    client::Answer,
    command::Command,
};

/// App and channel; without channel, the app's broadcasts.
pub(crate) type Name = (u32, Option<usize>);

#[derive(Default)]
struct Channel {
    offset: u64,
    members: BTreeSet<Peer>,
}

/// What the model knows of a session.
struct Session {
    app: u32,
    echo: bool,
    profile: u32,
    channels: BTreeSet<usize>,
}

/// The rules of an app that matter here.
#[derive(Copy, Clone)]
pub(crate) struct Rules {
    pub(crate) announce: bool,
    pub(crate) membership_to_send: bool,
    pub(crate) channels: usize,
}

/// The model.
#[derive(Default)]
pub(crate) struct Model {
    rules: Vec<Rules>,
    sessions: BTreeMap<Peer, Session>,
    channels: HashMap<(u32, usize), Channel>,
    /// What each peer is to receive of each stream, in order.
    pub(crate) expected: HashMap<(Peer, Option<usize>), Vec<Seen>>,
}

impl Model {
    pub(crate) fn new(rules: Vec<Rules>) -> Self {
        Self { rules, ..Self::default() }
    }

    pub(crate) fn open(&mut self, peer: Peer, app: u32, echo: bool, profile: u32) {
        self.sessions.insert(peer, Session { app, echo, profile, channels: BTreeSet::new() });
    }

    pub(crate) fn close(&mut self, peer: Peer) {
        let channels = self.sessions[&peer].channels.clone();
        for channel in channels {
            self.leave(peer, channel, false);
        }
        self.sessions.remove(&peer);
    }

    /// Members of each channel of each app.
    pub(crate) fn members(&self) -> impl Iterator<Item = ((u32, usize), &BTreeSet<Peer>)> {
        self.channels.iter().map(|(&name, channel)| (name, &channel.members))
    }

    /// Does a session's command; `None`: the answer depends on more than the model knows.
    pub(crate) fn execute(&mut self, peer: Peer, command: &Command) -> Option<Answer> {
        let session = &self.sessions[&peer];
        let (app, default) = (session.app, session.echo);
        let rules = self.rules[app as usize];
        Some(match *command {
            Command::Join { channel, echo } => {
                if session.channels.contains(&channel) {
                    self.joined(app, channel, false)
                } else if session.channels.len() >= rules.channels {
                    Answer::Error("too_many_channels".into())
                } else {
                    self.join(peer, channel, echo.unwrap_or(default));
                    self.joined(app, channel, true)
                }
            }
            Command::Leave { channel, echo } => {
                Answer::Left(self.leave(peer, channel, echo.unwrap_or(default)))
            }
            Command::Send { channel, number, echo, .. } => {
                if rules.membership_to_send && !session.channels.contains(&channel) {
                    return Some(Answer::Error("membership_required".into()));
                }
                let without = (!echo.unwrap_or(default)).then_some(peer);
                Answer::Sent(self.send(app, Some(channel), Key::Message { sender: peer, number }, without))
            }
            Command::Broadcast { number, echo, .. } => {
                let without = (!echo.unwrap_or(default)).then_some(peer);
                Answer::Sent(self.send(app, None, Key::Message { sender: peer, number }, without))
            }
            Command::Update { profile, echo } => {
                self.update(peer, profile, echo.unwrap_or(default));
                Answer::Updated
            }
            Command::Members { .. } => return None,
            Command::Ping => Answer::Pong,
            Command::Session { valid: true } => Answer::Session,
            Command::Session { valid: false } => Answer::Error("invalid_session".into()),
            Command::Wrong { code, .. } => Answer::Error(code.into()),
        })
    }

    /// Publishes; returns the offset.
    pub(crate) fn send(
        &mut self,
        app: u32,
        channel: Option<usize>,
        key: Key,
        without: Option<Peer>,
    ) -> Option<u64> {
        let offset = match channel {
            None => None,
            Some(channel) => {
                let channel = self.channels.get_mut(&(app, channel))?;
                channel.offset += 1;
                Some(channel.offset)
            }
        };
        self.deliver((app, channel), Seen { key, offset }, without);
        offset
    }

    pub(crate) fn join(&mut self, peer: Peer, channel: usize, echo: bool) {
        let session = self.sessions.get_mut(&peer).expect("it is open");
        session.channels.insert(channel);
        let (app, profile) = (session.app, session.profile);
        self.channels.entry((app, channel)).or_default().members.insert(peer);
        self.notice(Kind::Join, peer, channel, profile, (!echo).then_some(peer));
    }

    fn joined(&self, app: u32, channel: usize, joined: bool) -> Answer {
        let channel = &self.channels[&(app, channel)];
        let (members, offset) = (channel.members.len(), channel.offset);
        Answer::Joined { joined, members, offset, epoch: String::new() }
    }

    fn leave(&mut self, peer: Peer, channel: usize, echo: bool) -> bool {
        let session = self.sessions.get_mut(&peer).expect("it is open");
        if !session.channels.remove(&channel) {
            return false;
        }
        let (app, profile) = (session.app, session.profile);
        self.notice(Kind::Leave, peer, channel, profile, (!echo).then_some(peer));
        let members = &mut self.channels.get_mut(&(app, channel)).expect("it has a member").members;
        members.remove(&peer);
        if members.is_empty() {
            self.channels.remove(&(app, channel));
        }
        true
    }

    fn update(&mut self, peer: Peer, profile: u32, echo: bool) {
        let session = self.sessions.get_mut(&peer).expect("it is open");
        session.profile = profile;
        for channel in session.channels.clone() {
            self.notice(Kind::Update, peer, channel, profile, (!echo).then_some(peer));
        }
    }

    fn notice(&mut self, kind: Kind, peer: Peer, channel: usize, profile: u32, without: Option<Peer>) {
        let app = self.sessions[&peer].app;
        if self.rules[app as usize].announce {
            let key = Key::Notice { kind, peer, profile };
            self.deliver((app, Some(channel)), Seen { key, offset: None }, without);
        }
    }

    fn deliver(&mut self, (app, channel): Name, seen: Seen, without: Option<Peer>) {
        let to: Vec<Peer> = match channel {
            Some(channel) => self.channels[&(app, channel)].members.iter().copied().collect(),
            None => self.sessions.iter().filter(|(_, s)| s.app == app).map(|(&peer, _)| peer).collect(),
        };
        for peer in to.into_iter().filter(|&peer| Some(peer) != without) {
            self.expected.entry((peer, channel)).or_default().push(seen);
        }
    }
}

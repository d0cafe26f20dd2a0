//! The clients: they open sessions, lose their connections, come back and close.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::BytesMut;
use fanfare_core::{
    app::SlowConsumer,
    dialect::Format,
    disconnect::Disconnect,
    engine::{Detached, Opening, Resumption},
    id::{AppId, SessionId, SessionSlot},
    secret::Secret,
    token::Claims,
    ws::{OpCode, put_frame},
};

use super::{
    Mode, POISON, World,
    commands::{Asked, Frame},
};
use crate::{
    checker::{Key, Kind, Peer, Seen, Stay},
    command::Command,
};

/// A client and its session.
pub(super) struct Client {
    pub(super) app: u32,
    pub(super) worker: usize,
    pub(super) slot: SessionSlot,
    pub(super) connection: u32,
    pub(super) echo: bool,
    pub(super) format: Format,
    pub(super) session: SessionId,
    pub(super) profile: u32,
    pub(super) user: bool,
    pub(super) open: bool,
    pub(super) welcomed: bool,
    pub(super) paused: bool,
    pub(super) observer: bool,
    /// Whether the client has received its last frame.
    pub(super) parted: bool,
    /// Resumes the session.
    pub(super) ticket: Secret,
    /// Data frames that reached the client in this session.
    pub(super) received: u64,
    /// Whether the client has lost its connection and will return.
    pub(super) parked: bool,
    pub(super) next_id: u64,
    pub(super) unread: Vec<Frame>,
    pub(super) asked: VecDeque<Asked>,
    /// What it received of each stream; `None` is the broadcasts'.
    pub(super) seen: HashMap<Option<usize>, Vec<Seen>>,
    /// The last message of each sender, wherever it was sent to.
    pub(super) heard: HashMap<Peer, u32>,
    pub(super) missed: HashMap<Option<usize>, u64>,
    /// Where it is, as far as it was told.
    pub(super) stays: BTreeMap<usize, Stay>,
    pub(super) broadcasts: Stay,
    /// Whether the client was slow and may have lost publications. Its deliveries are compared with the
    /// losses that it was told.
    pub(super) lossy: bool,
}

impl Client {
    /// Whether the client speaks Agnost's dialect, which has neither answers nor resumption.
    pub(super) fn is_agnost(&self) -> bool {
        self.format == Format::AgnostFrames
    }
}

impl World {
    pub(super) fn open_session(&mut self, app: u32, observer: bool) -> usize {
        let worker = self.random.below(self.engines.len());
        let connection = self.free_connection();
        let user = !observer && self.random.chance(30);
        let profile = if user { self.number() } else { 0 };
        // In contended mode such a join is not told apart from its answer, which there is none.
        let claimed = user && self.mode == Mode::Exact && self.random.chance(40);
        let claimed = claimed.then(|| self.random.below(self.channels));
        let claims = user.then(|| Claims {
            user: "u".into(),
            expires_at: None,
            profile: Some(profile.to_string().into()),
            channels: claimed.iter().map(|channel| format!("c{channel}").into()).collect(),
            id: None,
        });
        let of = self.node.app(AppId(app as u16)).clone();
        let ticket = self.ticket();
        let echo = if observer { Some(true) } else { *self.random.pick(&[None, Some(true), Some(false)]) };
        // Without answers, only the model says what a client's commands did.
        let is_agnost = self.mode == Mode::Exact && !observer && self.random.chance(30);
        let format = match is_agnost {
            true => Format::AgnostFrames,
            false => *self.random.pick(&[Format::Native, Format::NativeText]),
        };
        let opening =
            Opening { app: &of, format, echo, claims, connection, ticket: (!is_agnost).then_some(ticket) };
        let engine = &mut self.engines[worker];
        engine.begin_turn(self.now_ms);
        let welcome = |out: &mut BytesMut, id: SessionId, _: Option<&str>| {
            put_frame(out, OpCode::Text, format!(r#"{{"welcome":"{id}"}}"#).as_bytes());
        };
        let slot = engine.open(opening, |_| {}, welcome).expect("the app takes any number");
        let session = engine.session_id(slot);
        let client = self.clients.len();
        let peer = self.peer(client);
        self.directory.write().expect(POISON).insert(session.to_string(), (peer, app));
        self.connections[connection as usize] = Some(client);
        let echo = echo.unwrap_or(of.echo);
        self.model.open(peer, app, echo, profile);
        let mut stays = BTreeMap::new();
        if let Some(channel) = claimed {
            self.model.join(peer, channel, echo);
            if !echo {
                self.checker.unechoed.insert(Key::Notice { kind: Kind::Join, peer, profile });
            }
            stays.insert(channel, Stay { receiver: peer, ..Stay::default() });
        }
        self.clients.push(Client {
            app,
            worker,
            slot,
            connection,
            echo,
            format,
            session,
            profile,
            user,
            open: true,
            welcomed: false,
            paused: false,
            observer,
            parted: false,
            ticket,
            received: 0,
            parked: false,
            next_id: 0,
            unread: Vec::new(),
            asked: VecDeque::new(),
            seen: HashMap::new(),
            heard: HashMap::new(),
            missed: HashMap::new(),
            stays,
            broadcasts: Stay { receiver: peer, stream: format!("{app}/*"), ..Stay::default() },
            lossy: false,
        });
        client
    }

    pub(super) fn random_open(&mut self, with_observers: bool) -> Option<usize> {
        let is_there = |&c: &usize| !self.clients[c].parked && (with_observers || !self.clients[c].observer);
        let all: Vec<usize> = self.open().filter(is_there).collect();
        (!all.is_empty()).then(|| *self.random.pick(&all))
    }

    fn ticket(&mut self) -> Secret {
        Secret::new(u128::from(self.random.next()) << 64 | u128::from(self.random.next()))
    }

    /// A connection is lost, sometimes with frames that were on their way.
    pub(super) fn lose_random(&mut self) {
        let Some(client) = self.random_open(false) else { return };
        let Client { connection, worker, slot, .. } = self.clients[client];
        // A disconnection that is under way would end a parked session unseen.
        let is_fleeting = self.clients[client].is_agnost();
        if self.wire.0[connection as usize].stalled || !self.requests.is_empty() || is_fleeting {
            return;
        }
        if self.random.chance(50) {
            self.deliver(client);
        }
        self.connections[connection as usize] = None;
        match self.engines[worker].detach(slot, 0) {
            Detached::Parked => self.clients[client].parked = true,
            // It was about to be disconnected.
            Detached::Ended => {
                self.model.close(self.peer(client));
                self.clients[client].open = false;
                self.clients[client].paused = false;
                self.forget(client);
            }
        }
    }

    pub(super) fn return_random(&mut self) {
        let parked: Vec<usize> = self.open().filter(|&c| self.clients[c].parked).collect();
        if !parked.is_empty() {
            let client = *self.random.pick(&parked);
            self.come_back(client);
        }
    }

    pub(super) fn all_come_back(&mut self) {
        let parked: Vec<usize> = self.open().filter(|&c| self.clients[c].parked).collect();
        parked.into_iter().for_each(|client| self.come_back(client));
    }

    /// A client goes on with its session on a new connection. It has to receive what it has not.
    fn come_back(&mut self, client: usize) {
        let connection = self.free_connection();
        let next_ticket = self.ticket();
        let of = &mut self.clients[client];
        let session = self.node.resumable(&of.ticket).expect("the session is kept");
        let resumption = Resumption {
            app: AppId(of.app as u16),
            session,
            ticket: &of.ticket,
            next_ticket,
            received: Some(of.received),
            format: of.format,
            echo: None,
            claims: None,
            connection,
        };
        let welcome = |out: &mut BytesMut, id: SessionId, _: Option<&str>| {
            put_frame(out, OpCode::Text, format!(r#"{{"welcome":"{id}"}}"#).as_bytes());
        };
        let engine = &mut self.engines[of.worker];
        let resumed = engine.resume(&resumption, &mut self.wire, |_| {}, welcome);
        assert_eq!(resumed, Some(of.slot), "client {client} has received {}", of.received);
        of.paused = engine.is_paused(of.slot);
        let disconnects = engine.take_disconnects();
        (of.parked, of.welcomed, of.connection, of.ticket) = (false, false, connection, next_ticket);
        self.connections[connection as usize] = Some(client);
        if !self.clients[client].paused {
            let unread = std::mem::take(&mut self.clients[client].unread);
            self.hand_over(client, unread);
        }
        // Resuming may have written the turn's output so far.
        disconnects.into_iter().for_each(|(connection, why)| self.disconnect(connection, why));
    }

    pub(super) fn close_random(&mut self) {
        if let Some(client) = self.random_open(false) {
            // Sometimes it has read everything, sometimes bytes are lost with the connection.
            if self.random.chance(50) {
                self.deliver(client);
            }
            if self.random.chance(40) {
                self.part_with(client);
            } else {
                self.close(client);
            }
        }
    }

    /// Ends a session with a last frame. Deliveries until then still count.
    fn part_with(&mut self, client: usize) {
        self.model.close(self.peer(client));
        let of = &mut self.clients[client];
        let last = |out: &mut BytesMut| put_frame(out, OpCode::Text, br#"{"welcome":"last"}"#);
        self.engines[of.worker].end(of.slot, last);
        of.open = false;
        of.paused = false;
        self.parting.push(client);
    }

    /// Removes the clients that have received their last frame.
    pub(super) fn see_off(&mut self, worker: usize) {
        let (gone, stay): (Vec<usize>, Vec<usize>) =
            std::mem::take(&mut self.parting).into_iter().partition(|&c| self.clients[c].worker == worker);
        self.parting = stay;
        for client in gone {
            let of = &mut self.clients[client];
            self.wire.0[of.connection as usize].stalled = false;
            self.deliver(client);
            let of = &self.clients[client];
            assert!(of.parted || self.judged, "client {client} waits for the last word");
            if self.mode == Mode::Exact && !of.lossy && !self.judged {
                for channel in (0..self.channels).map(Some).chain([None]) {
                    let seen = of.seen.get(&channel).map_or(0, Vec::len);
                    let expected = self.model.expected.get(&(self.peer(client), channel)).map_or(0, Vec::len);
                    assert_eq!(seen, expected, "client {client} receives everything until it ends");
                }
            }
            self.forget(client);
        }
    }

    fn close(&mut self, client: usize) {
        self.model.close(self.peer(client));
        let of = &mut self.clients[client];
        self.engines[of.worker].close(of.slot);
        of.open = false;
        of.paused = false;
        self.forget(client);
    }

    /// Frees a client's connection; what it has received is to be judged.
    fn forget(&mut self, client: usize) {
        let of = &mut self.clients[client];
        if !std::mem::take(&mut of.parked) && self.connections[of.connection as usize] == Some(client) {
            self.connections[of.connection as usize] = None;
        }
        let mut stays = std::mem::take(&mut of.stays);
        for asked in &of.asked {
            if let Command::Send { channel, .. } = asked.command
                && let Some(stay) = stays.get_mut(&channel)
            {
                stay.own_unknown += 1;
            }
        }
        let broadcasts = std::mem::take(&mut of.broadcasts);
        if !of.lossy {
            self.checker.stays.push(broadcasts);
            self.checker.stays.extend(stays.into_values());
        }
    }

    pub(super) fn disconnect(&mut self, connection: u32, why: Disconnect) {
        // It may be named twice.
        let Some(client) = self.connections[connection as usize] else { return };
        let of = &self.clients[client];
        if !of.open {
            return;
        }
        match why {
            Disconnect::SlowConsumer => {
                let app = self.node.app(AppId(of.app as u16));
                // Where publications are dropped, answers are not, up to as much again.
                let share = if app.slow_consumer == SlowConsumer::Drop { 2 } else { 1 };
                assert!(self.wire.0[connection as usize].bytes.len() > share * app.limits.outbound_bytes);
            }
            Disconnect::ByServer { reconnect: false } => assert!(of.user, "only users' sessions"),
            _ => {}
        }
        assert!(!of.observer);
        self.close(client);
    }

    /// Closes every session, with turns in between.
    pub(crate) fn close_all(&mut self) {
        let clients: Vec<usize> = self.open().collect();
        for client in clients {
            if self.clients[client].open {
                self.close(client);
            }
            if self.random.chance(30) {
                let worker = self.random.below(self.engines.len());
                self.turn(worker);
            }
        }
    }
}

//! Some workers in one thread, which a test moves by hand: it can stay inside a channel's order as a thread
//! does that is not scheduled.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::sync::Arc;

use bytes::BytesMut;
use fanfare_core::{
    app::{App, AppKeys, Apps},
    channel::Channel,
    command::BackEndCommand,
    dialect::{Format, native_http},
    engine::{Engine, Flow, Node},
    error::ReplyError,
    id::{AppId, SessionSlot, WorkerId},
    ws::Message,
};
use serde_json::Value;

use crate::support::{Memory, open_as};

/// Some workers, their sessions numbered in the order they were opened.
pub(crate) struct Workers {
    pub(crate) engines: Vec<Engine>,
    pub(crate) sink: Memory,
    /// Worker and slot of each session; its number is its connection.
    pub(crate) sessions: Vec<(usize, SessionSlot)>,
    pub(crate) node: Arc<Node>,
}

impl Workers {
    pub(crate) fn new(workers: usize, depth: usize, change: impl FnOnce(&mut App)) -> Self {
        let mut app = App::new("default", AppKeys::default());
        change(&mut app);
        let node = Arc::new(Node::new(Apps::new(vec![app]).expect("one app"), workers, depth, 7));
        let engine = |worker: u16| Engine::new(WorkerId(worker), node.clone(), u64::from(worker) + 1);
        let engines = (0..u16::try_from(workers).expect("they are few")).map(engine).collect();
        Self { engines, sink: Memory::default(), sessions: Vec::new(), node }
    }

    /// Opens a session; its welcome is taken.
    pub(crate) fn open(&mut self, worker: usize) -> usize {
        let session = self.open_as(worker, None);
        self.run_until_idle();
        self.received(session);
        session
    }

    /// Opens a session of a user, or of none.
    pub(crate) fn open_as(&mut self, worker: usize, user: Option<&str>) -> usize {
        self.open_in(worker, Format::Native, user)
    }

    /// The same in a format.
    pub(crate) fn open_in(&mut self, worker: usize, format: Format, user: Option<&str>) -> usize {
        let session = self.sessions.len();
        let connection = u32::try_from(session).expect("they are few");
        let slot = open_as(&mut self.engines[worker], connection, format, user);
        self.sessions.push((worker, slot));
        session
    }

    pub(crate) fn send(&mut self, session: usize, command: &Value) -> Flow {
        let (worker, slot) = self.sessions[session];
        self.engines[worker].receive(slot, Message::Text(&command.to_string()))
    }

    /// As above, for a command that need not wait.
    pub(crate) fn command(&mut self, session: usize, command: &Value) {
        assert_eq!(self.send(session, command), Flow::Continue, "nobody is inside");
    }

    pub(crate) fn close(&mut self, session: usize) {
        let (worker, slot) = self.sessions[session];
        self.engines[worker].close(slot);
    }

    /// Runs turns until nothing is left to handle or to write.
    pub(crate) fn run_until_idle(&mut self) {
        for _ in 0..10 {
            for engine in &mut self.engines {
                engine.on_mail();
                engine.flush(&mut self.sink);
            }
        }
    }

    /// Runs so many turns, each with its own budget, at 1 ms.
    pub(crate) fn run_turns(&mut self, turns: usize) {
        for _ in 0..turns {
            for engine in &mut self.engines {
                engine.begin_turn(1);
                engine.on_mail();
                engine.flush(&mut self.sink);
            }
        }
    }

    pub(crate) fn received(&mut self, session: usize) -> Vec<Value> {
        self.sink.take_json(u32::try_from(session).expect("they are few"))
    }

    /// Runs `during` while `worker` is inside the order of `room`, and leaves as that worker does.
    pub(crate) fn inside(&mut self, worker: usize, during: impl FnOnce(&mut Self)) {
        let channel: Arc<Channel> = self.node.channel(AppId(0), Some("room")).expect("somebody is in it");
        let entered = channel.lock.try_enter().expect("nobody is inside");
        during(self);
        self.engines[worker].leave_lock(&channel, entered);
    }
}

/// Sends a back end's HTTP request. Returns the JSON of its answer, or the code of its refusal.
pub(crate) fn request(workers: &mut Workers, worker: usize, method: &str, path: &str, body: &Value) -> Value {
    let resource = native_http::Resource::at(path).expect("a resource of the API");
    let (query, body) = (native_http::RequestQuery::default(), body.to_string());
    let request = native_http::Request { resource, method, query, body: body.as_bytes() };
    let (mut results, mut token) = (Vec::new(), 0);
    let mut each = |command: Result<BackEndCommand<'_>, ReplyError>| {
        token += 1;
        let result = command.map(|command| workers.engines[worker].request(AppId(0), command, token));
        results.push(result.unwrap_or_else(|error| Some(Err(error))));
    };
    let shape = match native_http::RequestReader::default().read(&request, &mut each) {
        Ok(shape) => shape,
        Err(refusal) => return refusal.code.into(),
    };
    workers.run_until_idle();
    for (token, result) in workers.engines[worker].take_answers() {
        results[usize::try_from(token).expect("it is small") - 1] = Some(result);
    }
    let results: Vec<_> = results.into_iter().map(|result| result.expect("an answer")).collect();
    let mut out = BytesMut::new();
    match native_http::put_answer(&mut out, shape, &results) {
        Ok(()) => serde_json::from_slice(&out).expect("JSON"),
        Err(refusal) => refusal.code.into(),
    }
}

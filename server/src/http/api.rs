//! The HTTP API: carries an admitted request's commands to the engine, and their outcomes back.
//!
//! The native dialect reads requests and writes answers; see [`native_http`].
//! What a request asks of the engine may have to wait for another worker; its answer is then put together
//! from [`Requests`] when the last part has come.

use bytes::BytesMut;
use crossbeam::channel::Sender;
use fanfare_core::{
    command::{BackEndCommand, Outcome},
    dialect::{
        self, HttpProblem,
        native_http::{self, AnswerShape, Refusal, RequestReader},
        xano,
    },
    engine::Engine,
    error::ReplyError,
    http::{Head, Persistence},
    id::{AppId, WorkerId},
};
use hashbrown::HashMap;

use super::{
    access::app_name,
    cors::{CorsPolicy, is_preflight},
    members,
    reply::{JSON, Problem, Reply},
    router::{Admission, Request, Target, admit},
};
use crate::{
    asker::{Asker, Tokens},
    trigger::manage::{ManageAnswer, ManageRequest, Method, Waiter},
};

/// What became of a request.
pub(crate) enum Handled {
    /// It was answered.
    Answered { status: u16 },
    /// Its answer comes later.
    Waiting,
}

/// The last part of a waiting request's answer has come.
pub(crate) struct Completed {
    /// The connection that asked, as its token.
    pub(crate) connection: u64,
    pub(crate) status: u16,
    pub(crate) persistence: Persistence,
}

/// Requests whose answers wait for other threads.
pub(crate) struct Requests {
    worker: WorkerId,
    /// Takes requests about triggers.
    manage: Sender<ManageRequest>,
    /// The requests about triggers that wait, by connection.
    managed: HashMap<u64, Reply>,
    reader: RequestReader,
    tokens: Tokens,
    /// From the engine's token to the connection and the place in the answer.
    places: HashMap<u64, Place>,
    waiting: HashMap<u64, Pending>,
}

/// Where an outcome belongs.
#[derive(Copy, Clone)]
struct Place {
    connection: u64,
    /// In the list of results.
    at: usize,
}

/// An answer that is not yet whole.
struct Pending {
    reply: Reply,
    shape: Shape,
    results: Vec<Option<Answer>>,
    missing: usize,
}

/// The form of an answer.
#[derive(Copy, Clone)]
enum Shape {
    Native(AnswerShape),
    /// The answer to a question for all members of a channel.
    AllMembers,
}

type Answer = Result<Outcome, ReplyError>;

/// Takes the commands of a request one by one.
type Each<'e> = dyn FnMut(Result<BackEndCommand<'_>, ReplyError>) + 'e;

impl Requests {
    /// The requests of a worker.
    pub(crate) fn new(worker: WorkerId, manage: Sender<ManageRequest>) -> Self {
        Self {
            worker,
            manage,
            managed: HashMap::new(),
            reader: RequestReader::default(),
            tokens: Tokens::of(Asker::Request),
            places: HashMap::new(),
            waiting: HashMap::new(),
        }
    }

    /// Handles one request; an answer that is ready is appended to `out`. `connection` is where it came from.
    /// The body is looked at only if the head is admitted.
    pub(crate) fn handle(
        &mut self,
        engine: &mut Engine,
        request: (&Head<'_>, &[u8]),
        connection: u64,
        mut reply: Reply,
        out: &mut BytesMut,
    ) -> Handled {
        let (head, body) = request;
        if members::is_for(engine.apps(), head) {
            reply.cors = members::cors(head);
            return self.list_members(engine, request, connection, reply, out);
        }
        match self.dispatch(engine, head, body, connection, &mut reply, out) {
            Ok(handled) => handled,
            // A page can read the answer to its request, and not the answer to a preflight: so the request is
            // let come.
            Err(_) if is_preflight(head) && matches!(reply.cors, CorsPolicy::AnyOrigin) => {
                reply.put_preflight(out, "GET, HEAD, POST, PUT, PATCH, DELETE");
                Handled::Answered { status: 204 }
            }
            Err(problem) => {
                let (status, code) = (problem.status, problem.code);
                tracing::debug!(app = %app_name(head), path = head.path, status, code, "a request was refused");
                reply.put_problem(out, &problem);
                Handled::Answered { status }
            }
        }
    }

    fn dispatch(
        &mut self,
        engine: &mut Engine,
        head: &Head<'_>,
        body: &[u8],
        connection: u64,
        reply: &mut Reply,
        out: &mut BytesMut,
    ) -> Result<Handled, Problem> {
        let apps = engine.apps().clone();
        let Request { target, app, parameters } = match admit(&apps, head, &mut reply.cors)? {
            Admission::Request(request) => *request,
            Admission::Preflight(methods) => {
                reply.put_preflight(out, &methods);
                return Ok(Handled::Answered { status: 204 });
            }
        };
        let asked = match target {
            Target::Native(resource) => self.ask(engine, app.id, connection, |reader, each| {
                let query = parameters.request_query();
                reader.read(&native_http::Request { resource, method: head.method, query, body }, each)
            }),
            Target::XanoEvent => self.ask(engine, app.id, connection, |_, each| {
                xano::read_event(body, &mut |command| each(Ok(command)))?;
                Ok(AnswerShape::One)
            }),
            Target::Triggers(name) => {
                let method = Method::of(head.method);
                let (name, body) = (name.map(Into::into), body.to_vec());
                let worker = self.worker;
                let waiter = Waiter::Connection { worker, connection };
                let request = ManageRequest { waiter, app: app.id, method, name, body };
                return self.manage(connection, request, reply.clone());
            }
        };
        let (shape, results) = asked?;
        Ok(self.respond(reply.clone(), Shape::Native(shape), results, connection, out))
    }

    /// Answers a question for all members of a channel.
    fn list_members(
        &mut self,
        engine: &mut Engine,
        (head, body): (&Head<'_>, &[u8]),
        connection: u64,
        reply: Reply,
        out: &mut BytesMut,
    ) -> Handled {
        let (app, channel) = match members::read(engine.apps(), head, body) {
            Ok(members::Question::Members { app, channel }) => (app, channel),
            Ok(members::Question::Preflight) => {
                let asked = head.header_str("access-control-request-headers").unwrap_or("content-type");
                reply.put_preflight_for(out, ("POST, OPTIONS", asked));
                return Handled::Answered { status: 204 };
            }
            Err(problem) => {
                let HttpProblem { status, code, .. } = problem;
                tracing::debug!(path = head.path, status, code, "a request was refused");
                reply.put(out, status, JSON, problem.body().as_bytes());
                return Handled::Answered { status };
            }
        };
        let token = self.tokens.next();
        let answer = engine.request(app, BackEndCommand::AllMembers(&channel), token);
        if answer.is_none() {
            self.places.insert(token, Place { connection, at: 0 });
        }
        self.respond(reply, Shape::AllMembers, vec![answer], connection, out)
    }

    /// Executes the commands of a request in the engine. The place of an answer that comes later stays
    /// `None`.
    fn ask(
        &mut self,
        engine: &mut Engine,
        app: AppId,
        connection: u64,
        read: impl FnOnce(&mut RequestReader, &mut Each<'_>) -> Result<AnswerShape, Refusal>,
    ) -> Result<(AnswerShape, Vec<Option<Answer>>), Refusal> {
        let Self { reader, tokens, places, .. } = self;
        let mut results = Vec::new();
        let shape = read(reader, &mut |command| {
            let result = match command {
                Ok(command) => {
                    let token = tokens.next();
                    let answer = engine.request(app, command, token);
                    if answer.is_none() {
                        places.insert(token, Place { connection, at: results.len() });
                    }
                    answer
                }
                Err(error) => Some(Err(error)),
            };
            results.push(result);
        })?;
        Ok((shape, results))
    }

    /// Answers a request, or keeps what there is of the answer until the rest comes.
    fn respond(
        &mut self,
        reply: Reply,
        shape: Shape,
        results: Vec<Option<Answer>>,
        connection: u64,
        out: &mut BytesMut,
    ) -> Handled {
        let missing = results.iter().filter(|result| result.is_none()).count();
        let pending = Pending { reply, shape, results, missing };
        if missing > 0 {
            self.waiting.insert(connection, pending);
            return Handled::Waiting;
        }
        Handled::Answered { status: pending.put(out) }
    }

    /// An outcome has come. If it was the last that its request waited for, the whole answer is appended to
    /// `out`.
    pub(crate) fn on_answer(&mut self, token: u64, answer: Answer, out: &mut BytesMut) -> Option<Completed> {
        let Place { connection, at } = self.places.remove(&token)?;
        let pending = self.waiting.get_mut(&connection)?;
        pending.results[at] = Some(answer);
        pending.missing -= 1;
        if pending.missing > 0 {
            return None;
        }
        let pending = self.waiting.remove(&connection)?;
        let status = pending.put(out);
        Some(Completed { connection, status, persistence: pending.reply.persistence })
    }

    /// Hands a request about triggers to their thread.
    fn manage(&mut self, connection: u64, request: ManageRequest, reply: Reply) -> Result<Handled, Problem> {
        self.manage
            .try_send(request)
            .map_err(|_| Problem::new(503, "overloaded", "Too many changes of triggers wait; try again."))?;
        self.managed.insert(connection, reply);
        Ok(Handled::Waiting)
    }

    /// The answer to a request about triggers has come. If the connection is still here, the answer is
    /// appended to `out`.
    pub(crate) fn on_managed(&mut self, answer: ManageAnswer, out: &mut BytesMut) -> Option<Completed> {
        let ManageAnswer { connection, result } = answer;
        let reply = self.managed.remove(&connection)?;
        let status = match result {
            Ok(body) => {
                reply.put(out, 200, JSON, body.as_bytes());
                200
            }
            Err(refusal) => {
                let problem = Problem::from(refusal);
                reply.put_problem(out, &problem);
                problem.status
            }
        };
        Some(Completed { connection, status, persistence: reply.persistence })
    }

    /// The connection of a waiting request is gone.
    pub(crate) fn forget(&mut self, connection: u64) {
        self.waiting.remove(&connection);
        self.managed.remove(&connection);
    }
}

impl Pending {
    /// Appends the answer; returns its status.
    fn put(&self, out: &mut BytesMut) -> u16 {
        let mut results = self.results.iter().map(|result| result.as_ref().expect("nothing is missing"));
        let mut json = BytesMut::new();
        let shape = match self.shape {
            Shape::Native(shape) => shape,
            Shape::AllMembers => {
                return self.put_members(out, results.next().expect("it is one command"));
            }
        };
        match native_http::put_answer(&mut json, shape, results) {
            Ok(()) => {
                self.reply.put(out, 200, JSON, &json);
                200
            }
            Err(refusal) => {
                let problem = Problem::from(refusal);
                self.reply.put_problem(out, &problem);
                problem.status
            }
        }
    }

    fn put_members(&self, out: &mut BytesMut, result: &Answer) -> u16 {
        let problem = match result {
            Ok(Outcome::AllMembers(members)) => {
                let mut json = BytesMut::new();
                dialect::put_members(&mut json, members);
                self.reply.put(out, 200, JSON, &json);
                return 200;
            }
            Ok(_) => HttpProblem::of(ReplyError::Overloaded),
            Err(error) => HttpProblem::of(*error),
        };
        self.reply.put(out, problem.status, JSON, problem.body().as_bytes());
        problem.status
    }
}

//! The HTTP API: from an admitted request to commands of the engine, and from outcomes to answers.
//!
//! What a request asks of the engine may have to wait for another worker; its answer is then put together
//! from [`Requests`] when the last part has come.

use bytes::BytesMut;
use fanfare_core::{
    channel::PageStart,
    command::{Cursor, Outcome},
    dialect::{self, Batch, CommandReader, Envelope},
    engine::Engine,
    error::ReplyError,
    http::{Head, Persistence, percent_decode},
    id::AppId,
    json::{Raw, write_string},
    limits::{PAGE, PAGE_DEFAULT},
};
use hashbrown::HashMap;

use super::{
    access::{Parameters, app_name},
    body::{DisconnectRequest, read_disconnect, read_options},
    cors::{CorsPolicy, is_preflight},
    reply::{JSON, Problem, Reply},
    router::{Admission, Request, Route, admit},
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

/// Requests whose answers wait for other workers.
#[derive(Default)]
pub(crate) struct Requests {
    reader: CommandReader,
    /// From the engine's token to the connection and the place in the answer.
    tokens: HashMap<u64, Place>,
    waiting: HashMap<u64, Pending>,
    next_token: u64,
}

/// Where an outcome belongs.
#[derive(Copy, Clone)]
struct Place {
    connection: u64,
    /// In the list of results.
    at: usize,
}

/// Whether an answer is one outcome or a list of them.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Shape {
    One,
    List,
}

/// An answer that is not yet whole.
struct Pending {
    reply: Reply,
    shape: Shape,
    results: Vec<Option<Answer>>,
    missing: usize,
}

type Answer = Result<Outcome, ReplyError>;

impl Requests {
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
        let node = engine.node().clone();
        let Request { route, app, parameters } = match admit(node.apps(), head, &mut reply.cors)? {
            Admission::Request(request) => *request,
            Admission::Preflight(methods) => {
                reply.put_preflight(out, &methods);
                return Ok(Handled::Answered { status: 204 });
            }
        };
        let mut shape = Shape::One;
        let results = match route {
            Route::Members if parameters.by.as_deref() == Some("user") => {
                vec![self.users(engine, app.id, &parameters, connection)?]
            }
            Route::Members if !matches!(parameters.by.as_deref(), None | Some("session")) => {
                return Err(Problem::invalid("by is session or user."));
            }
            Route::Options if matches!(head.method, "GET" | "HEAD") => {
                vec![Some(engine.options(app.id, channel(&parameters)?))]
            }
            Route::Options => vec![self.set_options(engine, &app, json(body)?, connection)?],
            Route::Members => vec![self.members(engine, app.id, &parameters, connection)?],
            Route::History => vec![self.history(engine, app.id, &parameters, connection)?],
            Route::User => {
                let user = percent_decode(Route::user(head));
                let user = user.map_err(|error| Problem::invalid(format!("{error}.")))?;
                vec![self.sessions(engine, app.id, &user, &parameters, connection)?]
            }
            Route::Channels => {
                list_channels(engine, app.id, &parameters, reply, out)?;
                return Ok(Handled::Answered { status: 200 });
            }
            Route::Send | Route::Broadcast => self.publish(engine, route, app.id, json(body)?, connection)?,
            Route::Publish => {
                shape = Shape::List;
                self.publish(engine, route, app.id, json(body)?, connection)?
            }
            Route::Messages => {
                let change = if head.method == "PATCH" { Change::Edit } else { Change::Delete };
                let results;
                (shape, results) = self.change(engine, change, app.id, json(body)?, connection)?;
                results
            }
            Route::Disconnect => vec![self.disconnect(engine, app.id, json(body)?, connection)?],
        };
        Ok(self.respond(reply.clone(), shape, results, connection, out))
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
        let Place { connection, at } = self.tokens.remove(&token)?;
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

    /// The connection of a waiting request is gone.
    pub(crate) fn forget(&mut self, connection: u64) {
        self.waiting.remove(&connection);
    }

    fn token(&mut self, connection: u64, at: usize) -> u64 {
        self.next_token += 1;
        self.tokens.insert(self.next_token, Place { connection, at });
        self.next_token
    }

    /// Gives a token back that was not needed.
    fn release_token(&mut self, token: u64, answer: Option<Answer>) -> Option<Answer> {
        if answer.is_some() {
            self.tokens.remove(&token);
        }
        answer
    }

    fn publish(
        &mut self,
        engine: &mut Engine,
        route: Route,
        app: AppId,
        body: &str,
        connection: u64,
    ) -> Result<Vec<Option<Answer>>, Problem> {
        let mut reader = std::mem::take(&mut self.reader);
        let results = Batch::read(&mut reader, body).and_then(|batch| {
            if batch.is_list() != (route == Route::Publish) {
                return Err(ReplyError::InvalidCommand(match route {
                    Route::Publish => "The body must be a list.",
                    _ => "The body must be an object.",
                }));
            }
            let publish = |(at, envelope): (usize, Envelope<'_, '_>)| {
                self.publish_one(engine, route, app, &envelope, Place { connection, at })
            };
            Ok(batch.envelopes().enumerate().map(publish).collect())
        });
        self.reader = reader;
        Ok(results?)
    }

    fn publish_one(
        &mut self,
        engine: &mut Engine,
        route: Route,
        app: AppId,
        envelope: &Envelope<'_, '_>,
        place: Place,
    ) -> Option<Answer> {
        let mut publish = match envelope.publication() {
            Ok(publish) => publish,
            Err(error) => return Some(Err(error)),
        };
        if route == Route::Send && publish.channel.is_none() {
            return Some(Err(ReplyError::InvalidCommand("channel must be a string.")));
        }
        if route == Route::Broadcast {
            publish.channel = None;
        }
        let key = match envelope.idempotency_key() {
            Ok(key) => key,
            Err(error) => return Some(Err(error)),
        };
        let token = self.token(place.connection, place.at);
        let answer = match key {
            Some(key) => engine.request_publish_once(app, key, &publish, token),
            None => engine.request_publish(app, &publish, token),
        };
        self.release_token(token, answer)
    }

    /// Edits or deletes one message, or those of a list. Returns the shape of the answer.
    fn change(
        &mut self,
        engine: &mut Engine,
        change: Change,
        app: AppId,
        body: &str,
        connection: u64,
    ) -> Result<(Shape, Vec<Option<Answer>>), Problem> {
        let mut reader = std::mem::take(&mut self.reader);
        let results = Batch::read(&mut reader, body).map(|batch| {
            let shape = if batch.is_list() { Shape::List } else { Shape::One };
            let change = |(at, envelope): (usize, Envelope<'_, '_>)| {
                let change = match change {
                    Change::Edit => envelope.edit(),
                    Change::Delete => envelope.deletion(),
                };
                let change = match change {
                    Ok(change) => change,
                    Err(error) => return Some(Err(error)),
                };
                let token = self.token(connection, at);
                let answer = engine.request_change(app, &change, token);
                self.release_token(token, answer)
            };
            (shape, batch.envelopes().enumerate().map(change).collect())
        });
        self.reader = reader;
        Ok(results?)
    }

    fn sessions(
        &mut self,
        engine: &mut Engine,
        app: AppId,
        user: &str,
        parameters: &Parameters<'_>,
        connection: u64,
    ) -> Result<Option<Answer>, Problem> {
        let (limit, after) = (limit(parameters)?, cursor(parameters)?);
        let token = self.token(connection, 0);
        let answer = engine.request_sessions(app, user, limit, after, token);
        Ok(self.release_token(token, answer))
    }

    fn users(
        &mut self,
        engine: &mut Engine,
        app: AppId,
        parameters: &Parameters<'_>,
        connection: u64,
    ) -> Result<Option<Answer>, Problem> {
        let (channel, limit) = (channel(parameters)?, limit(parameters)?);
        let token = self.token(connection, 0);
        let answer = engine.request_users(app, channel, limit, parameters.after.as_deref(), token);
        Ok(self.release_token(token, answer))
    }

    /// Sets a channel's options: those of the configuration, but for what the body says.
    fn set_options(
        &mut self,
        engine: &mut Engine,
        app: &fanfare_core::app::App,
        body: &str,
        connection: u64,
    ) -> Result<Option<Answer>, Problem> {
        let wrong = ReplyError::InvalidCommand;
        let batch = Batch::read(&mut self.reader, body)?;
        let object = batch.object().ok_or(wrong("The body must be an object."))?;
        let channel = object.member("channel").and_then(Raw::as_string);
        let channel = channel.ok_or(wrong("channel must be a string."))?;
        let options = read_options(&object, app.channel_options(&channel))?;
        let token = self.token(connection, 0);
        let answer = engine.request_set_options(app.id, &channel, options, token);
        Ok(self.release_token(token, answer))
    }

    fn history(
        &mut self,
        engine: &mut Engine,
        app: AppId,
        parameters: &Parameters<'_>,
        connection: u64,
    ) -> Result<Option<Answer>, Problem> {
        let channel = channel(parameters)?;
        let limit = limit(parameters)?;
        let offset = |text: &str| {
            let offset = text.parse().ok();
            offset.ok_or_else(|| Problem::invalid("after and before are offsets."))
        };
        let from = match (parameters.after.as_deref(), parameters.before.as_deref()) {
            (Some(after), None) => PageStart::After(offset(after)?),
            (None, Some(before)) => PageStart::Before(offset(before)?),
            (None, None) => PageStart::Before(u64::MAX),
            _ => return Err(Problem::invalid("Either after or before may be given.")),
        };
        let token = self.token(connection, 0);
        let answer = engine.request_history(app, channel, from, limit, token);
        Ok(self.release_token(token, answer))
    }

    fn members(
        &mut self,
        engine: &mut Engine,
        app: AppId,
        parameters: &Parameters<'_>,
        connection: u64,
    ) -> Result<Option<Answer>, Problem> {
        let channel = channel(parameters)?;
        let (limit, after) = (limit(parameters)?, cursor(parameters)?);
        let token = self.token(connection, 0);
        let answer = engine.request_members(app, channel, limit, after, token);
        Ok(self.release_token(token, answer))
    }

    fn disconnect(
        &mut self,
        engine: &mut Engine,
        app: AppId,
        body: &str,
        connection: u64,
    ) -> Result<Option<Answer>, Problem> {
        let DisconnectRequest { whom, reconnect } = read_disconnect(&mut self.reader, body)?;
        let token = self.token(connection, 0);
        let answer = engine.request_disconnect(app, whom, reconnect, token);
        Ok(self.release_token(token, answer))
    }
}

/// What is done with a message.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Change {
    Edit,
    Delete,
}

impl Pending {
    /// Appends the answer; returns its status.
    fn put(&self, out: &mut BytesMut) -> u16 {
        let mut json = BytesMut::new();
        if self.shape == Shape::One {
            match self.results[0].as_ref().expect("nothing is missing") {
                Ok(outcome) => dialect::put_outcome(&mut json, outcome),
                Err(error) => {
                    let problem = Problem::from(*error);
                    self.reply.put_problem(out, &problem);
                    return problem.status;
                }
            }
        } else {
            json.extend_from_slice(b"[");
            for (at, result) in self.results.iter().enumerate() {
                json.extend_from_slice(if at > 0 { b"," } else { b"" });
                match result.as_ref().expect("nothing is missing") {
                    Ok(outcome) => {
                        json.extend_from_slice(b"{\"ok\":");
                        dialect::put_outcome(&mut json, outcome);
                    }
                    Err(error) => {
                        json.extend_from_slice(b"{\"error\":");
                        dialect::put_error(&mut json, *error);
                    }
                }
                json.extend_from_slice(b"}");
            }
            json.extend_from_slice(b"]");
        }
        self.reply.put(out, 200, JSON, &json);
        200
    }
}

/// The body as text.
fn json(body: &[u8]) -> Result<&str, ReplyError> {
    std::str::from_utf8(body).map_err(|_| ReplyError::MalformedJson)
}

fn channel<'a>(parameters: &'a Parameters<'_>) -> Result<&'a str, Problem> {
    let channel = parameters.channel.as_deref();
    channel.ok_or_else(|| Problem::invalid("The query parameter channel is missing."))
}

fn cursor(parameters: &Parameters<'_>) -> Result<Option<Cursor>, Problem> {
    let parse = |text: &str| Cursor::parse(text).ok_or(ReplyError::InvalidCursor);
    Ok(parameters.after.as_deref().map(parse).transpose()?)
}

fn limit(parameters: &Parameters<'_>) -> Result<usize, Problem> {
    let Some(text) = parameters.limit.as_deref() else { return Ok(PAGE_DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=PAGE).contains(limit));
    limit.ok_or_else(|| Problem::invalid("limit is a number from 1 to 1000."))
}

fn list_channels(
    engine: &Engine,
    app: AppId,
    parameters: &Parameters<'_>,
    reply: &Reply,
    out: &mut BytesMut,
) -> Result<(), Problem> {
    let prefix = parameters.prefix.as_deref().unwrap_or_default();
    let page = engine.channels(app, prefix, limit(parameters)?, parameters.after.as_deref())?;
    let mut json = BytesMut::from(&b"{\"channels\":["[..]);
    for (at, (name, members)) in page.channels.iter().enumerate() {
        json.extend_from_slice(if at > 0 { b",{\"channel\":" } else { b"{\"channel\":" });
        write_string(&mut json, name);
        json.extend_from_slice(format!(",\"members\":{members}}}").as_bytes());
    }
    json.extend_from_slice(b"],\"next\":");
    match &page.next {
        Some(next) => write_string(&mut json, next),
        None => json.extend_from_slice(b"null"),
    }
    json.extend_from_slice(b"}");
    reply.put(out, 200, JSON, &json);
    Ok(())
}

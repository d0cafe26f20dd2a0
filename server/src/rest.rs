//! The HTTP API: routing, authorisation, and answers as JSON or problem documents.
//!
//! What a request asks of the engine may have to wait for another worker; its answer is then put together from
//! [`Requests`] when the last part has come.

use std::ops::RangeInclusive;

use bytes::BytesMut;
use fanfare_core::{
    app::{App, ChannelOptions, HistoryLimits, KeyRole, SlowConsumer},
    channel::PageStart,
    command::{Cursor, Disconnection, Outcome},
    dialect::{self, Batch, CommandReader, Envelope},
    engine::Engine,
    error::ReplyError,
    http::{Head, Persistence, cut_body, percent_decode, put_problem, put_response},
    id::{AppId, SessionId},
    json::{Object, Raw, write_string},
    limits::{PAGE, PAGE_DEFAULT},
};
use hashbrown::HashMap;

use crate::access::{ANY_ORIGIN, Parameters, Problem, app_name, bearer, check_key, check_origin, find_app};

/// What became of a request.
pub(crate) enum Handled {
    /// It was answered.
    Answered { status: u16 },
    /// Its answer comes later.
    Waiting,
}

/// Requests whose answers wait for other workers.
#[derive(Default)]
pub(crate) struct Requests {
    reader: CommandReader,
    /// From the engine's token to the connection and the place in the answer.
    tokens: HashMap<u64, (u64, usize)>,
    waiting: HashMap<u64, Pending>,
    next_token: u64,
}

/// An answer that is not yet whole.
struct Pending {
    reply: Reply,
    /// Whether the answer is a list.
    list: bool,
    results: Vec<Option<Answer>>,
    missing: usize,
}

type Answer = Result<Outcome, ReplyError>;

/// How to answer a request.
#[derive(Clone)]
struct Reply {
    persistence: Persistence,
    /// Its request was HEAD.
    bodiless: bool,
    readers: Readers,
}

/// Whose pages may read an answer.
#[derive(Clone)]
enum Readers {
    /// Everybody's: it is no app's.
    Everybody,
    /// Nobody's: its app does not list the origin.
    Nobody,
    /// Those of the request's origin, if it has one.
    Origin(Option<Box<str>>),
}

impl Readers {
    fn headers(&self) -> [Option<(&'static str, &str)>; 2] {
        match self {
            Self::Everybody => [Some(ANY_ORIGIN), None],
            Self::Origin(Some(origin)) => {
                [Some(("access-control-allow-origin", origin)), Some(("vary", "origin"))]
            }
            Self::Nobody | Self::Origin(None) => [None, None],
        }
    }
}

impl Requests {
    /// Handles one request; an answer that is ready is appended to `out`. `connection` is where it came from.
    pub(crate) fn handle(
        &mut self,
        engine: &mut Engine,
        head: &Head<'_>,
        body: &[u8],
        connection: u64,
        out: &mut BytesMut,
    ) -> Handled {
        let bodiless = head.method == "HEAD";
        let mut reply = Reply { persistence: head.persistence(), bodiless, readers: Readers::Everybody };
        let start = out.len();
        let handled = match self.dispatch(engine, head, body, connection, &mut reply, out) {
            Ok(handled) => handled,
            // What is wrong is the answer to the request itself, which a page can read: that to a preflight it cannot.
            Err(_) if is_preflight(head) && matches!(reply.readers, Readers::Everybody) => {
                reply.put_preflight(out, "GET, HEAD, POST, PUT, PATCH, DELETE");
                Handled::Answered { status: 204 }
            }
            Err(problem) => {
                let (status, code) = (problem.status, problem.code);
                tracing::debug!(app = %app_name(head), path = head.path, status, code, "a request was refused");
                reply.put_problem(out, &problem);
                Handled::Answered { status }
            }
        };
        reply.cut(out, start);
        handled
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
        let route = Route::find(head.path)?;
        let parameters = Parameters::read(head.query)?;
        let node = engine.node().clone();
        let app = find_app(node.apps(), &parameters)?;
        reply.readers = Readers::Nobody;
        check_origin(app, head)?;
        reply.readers = Readers::Origin(head.origin().map(Into::into));
        if head.method == "OPTIONS" {
            reply.put_preflight(out, &route.methods().join(", "));
            return Ok(Handled::Answered { status: 204 });
        }
        if !route.methods().contains(&head.method) {
            return Err(Problem::new(405, "method_not_allowed", "This resource has another method.")
                .with(route.allow()));
        }
        authorise(app, head, &parameters)?;
        let results = match route {
            Route::Members if parameters.by.as_deref() == Some("user") => {
                vec![self.users(engine, app.id, &parameters, connection)?]
            }
            Route::Members if !matches!(parameters.by.as_deref(), None | Some("session")) => {
                return Err(Problem::new(400, "invalid_request", "by is session or user."));
            }
            Route::Options if matches!(head.method, "GET" | "HEAD") => {
                vec![Some(engine.options(app.id, channel(&parameters)?))]
            }
            Route::Options => {
                let body = json_body(head, body)?;
                vec![self.set_options(engine, app, body, connection)?]
            }
            Route::Members => vec![self.members(engine, app.id, &parameters, connection)?],
            Route::History => vec![self.history(engine, app.id, &parameters, connection)?],
            Route::User => {
                let user = percent_decode(head.path.strip_prefix(USERS).unwrap_or_default());
                let user = user.map_err(|error| Problem::new(400, "invalid_request", format!("{error}.")))?;
                vec![self.sessions(engine, app.id, &user, &parameters, connection)?]
            }
            Route::Channels => {
                list_channels(engine, app.id, &parameters, reply, out)?;
                return Ok(Handled::Answered { status: 200 });
            }
            Route::Send | Route::Broadcast | Route::Publish => {
                let body = json_body(head, body)?;
                let list = matches!(route, Route::Publish);
                let results = self.publish(engine, route, app.id, body, connection)?;
                return Ok(self.respond(reply.clone(), list, results, connection, out));
            }
            Route::Messages => {
                let body = json_body(head, body)?;
                let edits = head.method == "PATCH";
                let (list, results) = self.change(engine, edits, app.id, body, connection)?;
                return Ok(self.respond(reply.clone(), list, results, connection, out));
            }
            Route::Disconnect => {
                let body = json_body(head, body)?;
                vec![self.disconnect(engine, app.id, body, connection)?]
            }
        };
        Ok(self.respond(reply.clone(), false, results, connection, out))
    }

    /// Answers a request, or keeps what there is of the answer until the rest comes.
    fn respond(
        &mut self,
        reply: Reply,
        list: bool,
        results: Vec<Option<Answer>>,
        connection: u64,
        out: &mut BytesMut,
    ) -> Handled {
        let missing = results.iter().filter(|result| result.is_none()).count();
        let pending = Pending { reply, list, results, missing };
        if missing > 0 {
            self.waiting.insert(connection, pending);
            return Handled::Waiting;
        }
        Handled::Answered { status: pending.put(out) }
    }

    /// An answer has come. If it was the last that its request waited for, the whole answer is appended to `out`, and
    /// the connection, the status and what becomes of the connection are returned.
    pub(crate) fn on_answer(
        &mut self,
        token: u64,
        answer: Answer,
        out: &mut BytesMut,
    ) -> Option<(u64, u16, Persistence)> {
        let (connection, place) = self.tokens.remove(&token)?;
        let pending = self.waiting.get_mut(&connection)?;
        pending.results[place] = Some(answer);
        pending.missing -= 1;
        if pending.missing > 0 {
            return None;
        }
        let pending = self.waiting.remove(&connection).expect("it was just there");
        let start = out.len();
        let status = pending.put(out);
        pending.reply.cut(out, start);
        Some((connection, status, pending.reply.persistence))
    }

    /// The connection of a waiting request is gone.
    pub(crate) fn forget(&mut self, connection: u64) {
        self.waiting.remove(&connection);
    }

    fn token(&mut self, connection: u64, place: usize) -> u64 {
        self.next_token += 1;
        self.tokens.insert(self.next_token, (connection, place));
        self.next_token
    }

    /// Gives a token back that was not needed.
    fn settle(&mut self, token: u64, answer: Option<Answer>) -> Option<Answer> {
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
        let results = match Batch::read(&mut reader, body) {
            Err(error) => Err(refused(error)),
            Ok(batch) if batch.is_list() != matches!(route, Route::Publish) => {
                Err(refused(ReplyError::InvalidCommand(match route {
                    Route::Publish => "The body must be a list.",
                    _ => "The body must be an object.",
                })))
            }
            Ok(batch) => Ok(batch
                .envelopes()
                .enumerate()
                .map(|(place, envelope)| self.publish_one(engine, route, app, &envelope, connection, place))
                .collect()),
        };
        self.reader = reader;
        results
    }

    fn publish_one(
        &mut self,
        engine: &mut Engine,
        route: Route,
        app: AppId,
        envelope: &Envelope<'_, '_>,
        connection: u64,
        place: usize,
    ) -> Option<Answer> {
        let mut publish = match envelope.publication() {
            Ok(publish) => publish,
            Err(error) => return Some(Err(error)),
        };
        if matches!(route, Route::Send) && publish.channel.is_none() {
            return Some(Err(ReplyError::InvalidCommand("channel must be a string.")));
        }
        if matches!(route, Route::Broadcast) {
            publish.channel = None;
        }
        let key = match envelope.idempotency_key() {
            Ok(key) => key,
            Err(error) => return Some(Err(error)),
        };
        let token = self.token(connection, place);
        let answer = match key {
            Some(key) => engine.request_publish_once(app, key, &publish, token),
            None => engine.request_publish(app, &publish, token),
        };
        self.settle(token, answer)
    }

    /// Edits or deletes one message, or those of a list. Returns whether it was a list.
    fn change(
        &mut self,
        engine: &mut Engine,
        edits: bool,
        app: AppId,
        body: &str,
        connection: u64,
    ) -> Result<(bool, Vec<Option<Answer>>), Problem> {
        let mut reader = std::mem::take(&mut self.reader);
        let results = Batch::read(&mut reader, body).map_err(refused).map(|batch| {
            let change = |(place, envelope): (usize, Envelope<'_, '_>)| {
                let change = if edits { envelope.edit() } else { envelope.deletion() };
                let change = match change {
                    Ok(change) => change,
                    Err(error) => return Some(Err(error)),
                };
                let token = self.token(connection, place);
                let answer = engine.request_change(app, &change, token);
                self.settle(token, answer)
            };
            (batch.is_list(), batch.envelopes().enumerate().map(change).collect())
        });
        self.reader = reader;
        results
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
        Ok(self.settle(token, answer))
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
        Ok(self.settle(token, answer))
    }

    /// Sets a channel's options: those of the configuration, but for what the body says.
    fn set_options(
        &mut self,
        engine: &mut Engine,
        app: &App,
        body: &str,
        connection: u64,
    ) -> Result<Option<Answer>, Problem> {
        let batch = Batch::read(&mut self.reader, body).map_err(refused)?;
        let wrong = |detail| refused(ReplyError::InvalidCommand(detail));
        let object = batch.object().ok_or_else(|| wrong("The body must be an object."))?;
        let channel = object.member("channel").and_then(Raw::as_string);
        let channel = channel.ok_or_else(|| wrong("channel must be a string."))?;
        let options = read_options(&object, app.channel_options(&channel)).map_err(refused)?;
        let token = self.token(connection, 0);
        let answer = engine.request_set_options(app.id, &channel, options, token);
        Ok(self.settle(token, answer))
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
            offset.ok_or_else(|| Problem::new(400, "invalid_request", "after and before are offsets."))
        };
        let from = match (parameters.after.as_deref(), parameters.before.as_deref()) {
            (Some(after), None) => PageStart::After(offset(after)?),
            (None, Some(before)) => PageStart::Before(offset(before)?),
            (None, None) => PageStart::Before(u64::MAX),
            _ => return Err(Problem::new(400, "invalid_request", "Either after or before may be given.")),
        };
        let token = self.token(connection, 0);
        let answer = engine.request_history(app, channel, from, limit, token);
        Ok(self.settle(token, answer))
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
        Ok(self.settle(token, answer))
    }

    fn disconnect(
        &mut self,
        engine: &mut Engine,
        app: AppId,
        body: &str,
        connection: u64,
    ) -> Result<Option<Answer>, Problem> {
        let (whom, reconnect) = disconnection(&mut self.reader, body)?;
        let token = self.token(connection, 0);
        let answer = engine.request_disconnect(app, whom, reconnect, token);
        Ok(self.settle(token, answer))
    }
}

/// The resources of the API.
#[derive(Copy, Clone)]
enum Route {
    Send,
    Broadcast,
    Publish,
    Members,
    History,
    Channels,
    Disconnect,
    Messages,
    Options,
    User,
}

/// A user's name follows.
const USERS: &str = "/v1/users/";

impl Route {
    fn find(path: &str) -> Result<Self, Problem> {
        Ok(match path {
            "/v1/send" => Self::Send,
            "/v1/broadcast" => Self::Broadcast,
            "/v1/publish" => Self::Publish,
            "/v1/members" => Self::Members,
            "/v1/history" => Self::History,
            "/v1/channels" => Self::Channels,
            "/v1/disconnect" => Self::Disconnect,
            "/v1/messages" => Self::Messages,
            "/v1/options" => Self::Options,
            path if path.strip_prefix(USERS).is_some_and(|user| !user.is_empty()) => Self::User,
            _ => return Err(Problem::new(404, "not_found", "There is nothing here.")),
        })
    }

    fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Members | Self::History | Self::Channels | Self::User => &["GET", "HEAD"],
            Self::Messages => &["PATCH", "DELETE"],
            Self::Options => &["GET", "HEAD", "PUT"],
            _ => &["POST"],
        }
    }

    fn allow(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Members | Self::History | Self::Channels | Self::User => &[("allow", "GET, HEAD, OPTIONS")],
            Self::Messages => &[("allow", "PATCH, DELETE, OPTIONS")],
            Self::Options => &[("allow", "GET, HEAD, PUT, OPTIONS")],
            _ => &[("allow", "POST, OPTIONS")],
        }
    }
}

impl Reply {
    fn put(&self, out: &mut BytesMut, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        let mut all = headers.to_vec();
        all.extend(self.readers.headers().into_iter().flatten());
        put_response(out, status, &all, body, self.persistence);
    }

    fn put_problem(&self, out: &mut BytesMut, problem: &Problem) {
        let mut all = problem.headers.to_vec();
        all.extend(self.readers.headers().into_iter().flatten());
        put_problem(out, problem.status, problem.code, &problem.detail, self.persistence, &all);
    }

    /// Leaves the head alone of what was appended from `start` on, if that is all its request wants.
    fn cut(&self, out: &mut BytesMut, start: usize) {
        if self.bodiless {
            cut_body(out, start);
        }
    }

    fn put_preflight(&self, out: &mut BytesMut, methods: &str) {
        let headers = [
            ("access-control-allow-methods", methods),
            ("access-control-allow-headers", "authorization, content-type, x-fanfare-key"),
            ("access-control-max-age", "86400"),
        ];
        self.put(out, 204, &headers, b"");
    }
}

impl Pending {
    /// Appends the answer; returns its status.
    fn put(&self, out: &mut BytesMut) -> u16 {
        let mut json = BytesMut::new();
        if !self.list {
            match self.results[0].as_ref().expect("nothing is missing") {
                Ok(outcome) => dialect::put_outcome(&mut json, outcome),
                Err(error) => {
                    let problem = refused(*error);
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

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// A command's error as a problem.
fn refused(error: ReplyError) -> Problem {
    let status = match error {
        ReplyError::Overloaded => 503,
        ReplyError::UnknownMessage => 404,
        ReplyError::OptionInUse => 409,
        _ => 400,
    };
    Problem::new(status, error.code(), error.message())
}

fn authorise(app: &App, head: &Head<'_>, parameters: &Parameters<'_>) -> Result<(), Problem> {
    let key = bearer(head).or_else(|| head.header_str("x-fanfare-key")).or(parameters.key.as_deref());
    match check_key(app, key)? {
        KeyRole::Server => Ok(()),
        KeyRole::Client => Err(Problem::new(403, "server_key_required", "This needs the app's server key.")),
    }
}

/// Whether a browser asks what a page may ask (Fetch, section 3.2.2).
fn is_preflight(head: &Head<'_>) -> bool {
    head.method == "OPTIONS" && head.header("access-control-request-method").is_some()
}

/// The body as text, if it may be JSON.
fn json_body<'a>(head: &Head<'_>, body: &'a [u8]) -> Result<&'a str, Problem> {
    if let Some(value) = head.header_str("content-type") {
        let media = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        // What curl says of a body unless it is told otherwise.
        let form = "application/x-www-form-urlencoded";
        if media != "application/json" && !media.ends_with("+json") && media != form {
            let detail = "The body must be application/json.";
            return Err(Problem::new(415, "unsupported_media_type", detail));
        }
    }
    std::str::from_utf8(body).map_err(|_| refused(ReplyError::MalformedJson))
}

/// What a body says about a channel's options, on top of `options`. `None` if it says nothing.
fn read_options(
    object: &Object<'_, '_>,
    mut options: ChannelOptions,
) -> Result<Option<ChannelOptions>, ReplyError> {
    let wrong = ReplyError::InvalidCommand(
        "An option is one of those of a channel in the configuration, with a value it may have there.",
    );
    let mut any = false;
    for (name, value) in object.members() {
        let boolean = || value.as_bool().ok_or(wrong);
        let number = |range: RangeInclusive<i64>| {
            let number = value.as_i64().filter(|number| range.contains(number));
            number.and_then(|number| u32::try_from(number).ok()).ok_or(wrong)
        };
        match &*name.name() {
            "channel" => continue,
            "history_messages" => options.history.messages = number(HistoryLimits::MESSAGES)?,
            "history_bytes" => options.history.bytes = number(HistoryLimits::BYTES)?,
            "history_age_s" => options.history.age_ms = number(HistoryLimits::AGE_S)? * 1000,
            "announce" => options.announce = boolean()?,
            "presence_by_user" => options.presence_by_user = boolean()?,
            "membership_to_send" => options.membership_to_send = boolean()?,
            "slow_consumer" => {
                options.slow_consumer = match value.as_string().as_deref() {
                    Some("disconnect") => SlowConsumer::Disconnect,
                    Some("drop") => SlowConsumer::Drop,
                    _ => return Err(wrong),
                }
            }
            _ => return Err(wrong),
        }
        any = true;
    }
    Ok(any.then_some(options))
}

fn channel<'a>(parameters: &'a Parameters<'_>) -> Result<&'a str, Problem> {
    let channel = parameters.channel.as_deref();
    channel.ok_or_else(|| Problem::new(400, "invalid_request", "The query parameter channel is missing."))
}

fn cursor(parameters: &Parameters<'_>) -> Result<Option<Cursor>, Problem> {
    let parse = |text: &str| Cursor::parse(text).ok_or_else(|| refused(ReplyError::InvalidCursor));
    parameters.after.as_deref().map(parse).transpose()
}

fn limit(parameters: &Parameters<'_>) -> Result<usize, Problem> {
    let Some(text) = parameters.limit.as_deref() else { return Ok(PAGE_DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=PAGE).contains(limit));
    limit.ok_or_else(|| Problem::new(400, "invalid_request", "limit is a number from 1 to 1000."))
}

fn list_channels(
    engine: &Engine,
    app: AppId,
    parameters: &Parameters<'_>,
    reply: &Reply,
    out: &mut BytesMut,
) -> Result<(), Problem> {
    let prefix = parameters.prefix.as_deref().unwrap_or_default();
    let page =
        engine.channels(app, prefix, limit(parameters)?, parameters.after.as_deref()).map_err(refused)?;
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

/// The body of a disconnect request.
fn disconnection(reader: &mut CommandReader, body: &str) -> Result<(Disconnection, bool), Problem> {
    let wrong = |detail| refused(ReplyError::InvalidCommand(detail));
    let batch = Batch::read(reader, body).map_err(refused)?;
    let object = batch.object().ok_or_else(|| wrong("The body must be an object."))?;
    let text = |name| match object.member(name).filter(|raw| !raw.is_null()) {
        Some(raw) => raw.as_string().map(Some).ok_or_else(|| wrong("session and user must be strings.")),
        None => Ok(None),
    };
    let reconnect = match object.member("reconnect").filter(|raw| !raw.is_null()) {
        Some(raw) => raw.as_bool().ok_or_else(|| wrong("reconnect must be true or false."))?,
        None => false,
    };
    let whom = match (text("session")?, text("user")?) {
        (Some(session), None) => Disconnection::Session(
            SessionId::parse(&session).ok_or_else(|| wrong("session is not a session's id."))?,
        ),
        (None, Some(user)) => Disconnection::User(user.into()),
        _ => return Err(wrong("Either session or user must be given.")),
    };
    Ok((whom, reconnect))
}

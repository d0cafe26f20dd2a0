//! The native dialect over HTTP, `docs/PROTOCOL.md`: reads a back end's request as commands, and writes their
//! outcomes as JSON.
//!
//! ```text
//!   Resource + query + body ──▶ RequestReader ──▶ BackEndCommand, one by one ──▶ AnswerShape
//!   outcomes, in order      ──▶ put_answer    ──▶ the body of a 200, or a Refusal
//! ```
//!
//! The shell routes, authorises and waits. Only this module reads and writes the API's JSON.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::{
    batch::Batch,
    envelope::Envelope,
    errors::{REFUSED, code, message, wrong},
    options::{ONLY_NEW, read_options},
    outcome::{put_error, put_outcome},
    template::CommandReader,
    users::read_user,
};
use crate::{
    channel::PageStart,
    command::{BackEndCommand, Cursor, Disconnection, Outcome, Publish, PublishAs, TokensOf},
    error::ReplyError,
    http::percent_decode,
    id::SessionId,
    json::{self, Object, Raw},
    limits::{PAGE, PAGE_DEFAULT},
    token::CLAIM_NAME_BYTES_MAX,
};

/// The path of a user's resource before the user's name.
const USERS: &str = "/v1/users/";

/// A resource of the API.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Resource<'a> {
    /// Publishes to a channel.
    Send,
    /// Publishes to every session of the app.
    Broadcast,
    /// Publishes a list of messages.
    Publish,
    /// The members or the users of a channel.
    Members,
    /// The history of a channel.
    History,
    /// The channels of the app.
    Channels,
    /// Disconnects sessions.
    Disconnect,
    /// Revokes the session tokens of a user, or those with an id.
    Revoke,
    /// The messages that a channel remembers.
    Messages,
    /// The options of a channel.
    Options,
    /// The sessions of the app.
    Sessions,
    /// A user, with the percent-encoded name of the path.
    User(&'a str),
}

impl<'a> Resource<'a> {
    /// The resource at a path.
    pub fn at(path: &'a str) -> Option<Self> {
        Some(match path {
            "/v1/send" => Self::Send,
            "/v1/broadcast" => Self::Broadcast,
            "/v1/publish" => Self::Publish,
            "/v1/members" => Self::Members,
            "/v1/history" => Self::History,
            "/v1/channels" => Self::Channels,
            "/v1/disconnect" => Self::Disconnect,
            "/v1/revoke" => Self::Revoke,
            "/v1/messages" => Self::Messages,
            "/v1/options" => Self::Options,
            "/v1/sessions" => Self::Sessions,
            path => Self::User(path.strip_prefix(USERS).filter(|user| !user.is_empty())?),
        })
    }
}

/// The query of a request, percent-decoded.
#[derive(Copy, Clone, Default, Debug)]
#[allow(missing_docs, reason = "each field has the name of its parameter")]
pub struct RequestQuery<'a> {
    pub channel: Option<&'a str>,
    pub prefix: Option<&'a str>,
    pub limit: Option<&'a str>,
    pub after: Option<&'a str>,
    pub before: Option<&'a str>,
    pub by: Option<&'a str>,
}

/// A request whose sender is authorised.
#[derive(Copy, Clone, Debug)]
pub struct Request<'a> {
    /// The resource.
    pub resource: Resource<'a>,
    /// The method, which the resource supports.
    pub method: &'a str,
    /// The query.
    pub query: RequestQuery<'a>,
    /// The body.
    pub body: &'a [u8],
}

/// A request that is refused as a whole, with the members of its problem document (RFC 9457).
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The problem's stable code.
    pub code: &'static str,
    /// The problem in one sentence, for a person.
    pub detail: Cow<'static, str>,
}

impl Refusal {
    /// The problem of a malformed request.
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status: 400, code: "invalid_request", detail: detail.into() }
    }
}

impl From<ReplyError> for Refusal {
    fn from(error: ReplyError) -> Self {
        let status = match error {
            ReplyError::Overloaded => 503,
            ReplyError::UnknownMessage => 404,
            ReplyError::OptionInUse => 409,
            ReplyError::Refused => 403,
            ReplyError::TriggerFailed => 502,
            _ => 400,
        };
        Self { status, code: code(error), detail: message(error).into() }
    }
}

/// Whether an answer is one outcome or a list of outcomes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum AnswerShape {
    /// The answer is one outcome.
    One,
    /// The answer is a list with `ok` or `error` for each command.
    List,
}

/// Reads requests, and keeps its buffers between requests.
#[derive(Default)]
pub struct RequestReader(CommandReader);

impl RequestReader {
    /// Calls `each` with each command of a request, in order, or with the error of a malformed command.
    /// `each` is not called for an empty list or a request that is refused as a whole.
    pub fn read(
        &mut self,
        request: &Request<'_>,
        each: &mut dyn FnMut(Result<BackEndCommand<'_>, ReplyError>),
    ) -> Result<AnswerShape, Refusal> {
        let Request { resource, method, query, body } = *request;
        let is_read = matches!(method, "GET" | "HEAD");
        match resource {
            Resource::Send | Resource::Broadcast | Resource::Publish => {
                return Ok(self.publications(resource, body, each)?);
            }
            Resource::Messages if method == "PATCH" => return Ok(self.changes(body, Change::Edit, each)?),
            Resource::Messages => return Ok(self.changes(body, Change::Delete, each)?),
            Resource::Options if !is_read => self.options(body, each)?,
            Resource::Disconnect => each(Ok(self.disconnection(body)?)),
            Resource::Revoke => self.revocation(body, each)?,
            Resource::Options => each(Ok(BackEndCommand::Options { channel: query.channel()? })),
            Resource::Members => each(Ok(query.members()?)),
            Resource::History => each(Ok(query.history()?)),
            Resource::Channels => each(Ok(query.channels()?)),
            Resource::Sessions => {
                let (limit, after) = (query.limit()?, query.cursor()?);
                each(Ok(BackEndCommand::Sessions { user: None, limit, after }));
            }
            Resource::User(user) => {
                let user = percent_decode(user).map_err(|error| Refusal::invalid(format!("{error}.")))?;
                if !is_read {
                    self.user(&user, body, each)?;
                    return Ok(AnswerShape::One);
                }
                let (limit, after) = (query.limit()?, query.cursor()?);
                each(Ok(BackEndCommand::Sessions { user: Some(&user), limit, after }));
            }
        }
        Ok(AnswerShape::One)
    }

    /// Reads a body that is one object.
    fn object<'s, 'a>(&'s mut self, body: &'a [u8]) -> Result<Object<'s, 'a>, ReplyError> {
        Batch::read(&mut self.0, text(body)?)?.object().ok_or(wrong(NOT_AN_OBJECT))
    }

    fn publications(
        &mut self,
        resource: Resource<'_>,
        body: &[u8],
        each: &mut dyn FnMut(Result<BackEndCommand<'_>, ReplyError>),
    ) -> Result<AnswerShape, ReplyError> {
        let batch = Batch::read(&mut self.0, text(body)?)?;
        let shape = match (resource, batch.is_list()) {
            (Resource::Publish, true) => AnswerShape::List,
            (Resource::Publish, false) => return Err(wrong("The body must be a list.")),
            (_, false) => AnswerShape::One,
            (_, true) => return Err(wrong(NOT_AN_OBJECT)),
        };
        batch.envelopes().for_each(|envelope| each(publication(resource, &envelope)));
        Ok(shape)
    }

    /// Reads edits or deletions of one message or of a list of messages.
    fn changes(
        &mut self,
        body: &[u8],
        change: Change,
        each: &mut dyn FnMut(Result<BackEndCommand<'_>, ReplyError>),
    ) -> Result<AnswerShape, ReplyError> {
        let batch = Batch::read(&mut self.0, text(body)?)?;
        for envelope in batch.envelopes() {
            let change = match (envelope.is_lenient(), change) {
                (Err(error), _) => Err(error),
                (Ok(true), change) => {
                    envelope.amendment(matches!(change, Change::Delete)).map(BackEndCommand::Amend)
                }
                (Ok(false), Change::Edit) => envelope.edit().map(BackEndCommand::Change),
                (Ok(false), Change::Delete) => envelope.deletion().map(BackEndCommand::Change),
            };
            each(change);
        }
        Ok(if batch.is_list() { AnswerShape::List } else { AnswerShape::One })
    }

    fn options(
        &mut self,
        body: &[u8],
        each: &mut dyn FnMut(Result<BackEndCommand<'_>, ReplyError>),
    ) -> Result<(), ReplyError> {
        let object = self.object(body)?;
        let channel = object.member("channel").and_then(Raw::as_string);
        let channel = channel.ok_or(wrong(NO_CHANNEL))?;
        let change = read_options(&object)?;
        let only_new = object.member(ONLY_NEW).map_or(Some(false), Raw::as_bool);
        let only_new = only_new.ok_or(wrong("only_new must be true or false."))?;
        each(Ok(BackEndCommand::SetOptions { channel: &channel, change, only_new }));
        Ok(())
    }

    fn user(
        &mut self,
        user: &str,
        body: &[u8],
        each: &mut dyn FnMut(Result<BackEndCommand<'_>, ReplyError>),
    ) -> Result<(), ReplyError> {
        let object = self.object(body)?;
        let (change, announce) = read_user(&object)?;
        each(Ok(BackEndCommand::SetUser { user, change, announce }));
        Ok(())
    }

    fn revocation(
        &mut self,
        body: &[u8],
        each: &mut dyn FnMut(Result<BackEndCommand<'_>, ReplyError>),
    ) -> Result<(), ReplyError> {
        let object = self.object(body)?;
        let number = |name| match object.given(name) {
            Some(raw) => raw.as_u64().map(Some).ok_or(wrong("before and for_s must be whole numbers.")),
            None => Ok(None),
        };
        let name = |name| match object.member(name).map(Raw::as_string) {
            None => Ok(None),
            Some(Some(text)) if (1..=CLAIM_NAME_BYTES_MAX).contains(&text.len()) => Ok(Some(text)),
            Some(_) => Err(wrong("user and token_id must be strings of 1 to 256 bytes.")),
        };
        let (user, id, before) = (name("user")?, name("token_id")?, number("before")?);
        let tokens = match (&user, &id, before) {
            (Some(name), None, issued_until) => TokensOf::User { name, issued_until },
            (None, Some(id), None) => TokensOf::Id(id),
            (None, Some(_), Some(_)) => return Err(wrong("before is for a user's tokens.")),
            _ => return Err(wrong("Either user or token_id must be given.")),
        };
        let for_s = number("for_s")?.unwrap_or(REVOKED_S);
        if !(1..=REVOKED_S_MAX).contains(&for_s) {
            return Err(wrong("for_s must be 1 to 31622400 seconds."));
        }
        each(Ok(BackEndCommand::Revoke { tokens, for_s }));
        Ok(())
    }

    fn disconnection(&mut self, body: &[u8]) -> Result<BackEndCommand<'static>, ReplyError> {
        let object = self.object(body)?;
        let text = |name| match object.given(name) {
            Some(raw) => raw.as_string().map(Some).ok_or(wrong("session and user must be strings.")),
            None => Ok(None),
        };
        let reconnect = match object.given("reconnect") {
            Some(raw) => raw.as_bool().ok_or(wrong("reconnect must be true or false."))?,
            None => false,
        };
        let whom = match (text("session")?, text("user")?) {
            (Some(session), None) => {
                let session = SessionId::parse(&session);
                Disconnection::Session(session.ok_or(wrong("session is not a session's id."))?)
            }
            (None, Some(user)) => Disconnection::User(user.into()),
            _ => return Err(wrong("Either session or user must be given.")),
        };
        Ok(BackEndCommand::Disconnect { whom, reconnect })
    }
}

/// For how many seconds tokens are revoked if the request does not say so, and the most seconds: 366 days.
const REVOKED_S: u64 = 30 * 86_400;
const REVOKED_S_MAX: u64 = 31_622_400;

const NOT_AN_OBJECT: &str = "The body must be an object.";
const NO_CHANNEL: &str = "channel must be a string.";

/// What happens to a message.
#[derive(Copy, Clone)]
enum Change {
    Edit,
    Delete,
}

fn text(body: &[u8]) -> Result<&str, ReplyError> {
    std::str::from_utf8(body).map_err(|_| ReplyError::MalformedJson)
}

/// Reads the publication in an envelope of this resource.
fn publication<'e>(
    resource: Resource<'_>,
    envelope: &'e Envelope<'_, '_>,
) -> Result<BackEndCommand<'e>, ReplyError> {
    let for_resource = |mut publish: Publish<'e>| match resource {
        Resource::Send if publish.channel.is_none() => Err(wrong(NO_CHANNEL)),
        Resource::Broadcast => {
            publish.channel = None;
            Ok(publish)
        }
        _ => Ok(publish),
    };
    if let Some(given) = envelope.publication_as()? {
        let publish = for_resource(given.publish)?;
        return Ok(BackEndCommand::PublishAs(PublishAs { publish, ..given }));
    }
    let publish = for_resource(envelope.publication()?)?;
    Ok(BackEndCommand::Publish { publish, idempotency_key: envelope.idempotency_key()? })
}

impl<'a> RequestQuery<'a> {
    fn members(&self) -> Result<BackEndCommand<'a>, Refusal> {
        match self.by {
            None | Some("session") => {
                let (channel, limit) = (self.channel()?, self.limit()?);
                Ok(BackEndCommand::Members { channel, limit, after: self.cursor()? })
            }
            Some("user") => {
                let (channel, limit) = (self.channel()?, self.limit()?);
                Ok(BackEndCommand::Users { channel, limit, after: self.after })
            }
            Some(_) => Err(Refusal::invalid("by is session or user.")),
        }
    }

    fn history(&self) -> Result<BackEndCommand<'a>, Refusal> {
        let (channel, limit) = (self.channel()?, self.limit()?);
        let offset = |text: &str| {
            let offset = text.parse().ok();
            offset.ok_or_else(|| Refusal::invalid("after and before are offsets."))
        };
        let from = match (self.after, self.before) {
            (Some(after), None) => PageStart::After(offset(after)?),
            (None, Some(before)) => PageStart::Before(offset(before)?),
            (None, None) => PageStart::Before(u64::MAX),
            _ => return Err(Refusal::invalid("Either after or before may be given.")),
        };
        Ok(BackEndCommand::History { channel, from, limit })
    }

    fn channels(&self) -> Result<BackEndCommand<'a>, Refusal> {
        let prefix = self.prefix.unwrap_or_default();
        Ok(BackEndCommand::Channels { prefix, limit: self.limit()?, after: self.after })
    }

    fn channel(&self) -> Result<&'a str, Refusal> {
        self.channel.ok_or_else(|| Refusal::invalid("The query parameter channel is missing."))
    }

    fn cursor(&self) -> Result<Option<Cursor>, Refusal> {
        let parse = |text: &str| Cursor::parse(text).ok_or(ReplyError::InvalidCursor);
        Ok(self.after.map(parse).transpose()?)
    }

    fn limit(&self) -> Result<usize, Refusal> {
        let Some(text) = self.limit else { return Ok(PAGE_DEFAULT) };
        let limit = text.parse().ok().filter(|limit| (1..=PAGE).contains(limit));
        limit.ok_or_else(|| Refusal::invalid("limit is a number from 1 to 1000."))
    }
}

/// Appends the JSON of a successful answer of this shape. The shape [`AnswerShape::One`] has one result; if
/// that result is an error, the request is refused and nothing is appended.
pub fn put_answer<'r>(
    out: &mut BytesMut,
    shape: AnswerShape,
    results: impl IntoIterator<Item = &'r Result<Outcome, ReplyError>>,
) -> Result<(), Refusal> {
    let mut results = results.into_iter();
    if shape == AnswerShape::One {
        let outcome = results.next().expect("it has one result").as_ref();
        match outcome.map_err(|error| Refusal::from(*error))? {
            Outcome::Refused(why) => {
                return Err(Refusal { status: 403, code: REFUSED, detail: String::from(&**why).into() });
            }
            outcome => put_outcome(out, outcome),
        }
        return Ok(());
    }
    json::write_array(out, results, |out, result| {
        match result {
            Ok(outcome) => {
                let is_refused = matches!(outcome, Outcome::Refused(_));
                let name: &[u8] = if is_refused { b"{\"error\":" } else { b"{\"ok\":" };
                out.extend_from_slice(name);
                put_outcome(out, outcome);
            }
            Err(error) => {
                out.extend_from_slice(b"{\"error\":");
                put_error(out, *error);
            }
        }
        out.put_u8(b'}');
    });
    Ok(())
}

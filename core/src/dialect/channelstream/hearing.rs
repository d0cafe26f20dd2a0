//! Hearings: the triggers of an app decide about the messages, the edits and the joins of a call before the
//! directory applies the call.
//!
//! ```text
//!   Directory::matters ─▶ one question for each message and each join ─▶ the engine, its triggers
//!   Hearing::on_verdict ◀───────────────────────────────────────────────────────┘
//!   Hearing::decide ─▶ the call, with the payloads that the triggers decided ─▶ Directory::handle
//! ```
//!
//! A call takes effect as a whole. So one refusal refuses the call, and the answer names the refused messages
//! and channels.

use std::collections::BTreeMap;

use super::{
    directory::{ConnId, Directory},
    fields::wrong,
    frames::EVENT,
    rest::{Answer, Body, Call, Request},
    schema::{Connect, Delivery, Item, ItemKind, RequestBody, Subscription},
    tree::{Json, Members, object},
};
use crate::{
    command::{BackEndCommand, Judge, Outcome, Publish},
    dialect::buffer::write_buffer,
    error::ReplyError,
    id::MessageId,
    publication::{Audience, OwnedPayload, Payload},
    trigger::TriggerKind,
};

/// A message, an edit or a join on which triggers may run.
#[derive(Debug)]
pub struct Matter {
    /// The place of the message or the channel in the list of the call.
    pub at: usize,
    kind: TriggerKind,
    channel: Option<Box<str>>,
    payload: Box<str>,
    audience: Audience,
    history: bool,
    message_id: Option<MessageId>,
}

impl Matter {
    fn of_item(at: usize, item: &Item, kind: TriggerKind) -> Self {
        let Delivery { channel, no_history, .. } = &item.delivery;
        let payload = item.message.as_ref().map(Members::compact);
        Self {
            at,
            kind,
            channel: channel.clone(),
            payload: payload.map_or_else(|| "null".into(), Into::into),
            audience: item.delivery.audience(),
            history: !no_history,
            message_id: (kind == TriggerKind::Edit).then_some(item.uuid),
        }
    }

    fn of_join(at: usize, channel: &str, payload: &str) -> Self {
        Self {
            at,
            kind: TriggerKind::Join,
            channel: Some(channel.into()),
            payload: payload.into(),
            audience: Audience::default(),
            history: true,
            message_id: None,
        }
    }

    /// The question to the engine.
    pub fn command(&self) -> BackEndCommand<'_> {
        let Self { kind, channel, payload, audience, history, message_id, .. } = self;
        let event = if *kind == TriggerKind::Message { EVENT } else { "" };
        let publish = Publish::new(channel.as_deref(), event, Payload::Json(payload));
        let audience = (!audience.is_everyone()).then(|| Box::new(audience.clone()));
        let publish = Publish { history: *history, audience, ..publish };
        BackEndCommand::Judge(Judge { kind: *kind, publish, message_id: *message_id })
    }
}

/// A call that waits for the verdicts about its matters.
#[derive(Debug)]
pub struct Hearing {
    call: Call,
    conn_id: Option<Box<str>>,
    body: Body,
    missing: usize,
    refusals: BTreeMap<usize, Box<str>>,
    failure: Option<ReplyError>,
}

impl Hearing {
    /// The hearing of a call with this many matters.
    pub fn new(call: Call, conn_id: Option<&str>, body: Body, matters: usize) -> Self {
        let conn_id = conn_id.map(Into::into);
        Self { call, conn_id, body, missing: matters, refusals: BTreeMap::new(), failure: None }
    }

    /// Notes the verdict about the matter at a place.
    pub fn on_verdict(&mut self, at: usize, verdict: Result<Outcome, ReplyError>) {
        self.missing -= 1;
        match verdict {
            Ok(Outcome::Judged(payload)) => self.set_payload(at, &payload),
            Ok(Outcome::Refused(why)) => {
                self.refusals.insert(at, why);
            }
            Ok(_) => {}
            Err(error) => self.failure = Some(error),
        }
    }

    /// Whether no verdict is missing.
    pub fn is_over(&self) -> bool {
        self.missing == 0
    }

    /// The call as its triggers have decided, or the answer that refuses the call.
    pub fn decide(self) -> Result<Heard, Answer> {
        let Self { call, conn_id, body, refusals, failure, .. } = self;
        if failure.is_some() {
            let sentence = "The app's triggers cannot decide about the request.";
            return Err(Answer::new(503, object! { "request": sentence }.into()));
        }
        if refusals.is_empty() {
            return Ok(Heard { call, conn_id, body });
        }
        let is_join = matches!(call, Call::Connect | Call::Subscribe);
        let mut errors = Members::default();
        for (at, why) in refusals {
            let why = wrong(&why);
            let error = if is_join { why } else { object! { "message": why }.into() };
            errors.push(at.to_string(), error);
        }
        let errors = if is_join {
            object! { "channels": errors }
        } else {
            errors
        };
        Err(Answer::new(422, errors.into()))
    }

    /// Gives a message of the call the payload that its triggers have decided.
    fn set_payload(&mut self, at: usize, payload: &OwnedPayload) {
        let Body(RequestBody::Json(Json::Array(items))) = &mut self.body else { return };
        let Some(Json::Object(item)) = items.get_mut(at) else { return };
        match object_of(payload.view()) {
            // A message without payload stays as it is if its triggers let it pass.
            None if item.get("message").is_none_or(|message| *message == Json::Null) => {}
            message => item.set("message", message.unwrap_or_else(|| object! { "value": Json::Null })),
        }
    }
}

/// A call whose triggers have admitted it.
#[derive(Debug)]
pub struct Heard {
    /// The call.
    pub call: Call,
    /// The id of a connection in the query.
    pub conn_id: Option<Box<str>>,
    /// The body.
    pub body: Body,
}

/// A payload as the object that a message of this dialect has; `None` for `null`.
fn object_of(payload: Payload<'_>) -> Option<Members> {
    let value = match payload {
        Payload::Json(json) => Json::parse(json.as_bytes()).unwrap_or(Json::Null),
        Payload::Binary(bytes) => {
            let mut text = String::new();
            write_buffer(bytes, |part| text.push_str(part));
            Json::parse(text.as_bytes()).unwrap_or(Json::Null)
        }
    };
    match value {
        Json::Null => None,
        Json::Object(members) => Some(members),
        value => Some(object! { "value": value }),
    }
}

impl Directory {
    /// The messages, edits and joins of a call on which triggers may run. A call that is to be refused in any
    /// case has none.
    pub fn matters(&self, request: &Request<'_>) -> Vec<Matter> {
        self.find_matters(request).unwrap_or_default()
    }

    fn find_matters(&self, request: &Request<'_>) -> Result<Vec<Matter>, Members> {
        let Body(body) = request.body;
        let kind = match request.call {
            Call::SendMessages => ItemKind::Message,
            Call::EditMessages => ItemKind::Edit,
            Call::Connect => {
                let body =
                    Connect::read(body.json()?, |conn, user| self.is_connection_of_another(conn, user))?;
                return Ok(self.joins(body.conn_id, &body.channels, &body.username));
            }
            Call::Subscribe => {
                let body =
                    Subscription::read(body.json()?, request.conn_id, |conn| self.is_connection(conn))?;
                let user = self.user_of(body.conn_id).unwrap_or_default();
                return Ok(self.joins(Some(body.conn_id), &body.channels, user));
            }
            _ => return Ok(Vec::new()),
        };
        let items = Item::read_all(body.json()?, kind, || MessageId::from_bits(0))?;
        self.check_items(&items)?;
        let items = items.iter().enumerate();
        Ok(match kind {
            // A message without receivers is no message, and an edit without payload runs no trigger.
            ItemKind::Message => items
                .filter(|(_, item)| !item.delivery.is_empty())
                .map(|(at, item)| Matter::of_item(at, item, TriggerKind::Message))
                .collect(),
            _ => items
                .filter(|(_, item)| !item.delivery.is_empty() && item.message.is_some())
                .map(|(at, item)| Matter::of_item(at, item, TriggerKind::Edit))
                .collect(),
        })
    }

    /// The joins of channels that a connection is not in. Triggers are shown the user.
    fn joins(&self, conn: Option<ConnId>, channels: &[Box<str>], user: &str) -> Vec<Matter> {
        let payload = Json::Object(object! { "user": user }).compact();
        let is_new = |at: usize| {
            let channel = &channels[at];
            !channels[..at].contains(channel) && !conn.is_some_and(|conn| self.is_in(conn, channel))
        };
        let new = (0..channels.len()).filter(|at| is_new(*at));
        new.map(|at| Matter::of_join(at, &channels[at], &payload)).collect()
    }
}

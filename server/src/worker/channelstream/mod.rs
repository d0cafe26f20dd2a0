//! Channelstream's back ends and clients on this worker: calls, WebSockets of clients, and the effects of
//! both.
//!
//! ```text
//!   call ─▶ Knock::admit ─▶ the place's directory ──Answer──▶ at once, or when other workers are done
//!                                 └──Effects──▶ engine
//!   /ws  ─▶ Directory::arrival ─▶ Engine::open ─▶ Directory::attach ─▶ what was missed
//! ```
//!
//! A worker holds the directory from its first look until the engine has all effects. So a client receives
//! every frame once: the missed frames, and then the frames of the engine.

mod polls;

use std::{collections::HashMap, net::IpAddr};

use bytes::BytesMut;
use fanfare_core::{
    app::{ChannelstreamOptions, HistoryLimits},
    command::{AmendMessage, BackEndCommand, Disconnection, OptionsChange, Publish, PublishAs},
    dialect::{
        Dialect, Format,
        channelstream::{
            AdminPage, Answer, Arrival, Body, Call, ConnId, Content, Directory, EVENT, Effect, Moment,
            Request, Route, Tell, What, put_missed,
        },
    },
    engine::{MemberChange, Opening},
    http::{Head, Query},
    id::{AppId, MessageId, SessionId, SessionSlot},
    publication::{Audience, Given, Payload},
    token::Claims,
    trigger::Triggers,
    ws::{self, Upgrade, put_close},
};

use super::{Worker, clients::terms, http::Next};
use crate::{
    asker::{Asker, Tokens},
    connection::{Client, ConnectionSlot, Flag},
    http::{
        api::Completed,
        channelstream::{
            Admission, Knock, Page, Place, overview_page, put_answer, put_empty, put_html, put_page,
            redirect, sign_in_page,
        },
        reply::Reply,
    },
    sys::random_bits,
};

/// Messages of back ends pass by the triggers: the directory has answered a call, and remembers its message,
/// before the engine has the message.
const TRIGGERS: Triggers = Triggers::PassBy;

/// Answers to calls that wait for other workers.
pub(super) struct HeldAnswers {
    tokens: Tokens,
    /// The connection that waits for each question to the engine.
    connections: HashMap<u64, u64>,
    waiting: HashMap<u64, HeldAnswer>,
}

struct HeldAnswer {
    missing: usize,
    answer: Answer,
    reply: Reply,
    options: ChannelstreamOptions,
    origin: Option<String>,
}

impl Default for HeldAnswers {
    fn default() -> Self {
        Self { tokens: Tokens::of(Asker::Place), connections: HashMap::new(), waiting: HashMap::new() }
    }
}

impl HeldAnswers {
    /// Handles the answer to a question. If a call's answer waited for this question alone, the call's answer
    /// is appended.
    pub(super) fn on_answer(&mut self, token: u64, out: &mut BytesMut) -> Option<Completed> {
        let connection = self.connections.remove(&token)?;
        let held = self.waiting.get_mut(&connection)?;
        held.missing -= 1;
        if held.missing > 0 {
            return None;
        }
        let HeldAnswer { answer, reply, options, origin, .. } = self.waiting.remove(&connection)?;
        let status = put_answer(out, &reply, &options, origin.as_deref(), &answer);
        Some(Completed { connection, status, persistence: reply.persistence })
    }

    /// Forgets the waiting call of a lost connection.
    pub(super) fn forget(&mut self, connection: u64) {
        self.waiting.remove(&connection);
    }
}

/// A client whose session is about to end.
pub(super) struct Departed {
    app: AppId,
    session: SessionId,
}

impl Worker {
    /// Whether the body of a request to a place is needed.
    pub(super) fn place_wants_body(&mut self, slot: ConnectionSlot, head: &Head<'_>) -> bool {
        let control = self.control.clone();
        let Some((place, path)) = control.places.find(head.path) else { return false };
        let knock = Knock::read(path, head);
        let address = self.address(slot, head);
        knock.wants_body() && matches!(knock.admit(place, &address, self.now_ms / 1000), Admission::Admitted)
    }

    /// Answers a request at a place.
    pub(super) fn answer_at_place(
        &mut self,
        slot: ConnectionSlot,
        head: &Head<'_>,
        body: &[u8],
        reply: Reply,
    ) -> Next {
        let control = self.control.clone();
        self.out.clear();
        let Some((place, path)) = control.places.find(head.path) else { return Next::End };
        let knock = Knock::read(path, head);
        let address = self.address(slot, head);
        let persistence = reply.persistence;
        let origin = head.header_str("origin");
        let status = match (knock.admit(place, &address, self.now_ms / 1000), knock.route) {
            (Admission::Refused(page), _) => {
                if page == Page::BadSignature {
                    let address = self.client_of(slot, head);
                    self.count_failed_key(address);
                }
                let sign_in = format!("{}/admin/sign_in", place.options.prefix);
                let detail = if page == Page::SignIn { &*sign_in } else { knock.path };
                put_page(&mut self.out, &reply, head, &page, detail)
            }
            (_, Route::Preflight) => put_empty(&mut self.out, &reply, &place.options, origin),
            (_, Route::WebSocket) => return self.admit_client(place, &knock, slot, head, reply),
            (_, Route::Admin(page)) => self.put_admin(place, page, head, body, &reply),
            (_, Route::Call(call)) => return self.call(place, call, &knock, (slot, head, body), reply),
            (_, Route::Listen) => return self.listen(place, &knock, slot, head, reply),
            (_, Route::Nothing) => put_page(&mut self.out, &reply, head, &Page::NotFound, knock.path),
        };
        self.count_failed(status);
        self.sent(slot, status, persistence)
    }

    /// The address of a request's client, as text.
    fn address(&self, slot: ConnectionSlot, head: &Head<'_>) -> String {
        self.client_of(slot, head).map(|address| address.to_string()).unwrap_or_default()
    }

    /// Counts a request that was refused.
    fn count_failed(&self, status: u16) {
        if status >= 400 {
            self.metrics.count_refusal(Dialect::Channelstream);
        }
    }

    /// Applies a call, and answers it when all its effects have happened.
    fn call(
        &mut self,
        place: &Place,
        call: Call,
        knock: &Knock<'_>,
        (slot, head, body): (ConnectionSlot, &Head<'_>, &[u8]),
        reply: Reply,
    ) -> Next {
        let body = Body::read(body);
        let request = Request {
            call,
            method: head.method,
            body: &body,
            conn_id: knock.conn_id.as_deref(),
            entropy: random_bits(),
            now: Moment(self.clock.unix_us()),
            version: env!("CARGO_PKG_VERSION"),
        };
        let connection = self.connections.id(slot).token();
        let mut effects = Vec::new();
        let mut directory = place.directory();
        let mut answer = directory.handle(&request, &mut effects);
        let missing = self.follow_up(place, effects, Some(connection));
        drop(directory);
        place.complete(&mut answer);
        let origin = head.header_str("origin");
        if missing > 0 {
            let (options, origin) = (place.options.clone(), origin.map(String::from));
            self.held.waiting.insert(connection, HeldAnswer { missing, answer, reply, options, origin });
            if let Some(connection) = self.connections.live(slot) {
                connection.flags.raise(Flag::Paused);
            }
            return Next::Wait;
        }
        let status = put_answer(&mut self.out, &reply, &place.options, origin, &answer);
        self.count_failed(status);
        self.sent(slot, status, reply.persistence)
    }

    /// Hands the effects of a call to the engine while the directory is held. Returns how many answers of the
    /// engine `connection` waits for.
    pub(super) fn follow_up(
        &mut self,
        place: &Place,
        effects: Vec<Effect>,
        connection: Option<u64>,
    ) -> usize {
        let app = place.app.id;
        let mut missing = 0;
        for effect in effects {
            match effect {
                Effect::Tell(tell) => self.tell(app, *tell),
                Effect::Enroll { session, channel, membership } => {
                    let command = BackEndCommand::Enroll { session, channel: &channel, membership };
                    let token = self.held.tokens.next();
                    if self.engine.request(app, command, token).is_none()
                        && let Some(connection) = connection
                    {
                        self.held.connections.insert(token, connection);
                        missing += 1;
                    }
                }
                Effect::Profile { session, profile } => {
                    let command = BackEndCommand::SetProfile { session, profile: &profile };
                    self.engine.request(app, command, Tokens::UNAWAITED);
                }
                Effect::Remember { channel, messages } => self.remember(app, &channel, messages),
                Effect::End { session } => {
                    let whom = Disconnection::Session(session);
                    let command = BackEndCommand::Disconnect { whom, reconnect: true };
                    self.engine.request(app, command, Tokens::UNAWAITED);
                }
            }
        }
        missing
    }

    /// Has a channel's history keep as many messages as its configuration says, and at least `messages`.
    fn remember(&mut self, app: AppId, channel: &str, messages: u32) {
        let configured = self.engine.apps().of(app).channel_options(channel).history;
        let age_ms = u32::try_from(*HistoryLimits::AGE_S.end() * 1000).ok();
        let change =
            OptionsChange { history_messages: Some(messages), history_age_ms: age_ms, ..Default::default() };
        let change = if messages > configured.messages { change } else { OptionsChange::default() };
        let command = BackEndCommand::SetOptions { channel, change, only_new: false };
        if let Some(Err(error)) = self.engine.request(app, command, Tokens::UNAWAITED) {
            tracing::debug!(?error, "a channel has no history for other dialects");
        }
    }

    /// Sends clients a back end's message or a notice. The engine handles slow clients, and no call waits for
    /// the outcome.
    fn tell(&mut self, app: AppId, Tell { channel, audience, what }: Tell) {
        let channel = channel.as_deref();
        let command = match &what {
            What::Words(words) => BackEndCommand::Tell { channel, audience, words: words.clone() },
            What::Message { content, history } => {
                let payload = content.payload.as_deref().map_or(Payload::NULL, Payload::Json);
                let publish = Publish::new(channel, EVENT, payload);
                let publish = Publish { history: *history, audience: Some(Box::new(audience)), ..publish };
                let (id, given) = (Some(content.id), content.given.clone());
                let triggers = TRIGGERS;
                BackEndCommand::PublishAs(PublishAs { publish, id, given, only_existing: true, triggers })
            }
            What::Edit(Content { id, payload, given }) => BackEndCommand::Amend(AmendMessage {
                deletes: false,
                payload: payload.as_deref().map(Payload::Json),
                given: given.clone(),
                ..deletion(channel, *id, audience)
            }),
            What::Delete(id) => BackEndCommand::Amend(deletion(channel, *id, audience)),
        };
        if let Some(Err(error)) = self.engine.request(app, command, Tokens::UNAWAITED) {
            tracing::debug!(?error, "a message was not delivered");
        }
    }

    /// Turns the connection into the WebSocket of a client that a back end has announced.
    fn admit_client(
        &mut self,
        place: &Place,
        knock: &Knock<'_>,
        slot: ConnectionSlot,
        head: &Head<'_>,
        reply: Reply,
    ) -> Next {
        let upgrade = Upgrade::new(head.method, head.minor_version, head.headers());
        let accept = match upgrade.accept() {
            Ok(accept) if head.body.is_empty() && !self.is_draining() => accept,
            refused => {
                let status = refused.err().map_or(503, |error| error.status());
                reply.put(&mut self.out, status, &[], b"");
                return self.sent(slot, status, reply.persistence);
            }
        };
        ws::put_response(&mut self.out, &accept, None);
        let Some(conn) = knock.conn_id.as_deref().and_then(ConnId::parse) else {
            // The original closes such a connection without a frame.
            self.connections.send(slot, &self.out);
            return Next::End;
        };
        self.keep_client(slot, head);
        let mut directory = place.directory();
        let arrival = directory.arrival(conn);
        let session =
            arrival.and_then(|arrival| self.open_client(place, slot, conn, arrival, &mut directory));
        drop(directory);
        let Some(session) = session else {
            put_close(&mut self.out, 1000, "", None);
            self.connections.send(slot, &self.out);
            self.linger_detached(slot);
            return Next::Frames;
        };
        self.begin_frames(slot, session)
    }

    /// Opens a client's session in the channels of its connection, and sends the frames that the client has
    /// missed.
    fn open_client(
        &mut self,
        place: &Place,
        slot: ConnectionSlot,
        conn: ConnId,
        arrival: Arrival,
        directory: &mut Directory,
    ) -> Option<SessionSlot> {
        let opening = opening(place, Format::ChannelstreamFrames, arrival, slot.0);
        let Self { engine, out, .. } = self;
        let Ok(session) = engine.open(opening, |first| first.extend_from_slice(out), |_, _, _| {}) else {
            self.counters.app_full_total += 1;
            return None;
        };
        let address = self.connections.client(slot);
        let id = self.engine.session_id(session);
        tracing::debug!(app = %place.app.name, session = %id, address = %Client(address), "a session begins");
        self.begin_client(place, directory, conn, session, address);
        Some(session)
    }

    /// Attaches a session that has begun to its connection, and sends the frames that the client has missed.
    fn begin_client(
        &mut self,
        place: &Place,
        directory: &mut Directory,
        conn: ConnId,
        session: SessionSlot,
        address: Option<IpAddr>,
    ) {
        let Self { engine, clock, .. } = self;
        engine.set_terms(session, terms(&place.app, address, None));
        let (id, format) = (engine.session_id(session), engine.session_format(session));
        let mut effects = Vec::new();
        let missed = directory.attach(conn, id, Moment(clock.unix_us()), &mut effects);
        engine.reply(session, |out| missed.iter().for_each(|words| put_missed(format, out, words)));
        self.follow_up(place, effects, None);
    }

    /// The Channelstream client of a session that is about to end.
    pub(super) fn departing_client(&mut self, session: SessionSlot) -> Option<Departed> {
        let format = self.engine.session_format(session);
        let is_client = matches!(format, Format::ChannelstreamFrames | Format::ChannelstreamPolls);
        is_client.then(|| Departed {
            app: self.engine.session_app(session).id,
            session: self.engine.session_id(session),
        })
    }

    /// Ends the connection of a client whose session has ended.
    pub(super) fn forget_client(&mut self, departed: Option<Departed>) {
        let Some(Departed { app, session }) = departed else { return };
        let control = self.control.clone();
        let app = self.engine.apps().of(app).clone();
        let Some(place) = control.places.of(&app) else { return };
        let mut effects = Vec::new();
        let mut directory = place.directory();
        directory.detach(session, Moment(self.clock.unix_us()), &mut effects);
        self.follow_up(place, effects, None);
        drop(directory);
        self.wake_others();
    }

    /// Tells the directories which members of other dialects have come, changed or gone on this worker, and
    /// wakes the workers that have mail.
    pub(super) fn tell_others(&mut self) {
        let changes = self.engine.take_member_changes();
        if changes.is_empty() {
            return self.wake_others();
        }
        let control = self.control.clone();
        let now = Moment(self.clock.unix_us());
        for changes in changes.chunk_by(|one, other| one.app == other.app) {
            let app = self.engine.apps().of(changes[0].app).clone();
            let Some(place) = control.places.of(&app) else { continue };
            let mut effects = Vec::new();
            let mut directory = place.directory();
            for MemberChange { channel, member, is_member, .. } in changes {
                let Some(channel) = channel.name() else { continue };
                directory.observe(channel, member, *is_member, now, &mut effects);
            }
            self.follow_up(place, effects, None);
        }
        self.wake_others();
    }

    /// Whether this worker expires connections whose clients do not come.
    pub(super) fn looks_after_places(&self) -> bool {
        self.id.0 == 0 && !self.control.places.is_empty()
    }

    /// Removes the connections, users and channels of the places whose time is over.
    pub(super) fn expire_places(&mut self) {
        if !self.looks_after_places() {
            return;
        }
        let control = self.control.clone();
        let now = Moment(self.clock.unix_us());
        for place in control.places.iter() {
            let mut directory = place.directory();
            if directory.next_due().is_none_or(|due| due > now) {
                continue;
            }
            let mut effects = Vec::new();
            directory.expire(now, &mut effects);
            self.follow_up(place, effects, None);
        }
        self.wake_others();
    }

    /// Appends a page for administrators.
    fn put_admin(
        &mut self,
        place: &Place,
        page: AdminPage,
        head: &Head<'_>,
        body: &[u8],
        reply: &Reply,
    ) -> u16 {
        let (options, origin) = (&place.options, head.header_str("origin"));
        let (home, sign_in) =
            (format!("{}/admin", options.prefix), format!("{}/admin/sign_in", options.prefix));
        match page {
            AdminPage::Overview => {
                let request = Request {
                    call: Call::AdminJson,
                    method: "GET",
                    body: &Body::read(b""),
                    conn_id: None,
                    entropy: 0,
                    now: Moment(self.clock.unix_us()),
                    version: env!("CARGO_PKG_VERSION"),
                };
                let mut answer = place.directory().handle(&request, &mut Vec::new());
                place.complete(&mut answer);
                let html = overview_page(&answer.text(), &options.prefix);
                put_html(&mut self.out, reply, options, origin, &html)
            }
            AdminPage::SignIn if head.method == "POST" && is_administrator(place, body, self.now_ms) => {
                let cookie = place.cookie(self.now_ms / 1000);
                redirect(&mut self.out, reply, head, &home, Some(&cookie))
            }
            AdminPage::SignIn => put_html(&mut self.out, reply, options, origin, &sign_in_page()),
            AdminPage::SignOut => redirect(&mut self.out, reply, head, &sign_in, Some(&place.no_cookie())),
        }
    }
}

/// The opening of the session of a connection that a back end has announced.
fn opening(place: &Place, format: Format, arrival: Arrival, connection: u32) -> Opening<'_> {
    let Arrival { user, public_state, channels, .. } = arrival;
    let claims =
        Claims { user: user.into(), expires_at: None, profile: Some(public_state), channels, id: None };
    let claims = Some(claims);
    Opening { app: &place.app, format, echo: Some(false), claims, connection, ticket: None }
}

/// The deletion of a message. An edit differs from it in the fields that it sets.
fn deletion(channel: Option<&str>, id: MessageId, audience: Audience) -> AmendMessage<'_> {
    let given = Given::default();
    AmendMessage { channel, id, deletes: true, payload: None, audience, given, triggers: TRIGGERS }
}

/// Whether a form has the name and the password of an administrator.
fn is_administrator(place: &Place, form: &[u8], now_ms: u64) -> bool {
    let (mut user, mut password) = (String::new(), String::new());
    for (name, value) in Query::new(std::str::from_utf8(form).unwrap_or_default()).flatten() {
        match &*name {
            "username" => user = value.trim().into(),
            "password" => password = value.trim().into(),
            _ => {}
        }
    }
    place.sign_in(&user, &password, now_ms)
}

//! Channelstream's back ends and clients on this worker: calls, WebSockets of clients, and the effects of
//! both.
//!
//! ```text
//!   call ─▶ Knock::admit ─▶ triggers ─▶ the place's directory ──Answer──▶ at once, or when it has happened
//!                                             └──Effects──▶ engine
//!   /ws  ─▶ Directory::arrival ─▶ Engine::open ─▶ Directory::attach ─▶ what was missed
//! ```
//!
//! A worker holds the directory from its first look until the engine has all effects. So a client receives
//! every frame once: the missed frames, and then the frames of the engine.

mod calls;
mod polls;

use std::net::IpAddr;

use fanfare_core::{
    dialect::{
        Dialect, Format,
        channelstream::{
            AdminPage, Arrival, Body, Call, ConnId, Directory, Moment, Request, Route, put_missed,
        },
    },
    engine::{ChangedUser, MemberChange, Opening},
    http::{Head, Query},
    id::{AppId, SessionId, SessionSlot},
    token::Claims,
    ws::{self, Upgrade, put_close},
};

pub(super) use self::calls::HeldCalls;
use super::{Worker, clients::terms, http::Next};
use crate::{
    connection::{Client, ConnectionSlot},
    http::{
        channelstream::{
            Admission, Knock, Located, Page, Place, overview_page, put_empty, put_html, put_page, redirect,
            scheme, script_name, sign_in_page,
        },
        reply::Reply,
    },
};

/// A client whose session is about to end.
pub(super) struct Departed {
    app: AppId,
    session: SessionId,
}

impl Worker {
    /// Whether the body of a request to a place is needed.
    pub(super) fn place_wants_body(&mut self, slot: ConnectionSlot, head: &Head<'_>) -> bool {
        let control = self.control.clone();
        let script = self.script_name(slot, head);
        let Some(Located { place, path, .. }) = control.places.find(head.path, script) else { return false };
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
        let script = self.script_name(slot, head);
        let Some(located) = control.places.find(head.path, script) else { return Next::End };
        let Located { place, path, base } = located;
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
                let sign_in = format!("{}{base}/admin/sign_in", self.site(slot, head));
                let detail = if page == Page::SignIn { &*sign_in } else { knock.path };
                put_page(&mut self.out, &reply, head, &page, detail)
            }
            (_, Route::Preflight) => put_empty(&mut self.out, &reply, &place.options, origin),
            (_, Route::WebSocket) => return self.admit_client(place, &knock, slot, head, reply),
            (_, Route::Admin(page)) => self.put_admin((located, slot), page, head, body, &reply),
            (_, Route::Call(call)) => return self.call(place, call, (&knock, head, body), (slot, reply)),
            (_, Route::Listen) => return self.listen(place, &knock, slot, head, reply),
            (_, Route::Nothing) => put_page(&mut self.out, &reply, head, &Page::NotFound, knock.path),
        };
        self.count_failed(status);
        self.sent(slot, status, persistence)
    }

    /// Whether a request belongs to a place.
    pub(super) fn is_for_place(&self, slot: ConnectionSlot, head: &Head<'_>) -> bool {
        let places = &self.control.places;
        !places.is_empty() && places.find(head.path, self.script_name(slot, head)).is_some()
    }

    /// The prefix under which a trusted proxy serves a request's place.
    fn script_name<'h>(&self, slot: ConnectionSlot, head: &Head<'h>) -> Option<&'h str> {
        script_name(head).filter(|_| self.config.trusted_proxies.trust(self.connections.client(slot)))
    }

    /// The beginning of a request's URL: its scheme, which a trusted proxy may name, and its host. Empty for
    /// a request without host.
    fn site(&mut self, slot: ConnectionSlot, head: &Head<'_>) -> String {
        let Some(host) = head.host() else { return String::new() };
        let is_trusted = self.config.trusted_proxies.trust(self.connections.client(slot));
        let is_secured = self.connections.live(slot).is_some_and(|connection| connection.is_secured());
        let own = if is_secured { "https" } else { "http" };
        format!("{}://{host}", scheme(head).filter(|_| is_trusted).unwrap_or(own))
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
        self.follow_up(place, &effects, None);
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
        self.follow_up(place, &effects, None);
        drop(directory);
        self.wake_others();
    }

    /// Tells the directories which members of other dialects have come, changed or gone on this worker and
    /// which states of users have changed, and wakes the workers that have mail.
    pub(super) fn tell_others(&mut self) {
        let (changes, users) = (self.engine.take_member_changes(), self.engine.take_changed_users());
        if changes.is_empty() && users.is_empty() {
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
            self.follow_up(place, &effects, None);
        }
        for ChangedUser { app, user, changed } in users {
            let Some(place) = control.places.of(self.engine.apps().of(app)) else { continue };
            let mut effects = Vec::new();
            let mut directory = place.directory();
            directory.observe_state(&user, &changed, now, &mut effects);
            self.follow_up(place, &effects, None);
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
            self.follow_up(place, &effects, None);
        }
        self.wake_others();
    }

    /// Appends a page for administrators.
    fn put_admin(
        &mut self,
        (Located { place, base, .. }, slot): (Located<'_>, ConnectionSlot),
        page: AdminPage,
        head: &Head<'_>,
        body: &[u8],
        reply: &Reply,
    ) -> u16 {
        let (options, origin) = (&place.options, head.header_str("origin"));
        let home = format!("{}{base}/admin", self.site(slot, head));
        let sign_in = format!("{home}/sign_in");
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
                let html = overview_page(&answer.text(), base);
                put_html(&mut self.out, reply, options, origin, &html)
            }
            AdminPage::SignIn if head.method == "POST" && is_administrator(place, body, self.now_ms) => {
                let cookie = place.cookie(base, self.now_ms / 1000);
                redirect(&mut self.out, reply, head, &home, Some(&cookie))
            }
            AdminPage::SignIn => put_html(&mut self.out, reply, options, origin, &sign_in_page()),
            AdminPage::SignOut => {
                redirect(&mut self.out, reply, head, &sign_in, Some(&Place::no_cookie(base)))
            }
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

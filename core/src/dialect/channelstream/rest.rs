//! Requests as data: which path and method ask for what, who may, and what is answered.

use super::{
    directory::{ConnId, Directory, Effect, Full},
    fields::wrong_type,
    schema::{
        Connect, Item, ItemKind, Subscription, UserState, parse, read_conn_id, read_info, read_settings,
    },
    timestamp::Moment,
    tree::{Json, Members, object},
};

/// What a request asks for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Route {
    /// A WebSocket.
    WebSocket,
    /// A long poll.
    Listen,
    /// A call that is answered at once.
    Call(Call),
    /// A page for administrators.
    Admin(AdminPage),
    /// The answer to a browser's question whether it may ask.
    Preflight,
    /// Nothing that there is.
    Nothing,
}

/// Calls of back ends and clients.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[allow(missing_docs, reason = "each is the path of the same name")]
pub enum Call {
    Connect,
    Subscribe,
    Unsubscribe,
    UserState,
    SendMessages,
    EditMessages,
    DeleteMessages,
    ChannelConfig,
    Info,
    Disconnect,
    AdminJson,
}

/// Pages for administrators.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum AdminPage {
    /// What the server holds.
    Overview,
    /// The form, and what it sends.
    SignIn,
    /// The end of that.
    SignOut,
}

/// Who may make a call.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Access {
    /// Whoever knows the id of a connection.
    Anyone,
    /// A back end that signs.
    Signed,
    /// A back end that signs, or an administrator.
    Admin,
}

impl Route {
    /// What a method and a path ask for.
    pub fn of(method: &str, path: &str) -> Self {
        let call = match (path, method) {
            (_, "OPTIONS") => return Self::Preflight,
            ("/ws", "GET") => return Self::WebSocket,
            ("/listen", "GET") => return Self::Listen,
            ("/admin", _) => return Self::Admin(AdminPage::Overview),
            ("/admin/sign_in", _) => return Self::Admin(AdminPage::SignIn),
            ("/admin/sign_out", _) => return Self::Admin(AdminPage::SignOut),
            ("/connect", "POST") => Call::Connect,
            ("/subscribe", "POST") => Call::Subscribe,
            ("/unsubscribe", "POST") => Call::Unsubscribe,
            ("/user_state", "POST") => Call::UserState,
            ("/message", "POST") => Call::SendMessages,
            ("/message", "PATCH") => Call::EditMessages,
            ("/message", "DELETE") => Call::DeleteMessages,
            ("/channel_config", "POST") => Call::ChannelConfig,
            ("/info", _) => Call::Info,
            ("/disconnect", _) => Call::Disconnect,
            ("/admin/admin.json", "GET" | "POST") => Call::AdminJson,
            _ => return Self::Nothing,
        };
        Self::Call(call)
    }

    /// Who may.
    pub fn access(self) -> Access {
        match self {
            Self::Call(Call::Disconnect) => Access::Anyone,
            Self::Call(Call::AdminJson) | Self::Admin(AdminPage::Overview) => Access::Admin,
            Self::Call(_) => Access::Signed,
            _ => Access::Anyone,
        }
    }
}

/// A call and what it brings.
#[derive(Copy, Clone, Debug)]
pub struct Request<'a> {
    /// What it asks for.
    pub call: Call,
    /// Its method.
    pub method: &'a str,
    /// Its body.
    pub body: &'a [u8],
    /// The id of a connection in its query.
    pub conn_id: Option<&'a str>,
    /// Random bits of the operating system, for an id.
    pub entropy: u128,
    /// The clock.
    pub now: Moment,
    /// The server's version.
    pub version: &'a str,
}

/// What a call is answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// JSON.
    pub body: String,
}

impl Answer {
    fn new(status: u16, body: &Json) -> Self {
        Self { status, body: body.pretty() }
    }
}

/// Why a call has no result.
enum Refusal {
    Invalid(Members),
    Full(Full),
}

impl From<Members> for Refusal {
    fn from(errors: Members) -> Self {
        Self::Invalid(errors)
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

impl Directory {
    /// Applies a call as a whole, or refuses it and does nothing.
    pub fn handle(&mut self, request: &Request<'_>, effects: &mut Vec<Effect>) -> Answer {
        match self.apply(request, effects) {
            Ok(result) => Answer::new(200, &result),
            Err(Refusal::Invalid(errors)) => Answer::new(422, &errors.into()),
            Err(Refusal::Full(full)) => {
                let sentence = match full {
                    Full::Connections => "Too many connections wait for their clients.",
                    Full::Users => "Too many users.",
                    Full::Channels => "Too many channels.",
                };
                Answer::new(503, &object! { "request": sentence }.into())
            }
        }
    }

    fn apply(&mut self, request: &Request<'_>, effects: &mut Vec<Effect>) -> Result<Json, Refusal> {
        let &Request { call, body, now, .. } = request;
        let result = match call {
            Call::Connect => {
                let body =
                    Connect::read(&parse(body)?, |conn, user| self.is_connection_of_another(conn, user))?;
                self.connect(body, ConnId::from_random(request.entropy), now, effects)?
            }
            Call::Subscribe | Call::Unsubscribe => {
                let is_known = |conn| self.is_connection(conn);
                let body = Subscription::read(&parse(body)?, request.conn_id, is_known)?;
                match call {
                    Call::Subscribe => self.subscribe(&body, now, effects)?,
                    _ => self.unsubscribe(&body, now, effects),
                }
            }
            Call::UserState => {
                let body = UserState::read(&parse(body)?, |user| self.is_user(user))?;
                self.set_user_state(body, now, effects)
            }
            Call::SendMessages => return self.items(request, ItemKind::Message, effects),
            Call::EditMessages => return self.items(request, ItemKind::Edit, effects),
            Call::DeleteMessages => return self.items(request, ItemKind::Delete, effects),
            Call::ChannelConfig => self.configure(&read_settings(&parse(body)?)?, now)?,
            Call::Info => self.info(&read_info(body)?),
            Call::AdminJson => self.overview(request.version, now),
            Call::Disconnect => {
                let conn = disconnected(request)?;
                return Ok(self.disconnect(conn, now, effects).into());
            }
        };
        Ok(result.into())
    }

    fn items(
        &mut self,
        request: &Request<'_>,
        kind: ItemKind,
        effects: &mut Vec<Effect>,
    ) -> Result<Json, Refusal> {
        let body = parse(request.body)?;
        let items = Item::read_all(&body, kind, || self.fresh_id())?;
        self.check_items(&items)?;
        Ok(self.apply_items(items, kind, request.now, effects))
    }
}

/// The connection that a client wants to end: of the body of a POST, or else of the query.
fn disconnected(request: &Request<'_>) -> Result<ConnId, Members> {
    if request.method != "POST" {
        return read_conn_id(request.conn_id.map(Json::from).as_ref());
    }
    match parse(request.body)? {
        Json::Object(members) => read_conn_id(members.get("conn_id")),
        _ => Err(wrong_type()),
    }
}

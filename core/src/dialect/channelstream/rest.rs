//! HTTP requests as data: the routes, the access that each route needs, and the answers.

use super::{
    directory::{ConnId, Directory, Full, Listing},
    effect::Effect,
    fields::{wrong, wrong_type},
    schema::{
        Connect, Item, ItemKind, RequestBody, Subscription, UserState, read_conn_id, read_info, read_settings,
    },
    timestamp::Moment,
    tree::{Json, Members, object},
};
use crate::limits::USER_STATE_BYTES;

/// The route of a request.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Route {
    /// The request opens a WebSocket.
    WebSocket,
    /// The request is a long poll.
    Listen,
    /// The request is a call, which is answered at once.
    Call(Call),
    /// The request is for an administrators' page.
    Admin(AdminPage),
    /// The request is a browser's CORS preflight.
    Preflight,
    /// The request has no route.
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
    /// The overview of the server's state.
    Overview,
    /// The sign-in form, and the request that the form sends.
    SignIn,
    /// The sign-out.
    SignOut,
}

/// The caller that a route needs.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Access {
    /// Every client that knows the id of a connection.
    Anyone,
    /// A back end with a signature.
    Signed,
    /// A back end with a signature, or an administrator.
    Admin,
}

impl Route {
    /// The route of a method and a path.
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

    /// The access that the call needs.
    pub fn access(self) -> Access {
        match self {
            Self::Call(Call::Disconnect) => Access::Anyone,
            Self::Call(Call::AdminJson) | Self::Admin(AdminPage::Overview) => Access::Admin,
            Self::Call(_) => Access::Signed,
            _ => Access::Anyone,
        }
    }
}

/// The body of a call, which is read before the directory is needed.
#[derive(Debug)]
pub struct Body(pub(super) RequestBody);

impl Body {
    /// Reads a body.
    pub fn read(bytes: &[u8]) -> Self {
        Self(RequestBody::read(bytes))
    }
}

/// A call with its body and its query.
#[derive(Copy, Clone, Debug)]
pub struct Request<'a> {
    /// The call.
    pub call: Call,
    /// The HTTP method.
    pub method: &'a str,
    /// The body.
    pub body: &'a Body,
    /// The id of a connection in the query.
    pub conn_id: Option<&'a str>,
    /// Random bits of the operating system, for a new id.
    pub entropy: u128,
    /// The present moment.
    pub now: Moment,
    /// The server's version.
    pub version: &'a str,
}

/// The answer to a call. The answer with a long listing takes several visits to the directory, so that other
/// calls come in between.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    body: Json,
    listing: Option<Box<Listing>>,
}

impl Answer {
    /// An answer with a text of JSON.
    pub fn of_text(status: u16, json: &str) -> Self {
        Self::new(status, Json::parse(json.as_bytes()).unwrap_or(Json::Null))
    }

    pub(super) fn new(status: u16, body: Json) -> Self {
        Self { status, body, listing: None }
    }

    /// Whether nothing of the answer is missing.
    pub fn is_complete(&self) -> bool {
        self.listing.is_none()
    }

    /// The JSON body of a complete answer.
    pub fn text(&self) -> String {
        self.body.pretty()
    }
}

/// The result of a call.
enum Applied {
    Answer(Json),
    /// The answer lists all channels.
    Listing(Listing),
}

/// The reason why a call has no result.
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
    /// Applies a call as a whole, or refuses it without any change.
    pub fn handle(&mut self, request: &Request<'_>, effects: &mut Vec<Effect>) -> Answer {
        match self.apply(request, effects) {
            Ok(Applied::Answer(result)) => Answer::new(200, result),
            Ok(Applied::Listing(listing)) => {
                let listing = Some(Box::new(listing));
                Answer { listing, ..Answer::new(200, Json::Null) }
            }
            Err(Refusal::Invalid(errors)) => Answer::new(422, errors.into()),
            Err(Refusal::Full(Full::State)) => {
                let sentence = wrong(&format!("Longer than {USER_STATE_BYTES} bytes."));
                Answer::new(422, object! { "user_state": sentence }.into())
            }
            Err(Refusal::Full(full)) => {
                let sentence = match full {
                    Full::Connections => "Too many connections wait for their clients.",
                    Full::Users => "Too many users.",
                    Full::Channels | Full::State => "Too many channels.",
                };
                Answer::new(503, object! { "request": sentence }.into())
            }
        }
    }

    /// Goes on with an answer that is not complete. One call describes a bounded number of channels.
    pub fn go_on(&self, answer: &mut Answer) {
        let Some(listing) = &mut answer.listing else { return };
        if let Some(body) = self.list_more(listing) {
            answer.body = body.into();
            answer.listing = None;
        }
    }

    fn apply(&mut self, request: &Request<'_>, effects: &mut Vec<Effect>) -> Result<Applied, Refusal> {
        let &Request { call, body: Body(body), now, .. } = request;
        let result = match call {
            Call::Connect => {
                let body =
                    Connect::read(body.json()?, |conn, user| self.is_connection_of_another(conn, user))?;
                self.connect(body, ConnId::from_random(request.entropy), now, effects)?
            }
            Call::Subscribe | Call::Unsubscribe => {
                let is_known = |conn| self.is_connection(conn);
                let body = Subscription::read(body.json()?, request.conn_id, is_known)?;
                match call {
                    Call::Subscribe => self.subscribe(&body, now, effects)?,
                    _ => self.unsubscribe(&body, now, effects),
                }
            }
            Call::UserState => {
                let body = UserState::read(body.json()?, |user| self.is_user(user))?;
                self.set_user_state(body, now, effects)?
            }
            Call::SendMessages => return self.items(request, ItemKind::Message, effects),
            Call::EditMessages => return self.items(request, ItemKind::Edit, effects),
            Call::DeleteMessages => return self.items(request, ItemKind::Delete, effects),
            Call::ChannelConfig => self.configure(&read_settings(body.json()?)?, now, effects)?,
            Call::Info => match read_info(body)? {
                config if config.channels.is_none() => return Ok(Applied::Listing(Listing::new(config))),
                config => self.info(&config),
            },
            Call::AdminJson => {
                return Ok(Applied::Listing(Listing::of_overview(self.overview(request.version, now))));
            }
            Call::Disconnect => {
                let conn = disconnected(request)?;
                return Ok(Applied::Answer(self.disconnect(conn, now, effects).into()));
            }
        };
        Ok(Applied::Answer(result.into()))
    }

    fn items(
        &mut self,
        request: &Request<'_>,
        kind: ItemKind,
        effects: &mut Vec<Effect>,
    ) -> Result<Applied, Refusal> {
        let items = Item::read_all(request.body.0.json()?, kind, || self.fresh_id())?;
        self.check_items(&items)?;
        Ok(Applied::Answer(self.apply_items(items, kind, request.now, effects)))
    }
}

/// The connection that a client ends. A POST names it in the body, and any other request in the query.
fn disconnected(request: &Request<'_>) -> Result<ConnId, Members> {
    if request.method != "POST" {
        return read_conn_id(request.conn_id.map(Json::from).as_ref());
    }
    match request.body.0.json()? {
        Json::Object(members) => read_conn_id(members.get("conn_id")),
        _ => Err(wrong_type()),
    }
}

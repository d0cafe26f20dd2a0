//! The query of a request, and the order in which it is checked (the protocol, "Query parameters").
//!
//! ```text
//!   transport known? ─▶ sid given? ─ no ──▶ GET? ─▶ transport fits? ─▶ EIO=4? ─▶ Open
//!        no: code 0         │                no: 2     no: 3             no: 5
//!                           └─ yes ─▶ caller looks it up ─▶ EIO=4, method and transport fit? ─▶ Session
//!                                        unknown: code 1        no: 3
//! ```

use std::borrow::Cow;

use super::RequestError;
use crate::http;

/// Content type of a poll's answer.
pub const PAYLOAD_TYPE: &str = "text/plain; charset=UTF-8";

/// Body of the answer to a POST whose packets were taken.
pub const POST_ANSWER: &str = "ok";

/// Content type of [`POST_ANSWER`].
pub const POST_ANSWER_TYPE: &str = "text/html";

/// `Cache-Control` of both answers.
pub const CACHE_CONTROL: &str = "no-store";

/// A way to carry packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Polls and POSTs.
    Polling,
    /// A WebSocket.
    WebSocket,
}

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// A poll, or a WebSocket's handshake.
    Get,
    /// Packets of the client.
    Post,
    /// Anything else. OPTIONS is not looked at here: it belongs to CORS.
    Other,
}

impl Method {
    /// The method named `name`.
    pub fn new(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "POST" => Self::Post,
            _ => Self::Other,
        }
    }
}

/// Whether a request asks to become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// It does not.
    Http,
    /// It does.
    Upgrade,
}

/// What the query of a request says. `t` and every other parameter of no meaning are left out; of parameters
/// that are repeated the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query<'a> {
    transport: Option<Transport>,
    sid: Option<Cow<'a, str>>,
    version: Version,
    style: Style,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Version {
    Four,
    #[default]
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Style {
    #[default]
    Plain,
    Jsonp,
}

/// Where a request leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'q> {
    /// A session is to be opened over this transport.
    Open(Transport),
    /// A session is named.
    Session {
        /// To be looked up first; if there is no such session, the answer is
        /// [`RequestError::UnknownSession`].
        sid: &'q str,
        /// What is asked of the session, or what is wrong with the request.
        action: Result<Action, RequestError>,
    },
}

/// What a request asks of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// [`Session::handle_poll`](super::Session::handle_poll).
    Poll,
    /// [`Session::handle_post`](super::Session::handle_post).
    Post,
    /// [`Session::handle_upgrade`](super::Session::handle_upgrade).
    Upgrade,
}

impl<'a> Query<'a> {
    /// Reads a query: what follows the `?` of a target, still percent-encoded.
    ///
    /// # Errors
    ///
    /// [`RequestError::BadRequest`] if a percent-encoding is malformed.
    pub fn parse(query: &'a str) -> Result<Self, RequestError> {
        let mut parsed = Self::default();
        for pair in http::Query::new(query) {
            let (name, value) = pair.map_err(|_| RequestError::BadRequest)?;
            match &*name {
                "transport" => {
                    parsed.transport = match &*value {
                        "polling" => Some(Transport::Polling),
                        "websocket" => Some(Transport::WebSocket),
                        _ => None,
                    }
                }
                "sid" => parsed.sid = Some(value).filter(|sid| !sid.is_empty()),
                "EIO" => parsed.version = if value == "4" { Version::Four } else { Version::Other },
                "j" => parsed.style = Style::Jsonp,
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Checks the request, in the order that the module's header shows. JSONP (`j`) is of older revisions and
    /// a bad request here.
    ///
    /// # Errors
    ///
    /// The first thing found wrong.
    pub fn route(&self, method: Method, carrier: Carrier) -> Result<Route<'_>, RequestError> {
        let transport = self.transport.ok_or(RequestError::UnknownTransport)?;
        if let Some(sid) = self.sid.as_deref() {
            return Ok(Route::Session { sid, action: self.action(transport, method, carrier) });
        }
        if method != Method::Get {
            return Err(RequestError::BadHandshakeMethod);
        }
        if (transport, carrier) == (Transport::WebSocket, Carrier::Http)
            || (transport, carrier) == (Transport::Polling, Carrier::Upgrade)
            || self.style == Style::Jsonp
        {
            return Err(RequestError::BadRequest);
        }
        if self.version != Version::Four {
            return Err(RequestError::UnsupportedVersion);
        }
        Ok(Route::Open(transport))
    }

    fn action(&self, transport: Transport, method: Method, carrier: Carrier) -> Result<Action, RequestError> {
        if self.version != Version::Four || self.style == Style::Jsonp {
            return Err(RequestError::BadRequest);
        }
        match (transport, carrier, method) {
            (Transport::Polling, Carrier::Http, Method::Get) => Ok(Action::Poll),
            (Transport::Polling, Carrier::Http, Method::Post) => Ok(Action::Post),
            (Transport::WebSocket, Carrier::Upgrade, Method::Get) => Ok(Action::Upgrade),
            _ => Err(RequestError::BadRequest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(query: &str, method: &str, carrier: Carrier) -> Result<String, RequestError> {
        let query = Query::parse(query)?;
        query.route(Method::new(method), carrier).map(|route| format!("{route:?}"))
    }

    #[test]
    fn requests_are_checked_in_order() {
        use Carrier::{Http, Upgrade};
        use RequestError::{BadHandshakeMethod, BadRequest, UnknownTransport, UnsupportedVersion};
        for (query, method, carrier, error) in [
            ("", "GET", Http, UnknownTransport),
            ("EIO=4", "POST", Http, UnknownTransport),
            ("EIO=3&transport=abc&sid=x", "PUT", Http, UnknownTransport),
            ("EIO=4&transport=webtransport", "GET", Http, UnknownTransport),
            ("EIO=3&transport=polling", "POST", Http, BadHandshakeMethod),
            ("EIO=4&transport=polling", "PUT", Http, BadHandshakeMethod),
            ("EIO=4&transport=polling&sid=", "POST", Http, BadHandshakeMethod),
            ("EIO=3&transport=websocket", "GET", Http, BadRequest),
            ("EIO=4&transport=polling", "GET", Upgrade, BadRequest),
            ("EIO=4&transport=polling&j=0", "GET", Http, BadRequest),
            ("EIO=4&transport=polling&t=%zz", "GET", Http, BadRequest),
            ("transport=polling", "GET", Http, UnsupportedVersion),
            ("EIO=abc&transport=polling", "GET", Http, UnsupportedVersion),
            ("EIO=3&transport=websocket", "GET", Upgrade, UnsupportedVersion),
        ] {
            assert_eq!(route(query, method, carrier), Err(error), "{method} {query}");
        }
    }

    #[test]
    fn known_session_is_asked_for_what_its_request_says() {
        use Carrier::{Http, Upgrade};
        for (query, method, carrier, action) in [
            ("EIO=4&transport=polling", "GET", Http, Ok(Action::Poll)),
            ("EIO=4&transport=polling&t=N8hyd7H", "POST", Http, Ok(Action::Post)),
            ("EIO=4&transport=websocket", "GET", Upgrade, Ok(Action::Upgrade)),
            ("EIO=4&transport=websocket", "GET", Http, Err(RequestError::BadRequest)),
            ("EIO=4&transport=websocket", "POST", Http, Err(RequestError::BadRequest)),
            ("EIO=4&transport=polling", "GET", Upgrade, Err(RequestError::BadRequest)),
            ("EIO=4&transport=polling", "DELETE", Http, Err(RequestError::BadRequest)),
            ("EIO=3&transport=polling", "GET", Http, Err(RequestError::BadRequest)),
            ("EIO=4&transport=polling&j=1", "GET", Http, Err(RequestError::BadRequest)),
        ] {
            let query = format!("{query}&sid=a%2Db");
            let parsed = Query::parse(&query).expect("well-formed");
            let found = parsed.route(Method::new(method), carrier);
            assert_eq!(found, Ok(Route::Session { sid: "a-b", action }), "{method} {query}");
        }
    }

    #[test]
    fn session_is_opened_by_a_get_of_revision_4() {
        assert_eq!(route("EIO=4&transport=polling&t=x", "GET", Carrier::Http), Ok("Open(Polling)".into()));
        assert_eq!(route("transport=websocket&EIO=4", "GET", Carrier::Upgrade), Ok("Open(WebSocket)".into()));
        assert_eq!(route("EIO=3&EIO=4&transport=polling", "GET", Carrier::Http), Ok("Open(Polling)".into()));
    }
}

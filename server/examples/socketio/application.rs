//! What the example does with Socket.IO events.
//!
//! | event | answer |
//! |---|---|
//! | a namespace is connected to | `auth` with the payload of the CONNECT, or `{}` |
//! | `message` | `message-back` with the same arguments |
//! | `message-with-ack` | an acknowledgement with the same arguments |
//! | `ask` | `question` with the same arguments, to be acknowledged; then `answer` with what it said |
//! | `burst`, n | `item` with 0, `item` with 1, … up to n |
//! | `leave` | the namespace is disconnected |
//! | `quit` | the whole connection is closed |

use bytes::{Bytes, BytesMut};
use fanfare_core::{
    engineio::Framing,
    json,
    socketio::{
        AckId, Connection, INVALID_NAMESPACE, Incoming, NotRequested, Outgoing, Payload, put_ack,
        put_connect, put_connect_error, put_disconnect, put_event,
    },
};

/// How long `auth` waits after the CONNECT that it follows, in milliseconds. The official suite attaches the
/// listener for the second message when it has seen the first, and misses what arrives in the same read.
const AUTH_DELAY_MS: u64 = 30;

/// Events in one burst.
const MAX_BURST: u64 = 10_000;

/// An event that is sent later.
pub(crate) struct Planned {
    /// When, in milliseconds.
    pub(crate) due_ms: u64,
    namespace: String,
    json: String,
}

/// What becomes of the connection.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum After {
    Stay,
    Close,
}

/// Where an answer goes: packets of one framing.
pub(crate) struct Outlet<'a> {
    pub(crate) framing: Framing,
    pub(crate) out: &'a mut BytesMut,
    pub(crate) planned: &'a mut Vec<Planned>,
    pub(crate) now_ms: u64,
    /// A fresh id for a socket.
    pub(crate) new_id: String,
}

impl Outlet<'_> {
    /// Answers what a peer has sent.
    pub(crate) fn react(&mut self, connection: &mut Connection, incoming: Incoming<'_>) -> After {
        match incoming {
            Incoming::Connect { namespace, auth } => {
                if self.connect(connection, namespace, auth).is_err() {
                    return After::Close;
                }
            }
            Incoming::Event { namespace, ack, payload } => {
                return self.on_event(connection, &namespace, ack, &payload);
            }
            Incoming::Ack { payload, .. } => {
                let arguments = Arguments::of(&payload);
                self.event("/", None, "\"answer\"", &arguments.all, &payload.attachments);
            }
            Incoming::Disconnect { .. } | Incoming::StrayAck { .. } => {}
        }
        After::Stay
    }

    /// Sends what was planned for now.
    pub(crate) fn send_planned(&mut self, connection: &Connection) {
        let now_ms = self.now_ms;
        for planned in self.planned.extract_if(.., |planned| planned.due_ms <= now_ms) {
            if connection.is_connected(&planned.namespace) {
                let json = ["[\"auth\",", &planned.json, "]"];
                let event =
                    Outgoing { namespace: &planned.namespace, ack: None, json: &json, attachments: &[] };
                put_event(self.out, self.framing, &event);
            }
        }
    }

    fn connect(
        &mut self,
        connection: &mut Connection,
        namespace: &str,
        auth: Option<&str>,
    ) -> Result<(), NotRequested> {
        if !["/", "/custom"].contains(&namespace) {
            connection.refuse(namespace)?;
            put_connect_error(self.out, self.framing, namespace, INVALID_NAMESPACE);
            return Ok(());
        }
        connection.accept(namespace)?;
        put_connect(self.out, self.framing, namespace, &self.new_id);
        self.planned.push(Planned {
            due_ms: self.now_ms + AUTH_DELAY_MS,
            namespace: namespace.to_owned(),
            json: auth.unwrap_or("{}").to_owned(),
        });
        Ok(())
    }

    fn on_event(
        &mut self,
        connection: &mut Connection,
        namespace: &str,
        ack: Option<AckId>,
        payload: &Payload<'_>,
    ) -> After {
        let arguments = Arguments::of(payload);
        match arguments.name.as_str() {
            "\"message\"" => {
                self.event(namespace, None, "\"message-back\"", &arguments.rest, &payload.attachments);
            }
            "\"message-with-ack\"" => {
                let json = ["[", &arguments.rest.join(","), "]"];
                let attachments = &payload.attachments;
                put_ack(self.out, self.framing, &Outgoing { namespace, ack, json: &json, attachments });
            }
            "\"ask\"" => match connection.expect_ack(namespace, self.now_ms) {
                Ok(ack) => {
                    let attachments = &payload.attachments;
                    self.event(namespace, Some(ack), "\"question\"", &arguments.rest, attachments);
                }
                Err(_) => return After::Close,
            },
            "\"burst\"" => {
                let count = arguments.rest.first().and_then(|count| count.parse().ok()).unwrap_or(0);
                for number in 0..MAX_BURST.min(count) {
                    self.event(namespace, None, "\"item\"", &[number.to_string()], &[]);
                }
            }
            "\"leave\"" => {
                connection.disconnect(namespace);
                put_disconnect(self.out, self.framing, namespace);
            }
            "\"quit\"" => return After::Close,
            _ => {}
        }
        After::Stay
    }

    fn event(
        &mut self,
        namespace: &str,
        ack: Option<AckId>,
        name: &str,
        arguments: &[String],
        attachments: &[Bytes],
    ) {
        let mut json = vec!["[", name];
        for argument in arguments {
            json.extend([",", argument]);
        }
        json.push("]");
        put_event(self.out, self.framing, &Outgoing { namespace, ack, json: &json, attachments });
    }
}

/// A payload taken apart: each argument as it was written.
struct Arguments {
    all: Vec<String>,
    name: String,
    rest: Vec<String>,
}

impl Arguments {
    fn of(payload: &Payload<'_>) -> Self {
        let all: Vec<String> =
            json::elements(&payload.json).flatten().map(|argument| argument.as_str().to_owned()).collect();
        let name = all.first().cloned().unwrap_or_default();
        let rest = all.iter().skip(1).cloned().collect();
        Self { all, name, rest }
    }
}

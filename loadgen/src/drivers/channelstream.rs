//! Channelstream 0.7: a back end's signed requests make connections and publish, and a client opens a
//! WebSocket on which it only listens. A member's connection makes the back end's request itself before its
//! handshake.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use fanfare_core::dialect::channelstream::Verifier;

use super::{Driver, Framing, Need, Opened, Reply, Role};
use crate::{
    clock::{now_ns, unix_ns},
    net::{Access, Conversation, Exchange, Request, Response, Texts},
    plan::DriverPlan,
};

/// Users among whom connections are dealt out. The server keeps users for a day.
const USERS: u64 = 10_000;

/// The driver.
pub(super) struct Channelstream {
    requests: Arc<Requests>,
    /// What the ids of this process's connections begin with, and how many there are.
    prefix: u64,
    connections: AtomicU64,
}

/// Requests of a back end.
struct Requests {
    signer: Verifier,
    batch: usize,
}

impl Channelstream {
    pub(super) fn new(plan: &DriverPlan) -> Result<Self, String> {
        if plan.secret.is_empty() {
            return Err("The driver channelstream needs the app's --secret.".into());
        }
        let requests = Requests { signer: Verifier::new(&plan.secret), batch: plan.batch.max(1) as usize };
        let prefix = now_ns() ^ u64::from(std::process::id()) << 40;
        Ok(Self { requests: Arc::new(requests), prefix, connections: AtomicU64::new(0) })
    }
}

impl Requests {
    fn post(&self, target: &str, body: Vec<u8>) -> Request {
        let token = self.signer.sign("channelstream", unix_ns() / 1_000_000_000);
        let headers = format!("x-channelstream-secret: {token}\r\nContent-Type: application/json\r\n");
        Request { method: "POST", target: target.into(), headers, body }
    }
}

impl Driver for Channelstream {
    fn lacks(&self, need: Need) -> bool {
        matches!(
            need,
            Need::Broadcast | Need::Presence | Need::Lobby | Need::PublishingMembers | Need::Echo(_)
        )
    }

    fn access(&self, channel: &str, role: Role) -> Access {
        if role == Role::Publisher {
            return Access::Http(Arc::clone(&self.requests) as Arc<dyn Exchange>);
        }
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let prefix = self.prefix;
        let id = format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{number:012x}",
            prefix as u32,
            prefix >> 32 & 0xFFFF,
            prefix >> 48 & 0xFFF,
            prefix >> 60
        );
        let body = format!(
            "{{\"username\":\"u{}\",\"conn_id\":\"{id}\",\"channels\":[\"{channel}\"],\
             \"info\":{{\"include_history\":false,\"include_users\":false}}}}",
            number % USERS
        );
        let first = Some(self.requests.post("/connect", body.into_bytes()));
        Access::WebSocket { path: format!("/ws?conn_id={id}"), first }
    }

    fn opened(&self) -> Opened<'_> {
        Opened::Joined
    }

    fn framing(&self) -> Framing {
        Framing::List
    }

    /// Never needed: to connect is to join.
    fn join(&self, _: u32, _: &str, _: &str) -> String {
        String::new()
    }

    fn send_around(&self, channel: &str, _: u32) -> (String, String) {
        let before =
            format!("{{\"type\":\"message\",\"user\":\"u0\",\"channel\":\"{channel}\",\"message\":{{\"m\":");
        (before, "}}".into())
    }

    fn read<'a>(&'a self, item: &'a str) -> Reply<'a> {
        if item.starts_with('[') { Reply::Other } else { Reply::Unknown }
    }
}

impl Exchange for Requests {
    fn is_ready(&self) -> bool {
        true
    }

    fn ask(&self, _: &mut Conversation, texts: &mut Texts) -> Option<Request> {
        let taken: Vec<_> = texts.drain(..texts.len().min(self.batch)).collect();
        (!taken.is_empty()).then(|| {
            let list = [&b"["[..], &taken.join(&b","[..]), b"]"].concat();
            self.post("/message", list)
        })
    }

    /// The answer repeats the messages, which are no deliveries.
    fn hear(
        &self,
        _: &mut Conversation,
        answer: Response<'_>,
        _: &mut dyn FnMut(&[u8]),
    ) -> Result<(), String> {
        answer.succeeded().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use fanfare_core::dialect::channelstream::Ageing;

    use super::*;

    fn channelstream() -> Channelstream {
        let plan = DriverPlan { secret: "s".into(), batch: 2, ..DriverPlan::default() };
        Channelstream::new(&plan).expect("valid")
    }

    #[test]
    fn members_connect_by_a_signed_request_and_a_web_socket_of_the_same_id() {
        let channelstream = channelstream();
        let connect = |role| match channelstream.access("c7", role) {
            Access::WebSocket { path, first: Some(first) } => (path, first),
            _ => panic!("a WebSocket after a request"),
        };
        let (path, first) = connect(Role::Member);
        let body = String::from_utf8(first.body).expect("text");
        let id = path.strip_prefix("/ws?conn_id=").expect("an id");
        assert!(body.contains(&format!("\"conn_id\":\"{id}\",\"channels\":[\"c7\"]")), "{body} {path}");
        assert_eq!((id.len(), first.target.as_str()), (36, "/connect"));
        let token =
            super::super::between(&first.headers, "x-channelstream-secret: ", "\r\n").expect("signed");
        let now_s = unix_ns() / 1_000_000_000;
        assert!(Verifier::new("s").verify(token, now_s, Ageing::MINUTE), "{token}");
        assert_ne!(connect(Role::Guest).0, path);
    }

    #[test]
    fn messages_that_wait_are_posted_together() {
        let channelstream = channelstream();
        let Access::Http(exchange) = channelstream.access("c", Role::Publisher) else { panic!("HTTP") };
        let (before, behind) = channelstream.send_around("c", 64);
        let text = |at: u32| format!("{before}{at}{behind}");
        let mut texts: Texts = (0..3).map(|at| text(at).into_bytes().into()).collect();
        let mut bodies = Vec::new();
        while let Some(request) = exchange.ask(&mut Conversation::default(), &mut texts) {
            bodies.push(String::from_utf8(request.body).expect("text"));
        }
        assert_eq!(bodies, [format!("[{},{}]", text(0), text(1)), format!("[{}]", text(2))]);
        assert_eq!(text(5), r#"{"type":"message","user":"u0","channel":"c","message":{"m":5}}"#);
        assert!(Channelstream::new(&DriverPlan::default()).is_err_and(|why| why.ends_with('.')));
    }
}

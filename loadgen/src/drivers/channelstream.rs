//! Channelstream 0.7: a back end's signed requests make connections and publish, and a client opens a
//! WebSocket on which it only listens, or polls. A member's connection makes the back end's request itself
//! before its handshake or its first poll. A mover of `presence` is a user of its own whose back end connects
//! it and disconnects it again, all on one TCP connection; it hears nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use fanfare_core::dialect::channelstream::Verifier;

use super::{Driver, Framing, Need, Notice, Opened, Reply, Role, between};
use crate::{
    clock::{now_ns, unix_ns},
    net::{Access, Conversation, Exchange, Request, Response, Texts},
    plan::DriverPlan,
};

/// Users among whom connections are dealt out. The server keeps users for a day.
const USERS: u64 = 10_000;
/// What the name of a mover's user begins with.
const MOVER: &str = "m";
/// The item that the driver makes of a successful answer to `/connect` or `/disconnect`, which has none of
/// its own.
const DONE: &str = "done";

/// The driver.
pub(super) struct Channelstream {
    requests: Arc<Requests>,
    ids: Arc<Ids>,
    polling: bool,
}

/// Requests of a back end.
struct Requests {
    signer: Verifier,
    batch: usize,
}

/// The ids of this process's connections.
struct Ids {
    prefix: u64,
    next: AtomicU64,
}

/// A member that polls: the request that connects it comes first.
struct Polling {
    id: String,
    connect: Request,
}

/// A user that comes and goes.
struct Mover {
    requests: Arc<Requests>,
    ids: Arc<Ids>,
    user: String,
    channel: String,
}

impl Ids {
    /// A number, and the id that it makes.
    fn take(&self) -> (u64, String) {
        let (number, prefix) = (self.next.fetch_add(1, Ordering::Relaxed), self.prefix);
        let id = format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{number:012x}",
            prefix as u32,
            prefix >> 32 & 0xFFFF,
            prefix >> 48 & 0xFFF,
            prefix >> 60
        );
        (number, id)
    }
}

impl Channelstream {
    pub(super) fn new(plan: &DriverPlan) -> Result<Self, String> {
        if plan.secret.is_empty() {
            return Err("The driver channelstream needs the app's --secret.".into());
        }
        let requests = Requests { signer: Verifier::new(&plan.secret), batch: plan.batch.max(1) as usize };
        let prefix = now_ns() ^ u64::from(std::process::id()) << 40;
        let ids = Ids { prefix, next: AtomicU64::new(0) };
        Ok(Self { requests: Arc::new(requests), ids: Arc::new(ids), polling: plan.polling })
    }
}

impl Requests {
    fn post(&self, target: &str, body: Vec<u8>) -> Request {
        let token = self.signer.sign("channelstream", unix_ns() / 1_000_000_000);
        let headers = format!("x-channelstream-secret: {token}\r\nContent-Type: application/json\r\n");
        Request { method: "POST", target: target.into(), headers, body }
    }

    /// Connects a user to a channel, with settings for it.
    fn connect(&self, user: &str, id: &str, channel: &str, settings: &str) -> Request {
        let body = format!(
            "{{\"username\":\"{user}\",\"conn_id\":\"{id}\",\"channels\":[\"{channel}\"],{settings}\
             \"info\":{{\"include_history\":false,\"include_users\":false}}}}"
        );
        self.post("/connect", body.into_bytes())
    }
}

impl Driver for Channelstream {
    fn lacks(&self, need: Need) -> bool {
        match need {
            Need::Broadcast | Need::Lobby | Need::PublishingMembers | Need::Echo(_) => true,
            Need::Profiles | Need::Members => true,
            // Of a member that polls, a notice may wait for the next poll: what comes when is not known.
            Need::Presence => self.polling,
            _ => false,
        }
    }

    fn access(&self, channel: &str, role: Role) -> Access {
        let (requests, ids) = (Arc::clone(&self.requests), Arc::clone(&self.ids));
        if role == Role::Publisher {
            return Access::Http(requests);
        }
        let (number, id) = ids.take();
        if role == Role::Mover {
            let user = format!("{MOVER}{number}");
            return Access::Http(Arc::new(Mover { requests, ids, user, channel: channel.into() }));
        }
        let settings = if role == Role::Watcher { notify_presence(channel) } else { String::new() };
        let connect = requests.connect(&format!("u{}", number % USERS), &id, channel, &settings);
        match self.polling {
            true => Access::Http(Arc::new(Polling { id, connect })),
            false => Access::WebSocket { path: format!("/ws?conn_id={id}"), first: Some(connect) },
        }
    }

    fn opened(&self) -> Opened<'_> {
        Opened::Joined
    }

    fn framing(&self) -> Framing {
        Framing::List
    }

    /// For movers: for others, to connect is to join.
    fn join(&self, _: u32, channel: &str, _: &str) -> String {
        channel.into()
    }

    /// For movers: there is one thing to leave.
    fn leave(&self, _: u32, _: &str) -> String {
        String::new()
    }

    fn send_around(&self, channel: &str, _: u32) -> (String, String) {
        let before =
            format!("{{\"type\":\"message\",\"user\":\"u0\",\"channel\":\"{channel}\",\"message\":{{\"m\":");
        (before, "}}".into())
    }

    fn read<'a>(&'a self, item: &'a str) -> Reply<'a> {
        match between(item, "\"type\":\"", "\"") {
            Some("presence") => read_notice(item),
            Some("user_state_change") => Reply::Other,
            _ if item == DONE => Reply::Done(None),
            _ if item == "[]" => Reply::Other,
            _ => Reply::Unknown,
        }
    }
}

/// The settings of a channel whose members are told who joins and leaves. The first who connects to a channel
/// settles them.
fn notify_presence(channel: &str) -> String {
    format!("\"channel_configs\":{{\"{channel}\":{{\"notify_presence\":true}}}},")
}

/// A notice of a mover; others come once, and are nobody's business.
fn read_notice(item: &str) -> Reply<'_> {
    let kind = match between(item, "\"action\":\"", "\"") {
        Some("joined") => Notice::Join,
        Some("parted") => Notice::Leave,
        _ => return Reply::Unknown,
    };
    match between(item, "\"user\":\"", "\"") {
        Some(session) if session.starts_with(MOVER) => Reply::Notice { kind, session },
        Some(_) => Reply::Other,
        None => Reply::Unknown,
    }
}

impl Exchange for Polling {
    fn is_ready(&self) -> bool {
        false
    }

    fn ask(&self, conversation: &mut Conversation, _: &mut Texts) -> Option<Request> {
        if conversation.session.is_empty() {
            return Some(self.connect.clone());
        }
        let target = format!("/listen?conn_id={}", self.id);
        Some(Request { method: "GET", target, ..Request::default() })
    }

    fn hear(
        &self,
        conversation: &mut Conversation,
        answer: Response<'_>,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), String> {
        let body = answer.succeeded()?.body;
        if conversation.session.is_empty() {
            conversation.session.clone_from(&self.id);
            each(DONE.as_bytes());
        } else {
            each(body);
        }
        Ok(())
    }
}

impl Exchange for Mover {
    fn is_ready(&self) -> bool {
        true
    }

    fn begin(&self) -> Conversation {
        Conversation { session: self.user.clone(), ..Conversation::default() }
    }

    /// A channel's name joins it as a new connection, and an empty text ends that.
    fn ask(&self, conversation: &mut Conversation, texts: &mut Texts) -> Option<Request> {
        let text = texts.pop_front()?;
        if text.is_empty() {
            let target = format!("/disconnect?conn_id={}", conversation.session);
            return Some(Request { method: "GET", target, ..Request::default() });
        }
        let (_, id) = self.ids.take();
        let request = self.requests.connect(&self.user, &id, &self.channel, "");
        conversation.session = id;
        Some(request)
    }

    fn hear(
        &self,
        _: &mut Conversation,
        answer: Response<'_>,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), String> {
        answer.succeeded()?;
        each(DONE.as_bytes());
        Ok(())
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
    fn members_that_poll_connect_first_and_listen_over_and_over() {
        let plan = DriverPlan { secret: "s".into(), polling: true, ..DriverPlan::default() };
        let channelstream = Channelstream::new(&plan).expect("valid");
        let Access::Http(exchange) = channelstream.access("c7", Role::Member) else { panic!("HTTP") };
        let (mut conversation, mut texts) = (exchange.begin(), Texts::new());
        let mut items = Vec::new();
        let mut each = |item: &[u8]| items.push(String::from_utf8(item.to_vec()).expect("text"));
        let first = exchange.ask(&mut conversation, &mut texts).expect("a request");
        assert_eq!((first.method, first.target.as_str()), ("POST", "/connect"));
        exchange.hear(&mut conversation, Response { status: 200, body: b"{}" }, &mut each).expect("good");
        for _ in 0..2 {
            let poll = exchange.ask(&mut conversation, &mut texts).expect("a request");
            let id = poll.target.strip_prefix("/listen?conn_id=").expect("a poll");
            assert!(poll.method == "GET" && String::from_utf8_lossy(&first.body).contains(id));
            exchange.hear(&mut conversation, Response { status: 200, body: b"[]" }, &mut each).expect("good");
        }
        assert_eq!(items, ["done", "[]", "[]"]);
        let read: Vec<_> = items.iter().map(|item| channelstream.read(item)).collect();
        assert_eq!(read, [Reply::Done(None), Reply::Other, Reply::Other]);
        assert!(channelstream.lacks(Need::Presence));
    }

    #[test]
    fn movers_are_users_whom_a_back_end_connects_and_disconnects() {
        let channelstream = channelstream();
        let Access::Http(exchange) = channelstream.access("c7", Role::Mover) else { panic!("HTTP") };
        let mut conversation = exchange.begin();
        let user = conversation.session.clone();
        let mut texts: Texts = [channelstream.join(2, "c7", ""), channelstream.leave(2, "c7")]
            .map(|text| text.into_bytes().into())
            .into();
        let join = exchange.ask(&mut conversation, &mut texts).expect("a request");
        let body = String::from_utf8(join.body).expect("text");
        assert!(body.contains(&format!("\"username\":\"{user}\"")), "{body}");
        let Access::WebSocket { first: Some(watcher), .. } = channelstream.access("c7", Role::Watcher) else {
            panic!("a WebSocket after a request")
        };
        let watches = String::from_utf8_lossy(&watcher.body).contains("\"c7\":{\"notify_presence\":true}");
        assert!(watches, "the first who connects settles the channel");
        let leave = exchange.ask(&mut conversation, &mut texts).expect("a request");
        let id = leave.target.strip_prefix("/disconnect?conn_id=").expect("the end");
        assert!(body.contains(id) && exchange.ask(&mut conversation, &mut texts).is_none());
        let notice = |action: &str, user: &str| {
            format!(
                r#"{{"type":"presence","channel":"c7","message":{{"action":"{action}"}},"user":"{user}"}}"#
            )
        };
        let joined = notice("joined", &user);
        assert_eq!(channelstream.read(&joined), Reply::Notice { kind: Notice::Join, session: &user });
        let parted = notice("parted", &user);
        assert_eq!(channelstream.read(&parted), Reply::Notice { kind: Notice::Leave, session: &user });
        assert_eq!(channelstream.read(&notice("joined", "u5")), Reply::Other);
        assert_eq!(channelstream.read("{}"), Reply::Unknown);
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

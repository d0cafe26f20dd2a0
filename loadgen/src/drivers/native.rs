//! Fanfare's native protocol, `docs/PROTOCOL.md`: WebSockets, and publishers that use the HTTP API.

use std::sync::Arc;

use memchr::memmem;
use serde::Deserialize;

use super::{Driver, Echo, Need, Notice, Reply, Resumption, Role, Standing, between};
use crate::{
    net::{Access, Conversation, Exchange, Request, Response, Texts},
    plan::DriverPlan,
};

/// What stands between a message and its number in the channel.
const OFFSET: &[u8] = b",\"offset\":";

/// The driver: what its connections' path is made of, escaped.
pub(super) struct Native {
    app: String,
    key: String,
    echo: Echo,
    /// Publishers' requests, if they publish over HTTP.
    requests: Option<Arc<Requests>>,
    /// Whether triggers decide what becomes of messages.
    triggers: bool,
}

/// Requests that publish: the messages that wait, at most so many in each.
struct Requests {
    target: String,
    headers: String,
    batch: usize,
}

/// Answers are few: they may cost a parse.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    ok: Option<Okay<'a>>,
    #[serde(borrow)]
    error: Option<Fault<'a>>,
    #[serde(borrow)]
    welcome: Option<Welcome<'a>>,
    gap: Option<Gap>,
}

/// Of a join's, all but what recovery adds.
#[derive(Deserialize)]
struct Okay<'a> {
    epoch: Option<&'a str>,
    offset: Option<u64>,
    recovered: Option<bool>,
    missed: Option<u64>,
}

#[derive(Deserialize)]
struct Fault<'a> {
    code: &'a str,
}

#[derive(Deserialize)]
struct Welcome<'a> {
    session: &'a str,
    resume: Option<&'a str>,
    resumed: Option<bool>,
}

#[derive(Deserialize)]
struct Gap {
    missed: u64,
}

impl Native {
    pub(super) fn new(plan: &DriverPlan, echo: Echo) -> Result<Self, String> {
        let app = percent_encode(&plan.app);
        if plan.publish_http && plan.secret.is_empty() {
            return Err("Publishing over HTTP needs the app's server key as --secret.".into());
        }
        let requests = plan.publish_http.then(|| {
            Arc::new(Requests {
                target: format!("/v1/publish?app={app}"),
                headers: format!(
                    "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
                    plan.secret
                ),
                batch: plan.batch.max(1) as usize,
            })
        });
        Ok(Self { app, key: percent_encode(&plan.key), echo, requests, triggers: plan.triggers })
    }

    /// The path of a WebSocket that belongs to no channel yet.
    fn path(&self) -> String {
        format!("/v1/ws?app={}&key={}&echo={}", self.app, self.key, self.echo == Echo::On)
    }
}

impl Driver for Native {
    fn lacks(&self, need: Need) -> bool {
        need == Need::PublishingMembers && self.requests.is_some()
    }

    fn access(&self, channel: &str, role: Role) -> Access {
        if let (Role::Publisher, Some(requests)) = (role, &self.requests) {
            return Access::Http(Arc::clone(requests) as Arc<dyn Exchange>);
        }
        let path = self.path();
        Access::web_socket(match role {
            Role::Member | Role::Watcher => format!("{path}&join={}", percent_encode(channel)),
            Role::Guest | Role::Mover | Role::Publisher => path,
        })
    }

    /// A member joins with its handshake.
    fn join_first(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn join(&self, number: u32, channel: &str, _: &str) -> String {
        format!("{{\"type\":\"join\",\"id\":{number},\"channel\":\"{channel}\"}}")
    }

    fn join_since(&self, number: u32, channel: &str, epoch: &str, offset: u64) -> Option<String> {
        let since = format!("{{\"epoch\":\"{epoch}\",\"offset\":{offset}}}");
        Some(format!("{{\"type\":\"join\",\"id\":{number},\"channel\":\"{channel}\",\"since\":{since}}}"))
    }

    fn access_resuming(&self, ticket: &str, received: u64) -> Option<Access> {
        let ticket = percent_encode(ticket);
        Some(Access::web_socket(format!("{}&resume={ticket}&received={received}", self.path())))
    }

    fn leave(&self, number: u32, channel: &str) -> String {
        format!("{{\"type\":\"leave\",\"id\":{number},\"channel\":\"{channel}\"}}")
    }

    fn update(&self, number: u32, profile: u32) -> String {
        format!("{{\"type\":\"update\",\"id\":{number},\"profile\":{profile}}}")
    }

    fn members(&self, number: u32, channel: &str) -> String {
        format!("{{\"type\":\"members\",\"id\":{number},\"channel\":\"{channel}\"}}")
    }

    fn send_around(&self, channel: &str, _: u32) -> (String, String) {
        let kind = if self.requests.is_some() { "" } else { "\"type\":\"send\"," };
        (format!("{{{kind}\"channel\":\"{channel}\",\"event\":\"m\",\"message\":"), "}".into())
    }

    fn numbered(&self) -> Option<(&'static str, &'static str)> {
        (self.triggers && self.requests.is_none()).then_some((",\"id\":", "}"))
    }

    fn is_whole(&self, behind: &[u8]) -> bool {
        behind.starts_with(OFFSET)
    }

    fn broadcast_around(&self) -> (String, String) {
        ("{\"type\":\"broadcast\",\"event\":\"m\",\"message\":".into(), "}".into())
    }

    fn is_contiguous(&self) -> bool {
        true
    }

    /// Read once for each delivery: in one pass.
    fn number(&self, behind: &[u8]) -> Option<u64> {
        let text = match behind.strip_prefix(OFFSET) {
            // What a trigger made of the payload goes on behind it.
            None if self.triggers => &behind[memmem::rfind(behind, OFFSET)? + OFFSET.len()..],
            text => text?,
        };
        let mut number = 0;
        for (at, byte) in text.iter().enumerate().take(19) {
            match byte.wrapping_sub(b'0') {
                digit @ 0..=9 => number = number * 10 + u64::from(digit),
                // The message's id may follow.
                _ => return (at > 0 && matches!(byte, b',' | b'}')).then_some(number),
            }
        }
        None
    }

    fn read<'a>(&'a self, item: &'a str) -> Reply<'a> {
        if item.starts_with("{\"channel\":") {
            return match read_notice(item) {
                Reply::Unknown if self.triggers => Reply::Answer,
                reply => reply,
            };
        }
        if let Some(verdict) = Some(item).filter(|_| self.triggers).and_then(read_verdict) {
            return verdict;
        }
        if item.starts_with("{\"error\":") && self.requests.is_some() {
            return Reply::Failed { code: between(item, "\"code\":\"", "\"").unwrap_or(item) };
        }
        let Ok(answer) = serde_json::from_str::<Answer<'a>>(item) else { return Reply::Unknown };
        match answer {
            Answer { welcome: Some(welcome), .. } => welcome.into_reply(),
            Answer { gap: Some(gap), .. } => Reply::Gap { missed: gap.missed },
            Answer { error: Some(error), .. } => Reply::Failed { code: error.code },
            Answer { ok: Some(ok), .. } => Reply::Done(ok.standing()),
            _ => Reply::Unknown,
        }
    }
}

impl Exchange for Requests {
    fn is_ready(&self) -> bool {
        true
    }

    fn ask(&self, _: &mut Conversation, texts: &mut Texts) -> Option<Request> {
        let taken = texts.drain(..texts.len().min(self.batch));
        let mut body = Vec::new();
        for text in taken {
            body.push(if body.is_empty() { b'[' } else { b',' });
            body.extend_from_slice(&text);
        }
        if body.is_empty() {
            return None;
        }
        body.push(b']');
        let (target, headers) = (self.target.clone(), self.headers.clone());
        Some(Request { method: "POST", target, headers, body })
    }

    /// An answer is a list of answers; those that refuse are items.
    fn hear(
        &self,
        _: &mut Conversation,
        answer: Response<'_>,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), String> {
        let body = answer.succeeded()?.body;
        let refusals = memmem::find_iter(body, b"{\"error\":");
        refusals.for_each(|at| each(&body[at..]));
        Ok(())
    }
}

impl<'a> Welcome<'a> {
    fn into_reply(self) -> Reply<'a> {
        let Self { session, resume, resumed } = self;
        let resumption = resume.map(|ticket| Resumption { ticket, is_resumed: resumed });
        Reply::Welcome { session, resumption }
    }
}

impl<'a> Okay<'a> {
    fn standing(&self) -> Option<Standing<'a>> {
        let &Self { epoch, offset, recovered, missed } = self;
        Some(Standing { epoch: epoch?, offset: offset?, recovered, missed: missed.unwrap_or_default() })
    }
}

/// What an answer with a number says of a message.
fn read_verdict(item: &str) -> Option<Reply<'_>> {
    let (number, rest) = item.strip_prefix("{\"id\":")?.split_once(',')?;
    let number = number.parse().ok()?;
    let refusal = match rest.starts_with("\"error\":") {
        true => Some(between(rest, "\"code\":\"", "\"")?),
        false => None,
    };
    Some(Reply::Verdict { number, refusal })
}

/// Presence notices are many: they are read by their fixed parts.
fn read_notice(item: &str) -> Reply<'_> {
    let kind = match between(item, "\"event\":\"channel:", "\"") {
        Some("join") => Notice::Join,
        Some("update") => Notice::Update,
        Some("leave") => Notice::Leave,
        Some(_) => return Reply::Other,
        None => return Reply::Unknown,
    };
    between(item, "\"id\":\"", "\"").map_or(Reply::Unknown, |session| Reply::Notice { kind, session })
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::path;

    fn native(app: &str, key: &str) -> Native {
        let plan = DriverPlan { app: app.into(), key: key.into(), ..DriverPlan::default() };
        Native::new(&plan, Echo::Off).expect("valid")
    }

    #[test]
    fn requests_have_the_messages_that_wait_and_answers_say_which_were_refused() {
        let plan = DriverPlan { secret: "sk".into(), publish_http: true, batch: 2, ..DriverPlan::default() };
        let native = Native::new(&plan, Echo::Off).expect("valid");
        let Access::Http(exchange) = native.access("c", Role::Publisher) else { panic!("HTTP") };
        let (before, behind) = native.send_around("c", 64);
        let mut texts: Texts = (0..3).map(|at| format!("{before}{at}{behind}").into_bytes().into()).collect();
        let mut conversation = Conversation::default();
        let mut bodies = Vec::new();
        while let Some(request) = exchange.ask(&mut conversation, &mut texts) {
            assert!(request.headers.contains("Authorization: Bearer sk\r\n"), "{request:?}");
            bodies.push(String::from_utf8(request.body).expect("text"));
        }
        let message = |at: u32| format!(r#"{{"channel":"c","event":"m","message":{at}}}"#);
        assert_eq!(bodies, [format!("[{},{}]", message(0), message(1)), format!("[{}]", message(2))]);
        let body = br#"[{"ok":{"offset":1}},{"error":{"code":"overloaded","message":"x"}}]"#;
        let mut items = Vec::new();
        let mut each = |item: &[u8]| items.push(String::from_utf8(item.to_vec()).expect("text"));
        exchange.hear(&mut conversation, Response { status: 200, body }, &mut each).expect("good");
        let read: Vec<_> = items.iter().map(|item| native.read(item)).collect();
        assert_eq!(read, [Reply::Failed { code: "overloaded" }]);
        let refused = Response { status: 401, body: b"{}" };
        assert!(exchange.hear(&mut conversation, refused, &mut |_| {}).is_err());
        assert!(native.lacks(Need::PublishingMembers));
        let without_key = DriverPlan { publish_http: true, ..DriverPlan::default() };
        assert!(Native::new(&without_key, Echo::Off).is_err());
    }

    #[test]
    fn texts_of_the_server_are_told_apart() {
        let native = native("default", "k");
        let read = |text| native.read(text);
        let welcome =
            r#"{"welcome":{"session":"AAAA","user":null,"app":"default","ping_interval_ms":25000}}"#;
        assert_eq!(read(welcome), Reply::welcome("AAAA"));
        assert_eq!(read(r#"{"id":7,"ok":{"channel":"c","joined":true}}"#), Reply::Done(None));
        let failed = r#"{"error":{"code":"overloaded","message":"try \"again\""}}"#;
        assert_eq!(read(failed), Reply::Failed { code: "overloaded" });
        let failed = r#"{"id":3,"error":{"code":"rate_limited","message":"slow"}}"#;
        assert_eq!(read(failed), Reply::Failed { code: "rate_limited" });
        assert_eq!(read(r#"{"gap":{"channel":null,"missed":12}}"#), Reply::Gap { missed: 12 });
        let join = r#"{"channel":"c","event":"channel:join","message":{"id":"BBBB","user":"x"}}"#;
        assert_eq!(read(join), Reply::Notice { kind: Notice::Join, session: "BBBB" });
        let leave = r#"{"channel":"c","event":"channel:leave","message":{"id":"BBBB"}}"#;
        assert_eq!(read(leave), Reply::Notice { kind: Notice::Leave, session: "BBBB" });
        let update = r#"{"channel":"c","event":"channel:update","message":{"id":"BBBB"}}"#;
        assert_eq!(read(update), Reply::Notice { kind: Notice::Update, session: "BBBB" });
        for unknown in ["", "{}", "[]", r#"{"channel":"c","event":"m","message":"x"}"#] {
            assert_eq!(read(unknown), Reply::Unknown, "{unknown}");
        }
    }

    #[test]
    fn offset_is_read_behind_the_payload() {
        let native = native("default", "k");
        assert_eq!(native.number(b",\"offset\":1729}"), Some(1729));
        assert_eq!(native.number(b",\"offset\":999999999999999999}"), Some(999_999_999_999_999_999));
        assert_eq!(native.number(b",\"offset\":17,\"id\":\"01a2-29\"}"), Some(17));
        let none = ["", "}", ",\"offset\":}", ",\"offset\":-1}", ",\"offset\":12", ",\"offset\":1x}"];
        for none in none.into_iter().chain([",\"offset\":1000000000000000000}"]) {
            assert_eq!(native.number(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn answer_to_a_join_says_where_the_connection_stands() {
        let native = native("default", "k");
        let answer = r#"{"id":1,"ok":{"channel":"x","joined":true,"members":2,"epoch":"7f94","offset":9}}"#;
        let standing = Standing { epoch: "7f94", offset: 9, recovered: None, missed: 0 };
        assert_eq!(native.read(answer), Reply::Done(Some(standing)));
        let answer = r#"{"id":1,"ok":{"epoch":"7f94","offset":9,"recovered":true,"missed":4}}"#;
        let recovered = Standing { recovered: Some(true), missed: 4, ..standing };
        assert_eq!(native.read(answer), Reply::Done(Some(recovered)));
        assert_eq!(native.read(r#"{"id":1,"ok":{"channel":"x","left":true}}"#), Reply::Done(None));
        let since = r#"{"type":"join","id":1,"channel":"x","since":{"epoch":"7f94","offset":9}}"#;
        assert_eq!(native.join_since(1, "x", "7f94", 9).as_deref(), Some(since));
    }

    #[test]
    fn verdicts_and_answers_of_triggers_are_told_apart_and_payloads_may_be_wrapped() {
        let plan = DriverPlan { triggers: true, ..DriverPlan::default() };
        let native = Native::new(&plan, Echo::Off).expect("valid");
        assert_eq!(native.numbered(), Some((",\"id\":", "}")));
        let read = |text| native.read(text);
        let passed = r#"{"id":7,"ok":{"channel":"c","offset":3}}"#;
        assert_eq!(read(passed), Reply::Verdict { number: 7, refusal: None });
        let refused = r#"{"id":8,"error":{"code":"refused","message":"no"}}"#;
        assert_eq!(read(refused), Reply::Verdict { number: 8, refusal: Some("refused") });
        assert_eq!(read(r#"{"channel":"c","event":"last","message":[]}"#), Reply::Answer);
        assert_eq!(read(r#"{"id":"join","ok":{"channel":"c"}}"#), Reply::Done(None));
        for (behind, is_whole) in [(",\"offset\":5}", true), ("},\"offset\":5}", false)] {
            assert_eq!(
                (native.number(behind.as_bytes()), native.is_whole(behind.as_bytes())),
                (Some(5), is_whole)
            );
        }
    }

    #[test]
    fn session_is_resumed_by_the_ticket_of_its_welcome() {
        let native = native("default", "k");
        let resumption = Resumption { ticket: "pUIN6a0T", is_resumed: Some(true) };
        let welcome = |rest: &str| format!(r#"{{"welcome":{{"session":"AAAA","user":null{rest}}}}}"#);
        let resumed = welcome(r#","resume":"pUIN6a0T","resumed":true"#);
        assert_eq!(native.read(&resumed), Reply::Welcome { session: "AAAA", resumption: Some(resumption) });
        let first = welcome(r#","resume":"pUIN6a0T""#);
        let resumption = Some(Resumption { is_resumed: None, ..resumption });
        assert_eq!(native.read(&first), Reply::Welcome { session: "AAAA", resumption });
        let Some(Access::WebSocket { path, .. }) = native.access_resuming("a+b", 17) else {
            panic!("a path")
        };
        assert_eq!(path, "/v1/ws?app=default&key=k&echo=false&resume=a%2Bb&received=17");
    }

    #[test]
    fn member_joins_with_its_path_and_nobody_else_does() {
        let native = native("a b", "k+&=");
        let plain = "/v1/ws?app=a%20b&key=k%2B%26%3D&echo=false";
        assert_eq!(path(&native, "x/c:7", Role::Member), format!("{plain}&join=x%2Fc%3A7"));
        assert_eq!(path(&native, "c", Role::Guest), plain);
        assert_eq!(path(&native, "c", Role::Publisher), plain);
        let answer = r#"{"id":"join","ok":{"channel":"x","joined":true,"epoch":"7f94","offset":9}}"#;
        let standing = Standing { epoch: "7f94", offset: 9, recovered: None, missed: 0 };
        assert_eq!((native.join_first("c", "s"), native.read(answer)), (None, Reply::Done(Some(standing))));
    }
}

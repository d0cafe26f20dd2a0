//! Fanfare's native protocol, `docs/PROTOCOL.md`.

use serde::Deserialize;

use super::{Driver, Echo, Need, Notice, Reply, Role, between};
use crate::plan::DriverPlan;

/// The driver: what its connections' path is made of, escaped.
pub(super) struct Native {
    app: String,
    key: String,
    echo: Echo,
}

/// Answers are few: they may cost a parse.
#[derive(Deserialize)]
struct Answer<'a> {
    ok: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    error: Option<Fault<'a>>,
    #[serde(borrow)]
    welcome: Option<Welcome<'a>>,
    gap: Option<Gap>,
}

#[derive(Deserialize)]
struct Fault<'a> {
    code: &'a str,
}

#[derive(Deserialize)]
struct Welcome<'a> {
    session: &'a str,
}

#[derive(Deserialize)]
struct Gap {
    missed: u64,
}

impl Native {
    pub(super) fn new(plan: &DriverPlan, echo: Echo) -> Self {
        Self { app: percent_encode(&plan.app), key: percent_encode(&plan.key), echo }
    }
}

impl Driver for Native {
    fn lacks(&self, _: Need) -> bool {
        false
    }

    fn path(&self, _: &str, _: Role) -> String {
        let echo = self.echo == Echo::On;
        format!("/v1/ws?app={}&key={}&echo={echo}", self.app, self.key)
    }

    fn join(&self, number: u32, channel: &str, _: &str) -> String {
        format!("{{\"type\":\"join\",\"id\":{number},\"channel\":\"{channel}\"}}")
    }

    fn leave(&self, number: u32, channel: &str) -> String {
        format!("{{\"type\":\"leave\",\"id\":{number},\"channel\":\"{channel}\"}}")
    }

    fn send_around(&self, channel: &str, _: u32) -> (String, String) {
        (format!("{{\"type\":\"send\",\"channel\":\"{channel}\",\"event\":\"m\",\"message\":"), "}".into())
    }

    fn broadcast_around(&self) -> (String, String) {
        ("{\"type\":\"broadcast\",\"event\":\"m\",\"message\":".into(), "}".into())
    }

    /// Read once for each delivery: in one pass.
    fn number(&self, behind: &[u8]) -> Option<u64> {
        let text = behind.strip_prefix(b",\"offset\":")?;
        let mut number = 0;
        for (at, byte) in text.iter().enumerate().take(19) {
            match byte.wrapping_sub(b'0') {
                digit @ 0..=9 => number = number * 10 + u64::from(digit),
                _ => return (at > 0 && text[at..] == *b"}").then_some(number),
            }
        }
        None
    }

    fn read<'a>(&'a self, item: &'a str) -> Reply<'a> {
        if item.starts_with("{\"channel\":") {
            return read_notice(item);
        }
        let Ok(answer) = serde_json::from_str::<Answer<'a>>(item) else { return Reply::Unknown };
        match answer {
            Answer { welcome: Some(welcome), .. } => Reply::Welcome { session: welcome.session },
            Answer { gap: Some(gap), .. } => Reply::Gap { missed: gap.missed },
            Answer { error: Some(error), .. } => Reply::Failed { code: error.code },
            Answer { ok: Some(_), .. } => Reply::Done,
            _ => Reply::Unknown,
        }
    }
}

/// Presence notices are many: they are read by their fixed parts.
fn read_notice(item: &str) -> Reply<'_> {
    let kind = match between(item, "\"event\":\"channel:", "\"") {
        Some("join") => Notice::Join,
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

    fn native(app: &str, key: &str) -> Native {
        let plan = DriverPlan { app: app.into(), key: key.into(), ..DriverPlan::default() };
        Native::new(&plan, Echo::Off)
    }

    #[test]
    fn texts_of_the_server_are_told_apart() {
        let native = native("default", "k");
        let read = |text| native.read(text);
        let welcome =
            r#"{"welcome":{"session":"AAAA","user":null,"app":"default","ping_interval_ms":25000}}"#;
        assert_eq!(read(welcome), Reply::Welcome { session: "AAAA" });
        assert_eq!(read(r#"{"id":7,"ok":{"channel":"c","joined":true}}"#), Reply::Done);
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
        assert_eq!(read(update), Reply::Other);
        for unknown in ["", "{}", "[]", r#"{"channel":"c","event":"m","message":"x"}"#] {
            assert_eq!(read(unknown), Reply::Unknown, "{unknown}");
        }
    }

    #[test]
    fn offset_is_read_behind_the_payload() {
        let native = native("default", "k");
        assert_eq!(native.number(b",\"offset\":1729}"), Some(1729));
        assert_eq!(native.number(b",\"offset\":999999999999999999}"), Some(999_999_999_999_999_999));
        let none = ["", "}", ",\"offset\":}", ",\"offset\":-1}", ",\"offset\":12", ",\"offset\":1,}"];
        for none in none.into_iter().chain([",\"offset\":1000000000000000000}", ",\"offset\":1}}"]) {
            assert_eq!(native.number(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn key_and_app_are_escaped_in_the_query() {
        let path = native("a b", "k+&=").path("c", Role::Member);
        assert_eq!(path, "/v1/ws?app=a%20b&key=k%2B%26%3D&echo=false");
    }
}

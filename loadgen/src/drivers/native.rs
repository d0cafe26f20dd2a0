//! Fanfare's native protocol, `docs/PROTOCOL.md`.

use memchr::memmem;
use serde::Deserialize;

use super::{Echo, Notice, Reply, Standing};

/// What connecting needs.
#[derive(Debug, Clone)]
pub(crate) struct Native {
    /// Name of the app.
    pub(crate) app: String,
    /// One of its keys.
    pub(crate) key: String,
}

/// Answers are few: they may cost a parse.
#[derive(Deserialize)]
struct Answer<'a> {
    id: Option<u32>,
    ok: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    error: Option<Fault<'a>>,
    #[serde(borrow)]
    welcome: Option<Welcome<'a>>,
    gap: Option<Gap>,
}

/// The answer to a join.
#[derive(Deserialize)]
struct Joined<'a> {
    #[serde(borrow)]
    ok: Position<'a>,
}

#[derive(Deserialize)]
struct Position<'a> {
    epoch: &'a str,
    offset: u64,
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
}

#[derive(Deserialize)]
struct Gap {
    missed: u64,
}

impl Native {
    pub(super) fn path(&self, echo: Echo) -> String {
        let echo = match echo {
            Echo::On => "true",
            Echo::Off => "false",
        };
        format!("/v1/ws?app={}&key={}&echo={echo}", percent_encode(&self.app), percent_encode(&self.key))
    }

    pub(super) fn join(&self, command: u32, channel: &str) -> String {
        format!("{{\"type\":\"join\",\"id\":{command},\"channel\":\"{channel}\"}}")
    }

    pub(super) fn join_since(&self, command: u32, channel: &str, epoch: &str, offset: u64) -> String {
        let since = format!("{{\"epoch\":\"{epoch}\",\"offset\":{offset}}}");
        format!("{{\"type\":\"join\",\"id\":{command},\"channel\":\"{channel}\",\"since\":{since}}}")
    }

    pub(super) fn standing<'a>(&self, answer: &'a str) -> Option<Standing<'a>> {
        let Joined { ok: Position { epoch, offset, recovered, missed } } =
            serde_json::from_str(answer).ok()?;
        Some(Standing { epoch, offset, recovered, missed: missed.unwrap_or_default() })
    }

    pub(super) fn leave(&self, command: u32, channel: &str) -> String {
        format!("{{\"type\":\"leave\",\"id\":{command},\"channel\":\"{channel}\"}}")
    }

    pub(super) fn send_around(&self, channel: &str) -> (String, &'static str) {
        (format!("{{\"type\":\"send\",\"channel\":\"{channel}\",\"event\":\"m\",\"message\":"), "}")
    }

    pub(super) fn broadcast_around(&self) -> (String, &'static str) {
        ("{\"type\":\"broadcast\",\"event\":\"m\",\"message\":".into(), "}")
    }

    #[inline]
    pub(super) fn number(&self, behind: &[u8]) -> Option<u64> {
        let digits = behind.strip_prefix(b",\"offset\":")?;
        // The message's id may follow.
        let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        let is_number = (1..19).contains(&end) && matches!(digits[end], b',' | b'}');
        is_number.then(|| digits[..end].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    pub(super) fn read<'a>(&self, text: &'a str) -> Reply<'a> {
        if text.starts_with("{\"channel\":") {
            return read_notice(text);
        }
        let Ok(answer) = serde_json::from_str::<Answer<'a>>(text) else { return Reply::Unknown };
        match answer {
            Answer { welcome: Some(welcome), .. } => Reply::Welcome { session: welcome.session },
            Answer { gap: Some(gap), .. } => Reply::Gap { missed: gap.missed },
            Answer { error: Some(error), id, .. } => Reply::Failed { command: id, code: error.code },
            Answer { ok: Some(_), id: Some(command), .. } => Reply::Done { command },
            _ => Reply::Unknown,
        }
    }
}

/// Presence notices are many: they are read by their fixed parts.
fn read_notice(text: &str) -> Reply<'_> {
    let Some((_, event)) = split_around(text, "\"event\":\"channel:") else { return Reply::Unknown };
    let kind = match event.as_bytes() {
        [b'j', ..] => Notice::Join,
        [b'l', ..] => Notice::Leave,
        _ => return Reply::Other,
    };
    let session = split_around(event, "\"id\":\"").and_then(|(_, id)| Some(id.split_once('"')?.0));
    session.map_or(Reply::Unknown, |session| Reply::Notice { kind, session })
}

fn split_around<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let at = memmem::find(text.as_bytes(), separator.as_bytes())?;
    Some((&text[..at], &text[at + separator.len()..]))
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

    fn read(text: &str) -> Reply<'_> {
        Native { app: "default".into(), key: "k".into() }.read(text)
    }

    #[test]
    fn texts_of_the_server_are_told_apart() {
        let welcome =
            r#"{"welcome":{"session":"AAAA","user":null,"app":"default","ping_interval_ms":25000}}"#;
        assert_eq!(read(welcome), Reply::Welcome { session: "AAAA" });
        assert_eq!(read(r#"{"id":7,"ok":{"channel":"c","joined":true}}"#), Reply::Done { command: 7 });
        let failed = r#"{"error":{"code":"overloaded","message":"try \"again\""}}"#;
        assert_eq!(read(failed), Reply::Failed { command: None, code: "overloaded" });
        let failed = r#"{"id":3,"error":{"code":"rate_limited","message":"slow"}}"#;
        assert_eq!(read(failed), Reply::Failed { command: Some(3), code: "rate_limited" });
        assert_eq!(read(r#"{"gap":{"channel":null,"missed":12}}"#), Reply::Gap { missed: 12 });
        let join = r#"{"channel":"c","event":"channel:join","message":{"id":"BBBB","user":"x"}}"#;
        assert_eq!(read(join), Reply::Notice { kind: Notice::Join, session: "BBBB" });
        let leave = r#"{"channel":"c","event":"channel:leave","message":{"id":"BBBB"}}"#;
        assert_eq!(read(leave), Reply::Notice { kind: Notice::Leave, session: "BBBB" });
        let update = r#"{"channel":"c","event":"channel:update","message":{"id":"BBBB"}}"#;
        assert_eq!(read(update), Reply::Other);
        for unknown in ["", "{}", "[]", r#"{"channel":"c","event":"m","message":"x"}"#, r#"{"ok":{}}"#] {
            assert_eq!(read(unknown), Reply::Unknown, "{unknown}");
        }
    }

    #[test]
    fn offset_is_read_behind_the_payload() {
        let native = Native { app: "default".into(), key: "k".into() };
        assert_eq!(native.number(b",\"offset\":1729}"), Some(1729));
        assert_eq!(native.number(b",\"offset\":17,\"id\":\"01a2-29\"}"), Some(17));
        for none in ["", "}", ",\"offset\":}", ",\"offset\":-1}", ",\"offset\":12"] {
            assert_eq!(native.number(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn answer_to_a_join_says_where_the_connection_stands() {
        let native = Native { app: "default".into(), key: "k".into() };
        let answer = r#"{"id":1,"ok":{"channel":"x","joined":true,"members":2,"epoch":"7f94","offset":9}}"#;
        let standing = Standing { epoch: "7f94", offset: 9, recovered: None, missed: 0 };
        assert_eq!(native.standing(answer), Some(standing));
        let answer = r#"{"id":1,"ok":{"epoch":"7f94","offset":9,"recovered":true,"missed":4}}"#;
        let recovered = Standing { recovered: Some(true), missed: 4, ..standing };
        assert_eq!(native.standing(answer), Some(recovered));
        assert_eq!(native.standing(r#"{"id":1,"ok":{"channel":"x","joined":true}}"#), None);
        let since = r#"{"type":"join","id":1,"channel":"x","since":{"epoch":"7f94","offset":9}}"#;
        assert_eq!(native.join_since(1, "x", "7f94", 9), since);
    }

    #[test]
    fn key_and_app_are_escaped_in_the_query() {
        let native = Native { app: "a b".into(), key: "k+&=".into() };
        assert_eq!(native.path(Echo::Off), "/v1/ws?app=a%20b&key=k%2B%26%3D&echo=false");
    }
}

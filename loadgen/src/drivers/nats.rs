//! NATS over WebSocket: the lines of its protocol in binary messages, which begin and end anywhere in them.

use super::{Driver, Echo, Framing, Need, Opened, Reply, Role};
use crate::{net::Access, plan::DriverPlan};

/// The driver.
pub(super) struct Nats {
    path: String,
    connect: String,
}

impl Nats {
    pub(super) fn new(plan: &DriverPlan, echo: Echo) -> Self {
        let mut options = serde_json::json!({
            "verbose": false, "pedantic": false, "echo": echo == Echo::On, "lang": "rust",
            "name": "fanfare-loadgen", "version": env!("CARGO_PKG_VERSION"),
        });
        if !plan.key.is_empty() {
            options["auth_token"] = plan.key.as_str().into();
        }
        Self {
            path: plan.path.clone().unwrap_or_else(|| "/".into()),
            connect: format!("CONNECT {options}\r\n"),
        }
    }
}

impl Driver for Nats {
    fn lacks(&self, need: Need) -> bool {
        matches!(need, Need::Broadcast | Need::Presence)
    }

    fn access(&self, _: &str, _: Role) -> Access {
        Access::web_socket(self.path.clone())
    }

    fn opened(&self) -> Opened<'_> {
        Opened::Greeting(&self.connect)
    }

    fn is_binary(&self) -> bool {
        true
    }

    fn framing(&self) -> Framing {
        Framing::Stream(first_item)
    }

    /// A subscription is not confirmed, but what follows it on the connection is answered after it.
    fn join(&self, number: u32, channel: &str, _: &str) -> String {
        format!("SUB {channel} {number}\r\nPING\r\n")
    }

    fn send_around(&self, channel: &str, payload: u32) -> (String, String) {
        (format!("PUB {channel} {payload}\r\n"), "\r\n".into())
    }

    fn read<'a>(&'a self, item: &'a str) -> Reply<'a> {
        match item.trim_end() {
            "PING" => Reply::Prompt { answer: "PONG\r\n" },
            "PONG" => Reply::Done(None),
            "+OK" => Reply::Other,
            info if info.starts_with("INFO ") => Reply::welcome(""),
            error if error.starts_with("-ERR ") => Reply::Failed { code: error[5..].trim_matches('\'') },
            _ => Reply::Unknown,
        }
    }
}

/// Bytes of a line, and of the payload behind it if it announces one.
fn first_item(bytes: &[u8]) -> Option<usize> {
    let line = memchr::memchr(b'\n', bytes)? + 1;
    if !bytes.starts_with(b"MSG ") {
        return Some(line);
    }
    let size = bytes[..line].trim_ascii_end().rsplit(|byte| *byte == b' ').next()?;
    // A size that is none leaves a line that means nothing.
    let Some(size) = std::str::from_utf8(size).ok().and_then(|size| size.parse::<usize>().ok()) else {
        return Some(line);
    };
    let end = line.checked_add(size)?.checked_add("\r\n".len())?;
    (end <= bytes.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nats(key: &str) -> Nats {
        Nats::new(&DriverPlan { key: key.into(), ..DriverPlan::default() }, Echo::Off)
    }

    #[test]
    fn lines_of_the_server_are_told_apart() {
        let nats = nats("");
        let read = |text| nats.read(text);
        assert_eq!(read("INFO {\"server_id\":\"N\"} \r\n"), Reply::welcome(""));
        assert_eq!(read("PING\r\n"), Reply::Prompt { answer: "PONG\r\n" });
        assert_eq!(read("PONG\r\n"), Reply::Done(None));
        assert_eq!(read("+OK\r\n"), Reply::Other);
        let error = "-ERR 'Authorization Violation'\r\n";
        assert_eq!(read(error), Reply::Failed { code: "Authorization Violation" });
        for unknown in ["\r\n", "MSG c0 1 3\r\nabc\r\n", "MSG c0 1 x\r\n", "PINGPONG\r\n"] {
            assert_eq!(read(unknown), Reply::Unknown, "{unknown}");
        }
    }

    #[test]
    fn stream_is_cut_behind_lines_and_payloads() {
        let stream = b"PONG\r\nMSG c0 1 5\r\nab\r\nc\r\nMSG c0 1 _R 0\r\n\r\nPING\r\n";
        let mut rest = &stream[..];
        let mut items = Vec::new();
        while let Some(len) = first_item(rest) {
            let (item, behind) = rest.split_at(len);
            items.push(std::str::from_utf8(item).expect("text"));
            rest = behind;
        }
        let expected = ["PONG\r\n", "MSG c0 1 5\r\nab\r\nc\r\n", "MSG c0 1 _R 0\r\n\r\n", "PING\r\n"];
        assert_eq!((items.as_slice(), rest), (&expected[..], &b""[..]));
        let message = &stream[6..25];
        assert_eq!(first_item(message), Some(message.len()));
        for len in 0..message.len() {
            assert_eq!(first_item(&message[..len]), None, "{len} bytes are no whole item");
        }
        assert_eq!(first_item(b"MSG c0 1 18446744073709551615\r\n"), None);
        assert_eq!(first_item(b"MSG c0 1 x\r\nPING\r\n"), Some(12));
    }

    #[test]
    fn commands_are_lines() {
        assert_eq!(nats("").join(1, "c0", ""), "SUB c0 1\r\nPING\r\n");
        let (before, behind) = nats("").send_around("c0", 64);
        assert_eq!((before.as_str(), behind.as_str()), ("PUB c0 64\r\n", "\r\n"));
        let with_token = nats("a\"b");
        let Opened::Greeting(connect) = with_token.opened() else { panic!("the client greets") };
        assert!(
            connect.contains(r#""auth_token":"a\"b""#) && connect.contains(r#""echo":false"#),
            "{connect}"
        );
        assert!(connect.starts_with("CONNECT {") && connect.ends_with("}\r\n"));
    }
}

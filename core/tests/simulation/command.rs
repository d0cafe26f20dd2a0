//! Commands as a client would write them.

use std::fmt::Write as _;
use std::sync::OnceLock;

use super::{checker::Peer, random::Random};

/// Signs and verifies the simulation's session tokens.
pub(crate) const SECRET: &[u8] = b"a secret of more than 32 bytes in all";

/// One command. `echo` is `None` for absent or null.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Join { channel: usize, echo: Option<bool> },
    Leave { channel: usize, echo: Option<bool> },
    Send { channel: usize, number: u32, echo: Option<bool>, binary: bool },
    Broadcast { number: u32, echo: Option<bool>, binary: bool },
    Update { profile: u32, echo: Option<bool> },
    Members { channel: usize, limit: usize, after: Option<String> },
    Session { valid: bool },
    Ping,
    Wrong { text: &'static str, code: &'static str },
}

/// Commands that are refused, and the code.
pub(crate) const WRONG: &[(&str, &str)] = &[
    (r#""type":"join","channel":"""#, "invalid_channel"),
    (r#""type":"send","channel":"c0","event":"channel:join""#, "reserved_event"),
    (r#""type":"send","channel":"c0""#, "invalid_command"),
    (r#""type":"fly""#, "unknown_command"),
    (r#""type":"members","channel":"c0","after":"x""#, "invalid_cursor"),
    (r#""type":"members","channel":"c0","after":"127.1""#, "invalid_cursor"),
];

impl Command {
    /// The members of the command object, without `id`.
    pub(crate) fn write(&self, app: u32, sender: Peer, random: &mut Random) -> String {
        let mut text = String::new();
        let payload = |number: u32| payload(app, sender, number);
        let written = match self {
            Self::Join { channel, .. } => write!(text, r#""type":"join","channel":"c{channel}""#),
            Self::Leave { channel, .. } => write!(text, r#""type":"leave","channel":"c{channel}""#),
            Self::Send { channel, .. } => write!(text, r#""type":"send","channel":"c{channel}","event":"e""#),
            Self::Broadcast { .. } => write!(text, r#""type":"broadcast","event":"e""#),
            Self::Update { profile, .. } => write!(text, r#""type":"update","profile":{profile}"#),
            Self::Members { channel, limit, after } => {
                let after = after.as_ref().map(|after| format!(r#","after":"{after}""#)).unwrap_or_default();
                write!(text, r#""type":"members","channel":"c{channel}","limit":{limit}{after}"#)
            }
            Self::Session { valid: true } => write!(text, r#""type":"session","token":"{}""#, token()),
            Self::Session { valid: false } => write!(text, r#""type":"session","token":"no""#),
            Self::Ping => write!(text, r#""type":"ping""#),
            Self::Wrong { text: wrong, .. } => write!(text, "{wrong}"),
        };
        written.expect("a string takes everything");
        match self.echo() {
            Some(echo) => text.push_str(if echo { r#","echo":true"# } else { r#","echo":false"# }),
            None if random.chance(20) => text.push_str(r#","echo":null"#),
            None => {}
        }
        if let Self::Send { number, binary: false, .. } | Self::Broadcast { number, binary: false, .. } = self
        {
            let message = format!(r#","message":{}"#, payload(*number));
            // At the end, publications of one sender begin alike.
            let at = if random.chance(80) { text.len() } else { 0 };
            text.insert_str(at, if at > 0 { &message } else { &message[1..] });
            if at == 0 {
                text.insert(message.len() - 1, ',');
            }
        }
        text
    }

    /// The packet of the command in Agnost's dialect. A command that the dialect lacks is a heartbeat.
    pub(crate) fn write_packet(&self, app: u32, sender: Peer) -> String {
        let echo = self.echo().map(|echo| format!(r#""echo":{echo},"#)).unwrap_or_default();
        let message = |channel: &str, number: u32, binary: bool| {
            let (kind, message) = match binary {
                true => ("51-", String::from(r#"{"_placeholder":true,"num":0}"#)),
                false => ("2", payload(app, sender, number)),
            };
            format!(r#"4{kind}["message",{{{echo}{channel}"eventName":"e","message":{message}}}]"#)
        };
        match self {
            Self::Join { channel, .. } => format!(r#"42["join",{{{echo}"channel":"c{channel}"}}]"#),
            Self::Leave { channel, .. } => format!(r#"42["leave",{{{echo}"channel":"c{channel}"}}]"#),
            Self::Update { profile, .. } => format!(r#"42["update",{{{echo}"data":{profile}}}]"#),
            Self::Send { channel, number, binary, .. } => {
                message(&format!(r#""channel":"c{channel}","#), *number, *binary)
            }
            Self::Broadcast { number, binary, .. } => message("", *number, *binary),
            Self::Members { .. } | Self::Session { .. } | Self::Ping => "3".into(),
            Self::Wrong { .. } => r#"42["fly",{}]"#.into(),
        }
    }

    /// What it says about echo.
    pub(crate) fn echo(&self) -> Option<bool> {
        match *self {
            Self::Join { echo, .. }
            | Self::Leave { echo, .. }
            | Self::Send { echo, .. }
            | Self::Broadcast { echo, .. }
            | Self::Update { echo, .. } => echo,
            _ => None,
        }
    }

    /// The payload, if it travels in a binary frame.
    pub(crate) fn binary(&self, app: u32, sender: Peer) -> Option<String> {
        match *self {
            Self::Send { number, binary: true, .. } | Self::Broadcast { number, binary: true, .. } => {
                Some(payload(app, sender, number))
            }
            _ => None,
        }
    }
}

/// Says who sent what, and in which app.
pub(crate) fn payload(app: u32, sender: Peer, number: u32) -> String {
    format!(r#"{{"app":{app},"sender":{sender},"number":{number}}}"#)
}

/// A token of the user `u`, without end.
fn token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| {
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
        let claims = serde_json::json!({"sub": "u"});
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("it encodes")
    })
}

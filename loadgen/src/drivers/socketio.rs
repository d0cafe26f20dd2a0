//! Socket.IO 5 over Engine.IO 4, WebSocket only, with Agnost's events: `join`, `leave` and `message` to the
//! server; `channel:join`, `channel:leave` and the message's own name from it. Commands are not acknowledged:
//! a member learns from the notice about itself that it joined.

use super::{Driver, Echo, Need, Notice, Reply, Role, between};
use crate::plan::DriverPlan;

/// The driver.
pub(super) struct SocketIo {
    path: String,
    /// The CONNECT packet.
    connect: String,
}

impl SocketIo {
    pub(super) fn new(plan: &DriverPlan, echo: Echo) -> Self {
        let path = plan.path.as_deref().unwrap_or("/socket.io/");
        let auth = serde_json::json!({
            "envId": plan.app, "apiKey": plan.key, "echoMessages": echo == Echo::On,
        });
        Self { path: format!("{path}?EIO=4&transport=websocket"), connect: format!("40{auth}") }
    }
}

impl Driver for SocketIo {
    fn lacks(&self, need: Need) -> bool {
        matches!(need, Need::Profiles | Need::Members)
    }

    fn path(&self, _: &str, _: Role) -> String {
        self.path.clone()
    }

    fn answers_by_notice(&self) -> bool {
        true
    }

    fn join(&self, _: u32, channel: &str, _: &str) -> String {
        format!("42[\"join\",{{\"channel\":\"{channel}\",\"echo\":true}}]")
    }

    fn leave(&self, _: u32, channel: &str) -> String {
        format!("42[\"leave\",{{\"channel\":\"{channel}\",\"echo\":true}}]")
    }

    fn send_around(&self, channel: &str, _: u32) -> (String, String) {
        let before = format!("42[\"message\",{{\"channel\":\"{channel}\",\"eventName\":\"m\",\"message\":");
        (before, "}]".into())
    }

    fn broadcast_around(&self) -> (String, String) {
        ("42[\"message\",{\"eventName\":\"m\",\"message\":".into(), "}]".into())
    }

    fn read<'a>(&'a self, item: &'a str) -> Reply<'a> {
        let (kind, packet) = item.split_at_checked(1).unwrap_or_default();
        match (kind, packet) {
            ("0", _) => Reply::Prompt { answer: &self.connect },
            ("2", "") => Reply::Prompt { answer: "3" },
            ("4", _) => read_packet(packet),
            ("6", "") => Reply::Other,
            _ => Reply::Unknown,
        }
    }
}

/// A Socket.IO packet of the namespace `/`.
fn read_packet(packet: &str) -> Reply<'_> {
    let (kind, content) = packet.split_at_checked(1).unwrap_or_default();
    match kind {
        "0" => match between(content, "\"sid\":\"", "\"") {
            Some(session) => Reply::Welcome { session },
            None => Reply::Unknown,
        },
        "1" => Reply::Failed { code: "the server disconnected the namespace" },
        "2" => read_event(content),
        "4" => Reply::Failed { code: between(content, "\"message\":\"", "\"").unwrap_or(content) },
        _ => Reply::Unknown,
    }
}

fn read_event(event: &str) -> Reply<'_> {
    let Some(name) = event.strip_prefix("[\"channel:") else { return Reply::Unknown };
    let kind = match name.split('"').next() {
        Some("join") => Notice::Join,
        Some("leave") => Notice::Leave,
        _ => return Reply::Other,
    };
    between(name, "\"id\":\"", "\"").map_or(Reply::Unknown, |session| Reply::Notice { kind, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socketio() -> SocketIo {
        let plan = DriverPlan { app: "env-1".into(), key: "\"k\"".into(), ..DriverPlan::default() };
        SocketIo::new(&plan, Echo::Off)
    }

    #[test]
    fn packets_of_the_server_are_told_apart() {
        let socketio = socketio();
        let read = |text| socketio.read(text);
        let connect = r#"40{"apiKey":"\"k\"","echoMessages":false,"envId":"env-1"}"#;
        let open = r#"0{"sid":"e","upgrades":[],"pingInterval":10000,"pingTimeout":30000}"#;
        assert_eq!(read(open), Reply::Prompt { answer: connect });
        assert_eq!(read("2"), Reply::Prompt { answer: "3" });
        assert_eq!(read(r#"40{"sid":"Xy_-12"}"#), Reply::Welcome { session: "Xy_-12" });
        let join = r#"42["channel:join",{"channel":"c0","message":{"id":"Xy_-12"}}]"#;
        assert_eq!(read(join), Reply::Notice { kind: Notice::Join, session: "Xy_-12" });
        let leave = r#"42["channel:leave",{"channel":"c0","message":{"id":"B","data":{"a":1}}}]"#;
        assert_eq!(read(leave), Reply::Notice { kind: Notice::Leave, session: "B" });
        assert_eq!(read(r#"42["channel:update",{"channel":"c0","message":{"id":"B"}}]"#), Reply::Other);
        let refused = r#"44{"message":"Realtime Connection Error - Invalid API Key","data":{}}"#;
        assert_eq!(read(refused), Reply::Failed { code: "Realtime Connection Error - Invalid API Key" });
        assert!(matches!(read("41"), Reply::Failed { .. }));
        for unknown in ["", "4", "2probe", "40", "42[\"m\",{\"channel\":\"c0\"}]", "9", "é"] {
            assert_eq!(read(unknown), Reply::Unknown, "{unknown}");
        }
    }

    #[test]
    fn commands_are_agnosts_events() {
        let socketio = socketio();
        assert_eq!(socketio.path("c0", Role::Member), "/socket.io/?EIO=4&transport=websocket");
        assert_eq!(socketio.join(1, "c0", "s"), r#"42["join",{"channel":"c0","echo":true}]"#);
        assert_eq!(socketio.leave(1, "c0"), r#"42["leave",{"channel":"c0","echo":true}]"#);
        let (before, behind) = socketio.send_around("c0", 64);
        assert_eq!(before + "1" + &behind, r#"42["message",{"channel":"c0","eventName":"m","message":1}]"#);
        let (before, behind) = socketio.broadcast_around();
        assert_eq!(before + "1" + &behind, r#"42["message",{"eventName":"m","message":1}]"#);
    }
}

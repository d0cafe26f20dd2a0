//! Socket.IO 5 over Engine.IO 4 with Agnost's events: `join`, `leave`, `update` and `message` to the server;
//! `channel:join`, `channel:leave`, `channel:update` and the message's own name from it. Commands are not
//! acknowledged: a member learns from the notice about itself that it joined. Servers that imitate this for
//! measurements (`socketio`) have no `update`.

use std::sync::Arc;

use super::{Driver, Echo, Need, Notice, Reply, Role, between, polling::Polling};
use crate::{
    net::{Access, Exchange},
    plan::DriverPlan,
};

/// The driver.
pub(super) struct SocketIo {
    path: String,
    /// The CONNECT packet.
    connect: String,
    /// Requests of members, if they poll.
    polling: Option<Arc<Polling>>,
    has_profiles: bool,
}

impl SocketIo {
    pub(super) fn new(plan: &DriverPlan, echo: Echo) -> Self {
        let is_agnost = plan.name == "agnost";
        let path = plan.path.as_deref().unwrap_or(if is_agnost { "/realtime/" } else { "/socket.io/" });
        let auth = serde_json::json!({
            "envId": plan.app, "apiKey": plan.key, "echoMessages": echo == Echo::On,
        });
        Self {
            path: format!("{path}?EIO=4&transport=websocket"),
            connect: format!("40{auth}"),
            polling: plan.polling.then(|| Arc::new(Polling::new(path))),
            has_profiles: is_agnost,
        }
    }
}

impl Driver for SocketIo {
    fn lacks(&self, need: Need) -> bool {
        match need {
            Need::Profiles => !self.has_profiles,
            Need::PublishingMembers => self.polling.is_some(),
            _ => need == Need::Members,
        }
    }

    fn access(&self, _: &str, role: Role) -> Access {
        match (&self.polling, role) {
            (Some(polling), Role::Member | Role::Watcher | Role::Guest) => {
                Access::Http(Arc::clone(polling) as Arc<dyn Exchange>)
            }
            _ => Access::web_socket(self.path.clone()),
        }
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

    fn update(&self, _: u32, profile: u32) -> String {
        format!("42[\"update\",{{\"data\":{profile},\"echo\":true}}]")
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
            ("4", _) => self.read_packet(packet),
            ("6", "") => Reply::Other,
            _ => Reply::Unknown,
        }
    }
}

impl SocketIo {
    /// A Socket.IO packet of the namespace `/`.
    fn read_packet<'a>(&self, packet: &'a str) -> Reply<'a> {
        let (kind, content) = packet.split_at_checked(1).unwrap_or_default();
        match kind {
            "0" => match between(content, "\"sid\":\"", "\"") {
                Some(session) => Reply::welcome(session),
                None => Reply::Unknown,
            },
            "1" => Reply::Failed { code: "the server disconnected the namespace" },
            "2" => self.read_event(content),
            "4" => Reply::Failed { code: between(content, "\"message\":\"", "\"").unwrap_or(content) },
            _ => Reply::Unknown,
        }
    }

    fn read_event<'a>(&self, event: &'a str) -> Reply<'a> {
        let Some(name) = event.strip_prefix("[\"channel:") else { return Reply::Unknown };
        let kind = match name.split('"').next() {
            Some("join") => Notice::Join,
            Some("leave") => Notice::Leave,
            Some("update") if self.has_profiles => Notice::Update,
            _ => return Reply::Other,
        };
        between(name, "\"id\":\"", "\"").map_or(Reply::Unknown, |session| Reply::Notice { kind, session })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::path;

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
        assert_eq!(read(r#"40{"sid":"Xy_-12"}"#), Reply::welcome("Xy_-12"));
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
    fn agnost_has_profiles_and_a_path_of_its_own() {
        let plan = DriverPlan { name: "agnost".into(), polling: true, ..DriverPlan::default() };
        let agnost = SocketIo::new(&plan, Echo::Off);
        assert_eq!(path(&agnost, "c", Role::Publisher), "/realtime/?EIO=4&transport=websocket");
        assert!(matches!(agnost.access("c", Role::Member), Access::Http(_)));
        assert_eq!(agnost.update(1, 7), r#"42["update",{"data":7,"echo":true}]"#);
        let update = r#"42["channel:update",{"channel":"c","message":{"id":"B","data":7}}]"#;
        assert_eq!(agnost.read(update), Reply::Notice { kind: Notice::Update, session: "B" });
        assert!(agnost.lacks(Need::PublishingMembers) && !agnost.lacks(Need::Profiles));
    }

    #[test]
    fn commands_are_agnosts_events() {
        let socketio = socketio();
        assert_eq!(path(&socketio, "c0", Role::Member), "/socket.io/?EIO=4&transport=websocket");
        assert_eq!(socketio.join(1, "c0", "s"), r#"42["join",{"channel":"c0","echo":true}]"#);
        assert_eq!(socketio.leave(1, "c0"), r#"42["leave",{"channel":"c0","echo":true}]"#);
        let (before, behind) = socketio.send_around("c0", 64);
        assert_eq!(before + "1" + &behind, r#"42["message",{"channel":"c0","eventName":"m","message":1}]"#);
        let (before, behind) = socketio.broadcast_around();
        assert_eq!(before + "1" + &behind, r#"42["message",{"eventName":"m","message":1}]"#);
    }
}

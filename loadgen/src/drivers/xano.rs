//! Xano's first realtime protocol: actions in JSON. Clients are anonymous, only members may send, and a
//! sender receives its own messages.

use super::{Driver, Echo, Need, Notice, Opened, Reply, Role, between};
use crate::{net::Access, plan::DriverPlan};

/// The driver.
pub(super) struct Xano {
    path: String,
}

impl Xano {
    pub(super) fn new(plan: &DriverPlan) -> Self {
        Self { path: plan.path.clone().unwrap_or_else(|| format!("/rt/{}", plan.app)) }
    }
}

impl Driver for Xano {
    fn lacks(&self, need: Need) -> bool {
        matches!(
            need,
            Need::Broadcast | Need::Profiles | Need::Members | Need::Outsiders | Need::Echo(Echo::Off)
        )
    }

    fn access(&self, _: &str, _: Role) -> Access {
        Access::web_socket(self.path.clone())
    }

    fn opened(&self) -> Opened<'_> {
        Opened::Ready
    }

    fn join(&self, _: u32, channel: &str, _: &str) -> String {
        format!("{{\"action\":\"join\",\"options\":{{\"channel\":\"{channel}\"}},\"payload\":{{}}}}")
    }

    fn watch_first(&self, channel: &str, _: &str) -> Option<String> {
        let options = format!("{{\"channel\":\"{channel}\"}}");
        Some(format!("{{\"action\":\"join\",\"options\":{options},\"payload\":{{\"presence\":true}}}}"))
    }

    fn tells_roster(&self) -> bool {
        true
    }

    fn names<'a>(&self, roster: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        Box::new(roster.split(NAME).skip(1).filter_map(|rest| rest.split('"').next()))
    }

    fn leave(&self, _: u32, channel: &str) -> String {
        format!("{{\"action\":\"leave\",\"options\":{{\"channel\":\"{channel}\"}},\"payload\":{{}}}}")
    }

    fn send_around(&self, channel: &str, _: u32) -> (String, String) {
        let before =
            format!("{{\"action\":\"message\",\"options\":{{\"channel\":\"{channel}\"}},\"payload\":");
        (before, "}".into())
    }

    fn read<'a>(&'a self, item: &'a str) -> Reply<'a> {
        match between(item, "\"action\":\"", "\"") {
            Some("join" | "leave") => Reply::Done(None),
            Some("error") => Reply::Failed { code: between(item, "\"message\":\"", "\"").unwrap_or(item) },
            Some("connection_status" | "history" | "event") => Reply::Other,
            Some("presence_full") => Reply::Roster { text: item },
            Some("presence_update") => read_notice(item),
            _ => Reply::Unknown,
        }
    }
}

/// What a text says of who joins or leaves, in [`Reply::Roster`] for each that is there.
const NAME: &str = "\"socketId\":\"";

fn read_notice(item: &str) -> Reply<'_> {
    let kind = match between(item, "\"payload\":{\"action\":\"", "\"") {
        Some("join") => Notice::Join,
        Some("leave") => Notice::Leave,
        _ => return Reply::Unknown,
    };
    let whose = item.split_once("\"presence\":").and_then(|(_, rest)| between(rest, NAME, "\""));
    whose.map_or(Reply::Unknown, |session| Reply::Notice { kind, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_of_the_server_are_told_apart() {
        let xano = Xano::new(&DriverPlan { app: "canon".into(), ..DriverPlan::default() });
        assert_eq!(crate::drivers::path(&xano, "c", Role::Member), "/rt/canon");
        let join = r#"{"action":"join","client":null,"options":{"channel":"c"},"payload":null}"#;
        assert_eq!(xano.read(join), Reply::Done(None));
        let error =
            r#"{"action":"error","client":null,"options":{"channel":"c"},"payload":{"message":"No."}}"#;
        assert_eq!(xano.read(error), Reply::Failed { code: "No." });
        let left = concat!(
            r#"{"action":"presence_update","client":null,"options":{"channel":"c"},"#,
            r#""payload":{"action":"leave","presence":{"socketId":"AB","extras":{}}}}"#
        );
        assert_eq!(xano.read(left), Reply::Notice { kind: Notice::Leave, session: "AB" });
        let all =
            r#"{"action":"presence_full","payload":{"presence":[{"socketId":"AB"},{"socketId":"CD"}]}}"#;
        assert_eq!(xano.read(all), Reply::Roster { text: all });
        assert_eq!(xano.names(all).collect::<Vec<_>>(), ["AB", "CD"]);
        for unknown in ["", "{}", r#"{"action":"message","payload":"x"}"#] {
            assert_eq!(xano.read(unknown), Reply::Unknown, "{unknown}");
        }
    }

    #[test]
    fn commands_are_actions() {
        let xano = Xano::new(&DriverPlan::default());
        assert_eq!(xano.join(1, "c", ""), r#"{"action":"join","options":{"channel":"c"},"payload":{}}"#);
        let (before, behind) = xano.send_around("c", 64);
        let message = r#"{"action":"message","options":{"channel":"c"},"payload":1}"#;
        assert_eq!(before + "1" + &behind, message);
    }
}

//! Xano's first realtime protocol: actions in JSON. Clients are anonymous, only members may send, and a
//! sender receives its own messages.

use super::{Driver, Echo, Need, Opened, Reply, Role, between};
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
        matches!(need, Need::Broadcast | Need::Presence | Need::Outsiders | Need::Echo(Echo::Off))
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
            Some(action) if action.starts_with("presence") => Reply::Other,
            _ => Reply::Unknown,
        }
    }
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

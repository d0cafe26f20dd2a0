//! Centrifugo's JSON protocol: a message holds replies and pushes, one a line.

use serde::{Deserialize, de::IgnoredAny};

use super::{Driver, Echo, Framing, Need, Opened, Reply, Role};
use crate::{net::Access, plan::DriverPlan};

/// The driver.
pub(super) struct Centrifugo {
    path: String,
    connect: String,
}

/// Answers to commands.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    error: Option<Fault<'a>>,
    #[serde(borrow)]
    connect: Option<Connected<'a>>,
    subscribe: Option<IgnoredAny>,
    push: Option<Push>,
}

#[derive(Deserialize)]
struct Fault<'a> {
    message: &'a str,
}

#[derive(Deserialize)]
struct Connected<'a> {
    client: &'a str,
}

#[derive(Deserialize)]
struct Push {
    #[serde(rename = "pub")]
    publication: Option<IgnoredAny>,
}

/// The answer to a publication that succeeded.
const PUBLISHED: &str = "{\"id\":3,\"publish\":{}}";

impl Centrifugo {
    pub(super) fn new(plan: &DriverPlan) -> Self {
        let mut connect = serde_json::json!({ "name": "fanfare-loadgen" });
        if !plan.key.is_empty() {
            connect["token"] = plan.key.as_str().into();
        }
        Self {
            path: plan.path.clone().unwrap_or_else(|| "/connection/websocket".into()),
            connect: format!("{{\"id\":1,\"connect\":{connect}}}"),
        }
    }
}

impl Driver for Centrifugo {
    fn lacks(&self, need: Need) -> bool {
        matches!(need, Need::Broadcast | Need::Presence | Need::Echo(Echo::Off))
    }

    fn access(&self, _: &str, _: Role) -> Access {
        Access::web_socket(self.path.clone())
    }

    fn opened(&self) -> Opened<'_> {
        Opened::Greeting(&self.connect)
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn join(&self, _: u32, channel: &str, _: &str) -> String {
        format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}")
    }

    fn send_around(&self, channel: &str, _: u32) -> (String, String) {
        (format!("{{\"id\":3,\"publish\":{{\"channel\":\"{channel}\",\"data\":"), "}}".into())
    }

    fn read<'a>(&'a self, item: &'a str) -> Reply<'a> {
        match item {
            "{}" => return Reply::Prompt { answer: "{}" },
            PUBLISHED => return Reply::Other,
            _ => {}
        }
        let Ok(answer) = serde_json::from_str::<Answer<'a>>(item) else { return Reply::Unknown };
        match answer {
            Answer { error: Some(error), .. } => Reply::Failed { code: error.message },
            Answer { connect: Some(connected), .. } => Reply::welcome(connected.client),
            Answer { subscribe: Some(_), .. } => Reply::Done(None),
            Answer { push: Some(Push { publication: None }), .. } => Reply::Other,
            _ => Reply::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_server_are_told_apart() {
        let centrifugo = Centrifugo::new(&DriverPlan::default());
        let read = |text| centrifugo.read(text);
        let connected = r#"{"id":1,"connect":{"client":"a-b","version":"5.4.9","ping":25,"pong":true}}"#;
        assert_eq!(read(connected), Reply::welcome("a-b"));
        assert_eq!(read(r#"{"id":2,"subscribe":{}}"#), Reply::Done(None));
        assert_eq!(read("{}"), Reply::Prompt { answer: "{}" });
        assert_eq!(read(r#"{"id":3,"publish":{}}"#), Reply::Other);
        assert_eq!(read(r#"{"push":{"channel":"c","join":{"info":{}}}}"#), Reply::Other);
        let failed = r#"{"id":3,"error":{"code":103,"message":"permission denied"}}"#;
        assert_eq!(read(failed), Reply::Failed { code: "permission denied" });
        for unknown in ["", "[]", r#"{"push":{"channel":"c","pub":{"data":"x"}}}"#, r#"{"id":9}"#] {
            assert_eq!(read(unknown), Reply::Unknown, "{unknown}");
        }
    }

    #[test]
    fn commands_carry_numbers() {
        let centrifugo = Centrifugo::new(&DriverPlan { key: "jwt".into(), ..DriverPlan::default() });
        let connect = r#"{"id":1,"connect":{"name":"fanfare-loadgen","token":"jwt"}}"#;
        assert_eq!(centrifugo.opened(), Opened::Greeting(connect));
        assert_eq!(centrifugo.join(1, "c", ""), r#"{"id":2,"subscribe":{"channel":"c"}}"#);
        let (before, behind) = centrifugo.send_around("c", 64);
        assert_eq!(before + "1" + &behind, r#"{"id":3,"publish":{"channel":"c","data":1}}"#);
    }
}

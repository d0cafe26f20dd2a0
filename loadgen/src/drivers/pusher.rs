//! The Pusher protocol, version 7 (Sockudo, Soketi): client events on private channels, which a connection
//! joins with a signature of the app's secret. Only members may send, and do not hear themselves.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{Driver, Echo, Need, Reply, Role, between};
use crate::{net::Access, plan::DriverPlan};

const PONG: &str = "{\"event\":\"pusher:pong\",\"data\":{}}";

/// The driver.
pub(super) struct Pusher {
    key: String,
    /// Keyed with the app's secret.
    signer: Hmac<Sha256>,
}

impl Pusher {
    pub(super) fn new(plan: &DriverPlan) -> Result<Self, String> {
        let signer = Hmac::new_from_slice(plan.secret.as_bytes()).ok();
        let signer = signer.filter(|_| !plan.key.is_empty() && !plan.secret.is_empty());
        let signer = signer.ok_or("The driver pusher needs the app's --key and --secret.")?;
        Ok(Self { key: plan.key.clone(), signer })
    }

    fn sign(&self, text: &str) -> String {
        let signature = self.signer.clone().chain_update(text).finalize().into_bytes();
        signature.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Driver for Pusher {
    fn lacks(&self, need: Need) -> bool {
        matches!(need, Need::Broadcast | Need::Presence | Need::Outsiders | Need::Echo(Echo::On))
    }

    fn access(&self, _: &str, _: Role) -> Access {
        let version = env!("CARGO_PKG_VERSION");
        Access::web_socket(format!("/app/{}?protocol=7&client=fanfare-loadgen&version={version}", self.key))
    }

    fn join(&self, _: u32, channel: &str, session: &str) -> String {
        let signature = self.sign(&format!("{session}:private-{channel}"));
        let key = &self.key;
        format!(
            "{{\"event\":\"pusher:subscribe\",\"data\":{{\"channel\":\"private-{channel}\",\
             \"auth\":\"{key}:{signature}\"}}}}"
        )
    }

    fn send_around(&self, channel: &str, _: u32) -> (String, String) {
        (format!("{{\"event\":\"client-m\",\"channel\":\"private-{channel}\",\"data\":"), "}".into())
    }

    fn read<'a>(&'a self, item: &'a str) -> Reply<'a> {
        match between(item, "\"event\":\"", "\"") {
            // The data is JSON within a string, its quotes escaped; some servers leave it as it is.
            Some("pusher:connection_established") => {
                let escaped = between(item, "\\\"socket_id\\\":\\\"", "\\\"");
                let session = escaped.or_else(|| between(item, "\"socket_id\":\"", "\""));
                session.map_or(Reply::Unknown, Reply::welcome)
            }
            Some("pusher_internal:subscription_succeeded") => Reply::Done(None),
            Some("pusher:ping") => Reply::Prompt { answer: PONG },
            Some("pusher:error" | "pusher:subscription_error") => Reply::Failed { code: item },
            Some(event) if event.starts_with("pusher") => Reply::Other,
            _ => Reply::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pusher() -> Pusher {
        let (key, secret) = ("278d425bdf160c739803".into(), "7ad3773142a6692b25b8".into());
        Pusher::new(&DriverPlan { key, secret, ..DriverPlan::default() }).expect("valid")
    }

    #[test]
    fn events_of_the_server_are_told_apart() {
        let pusher = pusher();
        let read = |text| pusher.read(text);
        let established = concat!(
            r#"{"event":"pusher:connection_established","#,
            r#""data":"{\"socket_id\":\"1.2\",\"activity_timeout\":120}"}"#
        );
        assert_eq!(read(established), Reply::welcome("1.2"));
        let established = r#"{"event":"pusher:connection_established","data":{"socket_id":"1.2"}}"#;
        assert_eq!(read(established), Reply::welcome("1.2"));
        let succeeded =
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"private-c","data":"{}"}"#;
        assert_eq!(read(succeeded), Reply::Done(None));
        assert_eq!(read(r#"{"event":"pusher:ping","data":{}}"#), Reply::Prompt { answer: PONG });
        let failed = r#"{"event":"pusher:error","data":{"code":4009,"message":"no"}}"#;
        assert_eq!(read(failed), Reply::Failed { code: failed });
        for unknown in ["", "{}", r#"{"event":"client-m","channel":"private-c","data":"x"}"#] {
            assert_eq!(read(unknown), Reply::Unknown, "{unknown}");
        }
    }

    /// The example of Pusher's documentation.
    #[test]
    fn joins_are_signed() {
        let join = pusher().join(1, "foobar", "1234.1234");
        let auth = "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4";
        let expected = format!(
            r#"{{"event":"pusher:subscribe","data":{{"channel":"private-foobar","auth":"{auth}"}}}}"#
        );
        assert_eq!(join, expected);
        assert!(Pusher::new(&DriverPlan::default()).is_err_and(|why| why.ends_with('.')));
    }

    #[test]
    fn messages_are_client_events() {
        let (before, behind) = pusher().send_around("c", 64);
        assert_eq!(before + "1" + &behind, r#"{"event":"client-m","channel":"private-c","data":1}"#);
    }
}

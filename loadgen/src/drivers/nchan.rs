//! nchan, the publish-subscribe module of nginx: a WebSocket for each channel, which its path names. A
//! message is the payload and nothing else.

use super::{Driver, Echo, Need, Opened, Reply, Role, with_channel};
use crate::{net::Access, plan::DriverPlan};

/// The driver: where the locations are, with a place for the channel.
pub(super) struct Nchan {
    subscriber: String,
    publisher: String,
}

impl Nchan {
    pub(super) fn new(plan: &DriverPlan) -> Result<Self, String> {
        let subscriber = plan.path.clone().unwrap_or_else(|| "/sub/{channel}".into());
        let publisher = plan.publish_path.clone().unwrap_or_else(|| "/pub/{channel}".into());
        if ![&subscriber, &publisher].iter().all(|path| path.contains("{channel}")) {
            return Err("The driver nchan needs {channel} in its paths.".into());
        }
        Ok(Self { subscriber, publisher })
    }
}

impl Driver for Nchan {
    fn lacks(&self, need: Need) -> bool {
        matches!(need, Need::Broadcast | Need::Presence | Need::Lobby | Need::Echo(Echo::Off))
    }

    fn access(&self, channel: &str, role: Role) -> Access {
        Access::web_socket(match role {
            Role::Member | Role::Watcher | Role::Guest | Role::Mover => {
                with_channel(&self.subscriber, channel)
            }
            Role::Publisher => with_channel(&self.publisher, channel),
        })
    }

    fn opened(&self) -> Opened<'_> {
        Opened::Joined
    }

    /// Never needed: to connect is to join.
    fn join(&self, _: u32, _: &str, _: &str) -> String {
        String::new()
    }

    fn send_around(&self, _: &str, _: u32) -> (String, String) {
        (String::new(), String::new())
    }

    fn read<'a>(&'a self, item: &'a str) -> Reply<'a> {
        // A publisher is told how its channel is after each message.
        if item.starts_with("queued messages:") { Reply::Other } else { Reply::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::path;

    #[test]
    fn channel_stands_in_the_path_of_its_role() {
        let nchan = Nchan::new(&DriverPlan::default()).expect("valid");
        assert_eq!(path(&nchan, "c7", Role::Member), "/sub/c7");
        assert_eq!(path(&nchan, "c7", Role::Guest), "/sub/c7");
        assert_eq!(path(&nchan, "c7", Role::Publisher), "/pub/c7");
        let both = Some("/both?id={channel}".into());
        let nchan = Nchan::new(&DriverPlan { path: both, ..DriverPlan::default() }).expect("valid");
        assert_eq!(path(&nchan, "c7", Role::Member), "/both?id=c7");
        assert!(Nchan::new(&DriverPlan { path: Some("/sub".into()), ..DriverPlan::default() }).is_err());
    }

    #[test]
    fn receipts_are_told_from_what_is_left_of_a_message() {
        let nchan = Nchan::new(&DriverPlan::default()).expect("valid");
        let receipt = "queued messages: 1\r\nlast requested: 0 sec. ago\r\nactive subscribers: 3\r\n";
        assert_eq!(nchan.read(receipt), Reply::Other);
        assert_eq!(nchan.read("\"~F"), Reply::Unknown);
    }
}

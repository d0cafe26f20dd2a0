//! Any server that takes texts and hands them on: paths and commands come from the command line, with
//! `{channel}` and `{payload}` in them. A delivery is what has a stamp in it.

use super::{Driver, Need, Opened, Reply, Role, with_channel};
use crate::{net::Access, plan::DriverPlan};

/// The driver.
pub(super) struct Plain {
    member_path: String,
    publisher_path: String,
    /// Part of the text that says the connection is ready; without one it is when it is open.
    welcome: Option<String>,
    /// What joins, and part of the answer. Without one, connecting is joining.
    join: Option<(String, String)>,
    /// What stands before and behind the payload.
    send: (String, String),
}

impl Plain {
    pub(super) fn new(plan: &DriverPlan) -> Result<Self, String> {
        let send = plan.send.as_deref().unwrap_or("{payload}").split_once("{payload}");
        let (before, behind) = send.ok_or("The driver plain needs {payload} in --send.")?;
        let join = match (plan.join.clone(), plan.joined.clone()) {
            (Some(join), Some(joined)) => Some((join, joined)),
            (None, None) if plan.welcome.is_none() => None,
            _ => {
                return Err("The driver plain needs --join and --joined, or neither and no --welcome.".into());
            }
        };
        let path = |path: &Option<String>| path.clone().or_else(|| plan.path.clone()).unwrap_or("/".into());
        Ok(Self {
            member_path: path(&plan.path),
            publisher_path: path(&plan.publish_path),
            welcome: plan.welcome.clone(),
            join,
            send: (before.into(), behind.into()),
        })
    }
}

impl Driver for Plain {
    fn lacks(&self, need: Need) -> bool {
        let joins_by_path = self.join.is_none() && self.member_path.contains("{channel}");
        matches!(need, Need::Broadcast | Need::Presence) || (need == Need::Lobby && joins_by_path)
    }

    fn access(&self, channel: &str, role: Role) -> Access {
        Access::web_socket(match role {
            Role::Member | Role::Watcher | Role::Guest | Role::Mover => {
                with_channel(&self.member_path, channel)
            }
            Role::Publisher => with_channel(&self.publisher_path, channel),
        })
    }

    fn opened(&self) -> Opened<'_> {
        match (&self.join, &self.welcome) {
            (None, _) => Opened::Joined,
            (_, None) => Opened::Ready,
            (_, Some(_)) => Opened::Awaiting,
        }
    }

    fn join(&self, _: u32, channel: &str, _: &str) -> String {
        self.join.as_ref().map(|(join, _)| with_channel(join, channel)).unwrap_or_default()
    }

    fn send_around(&self, channel: &str, _: u32) -> (String, String) {
        (with_channel(&self.send.0, channel), with_channel(&self.send.1, channel))
    }

    fn read<'a>(&'a self, item: &'a str) -> Reply<'a> {
        if self.join.as_ref().is_some_and(|(_, joined)| item.contains(joined)) {
            Reply::Done(None)
        } else if self.welcome.as_ref().is_some_and(|welcome| item.contains(welcome)) {
            Reply::welcome("")
        } else {
            Reply::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::path;

    fn some(text: &str) -> Option<String> {
        Some(text.into())
    }

    #[test]
    fn templates_become_commands() {
        let plan = DriverPlan {
            path: some("/ws"),
            publish_path: some("/out/{channel}"),
            welcome: some("hello"),
            join: some("+{channel}"),
            joined: some("joined"),
            send: some("{channel}:{payload}/{channel}"),
            ..DriverPlan::default()
        };
        let plain = Plain::new(&plan).expect("valid");
        assert_eq!(
            (path(&plain, "c", Role::Member), path(&plain, "c", Role::Publisher)),
            ("/ws".into(), "/out/c".into())
        );
        assert_eq!(path(&plain, "c", Role::Guest), path(&plain, "c", Role::Member));
        assert_eq!((plain.opened(), plain.join_first("c", "")), (Opened::Awaiting, some("+c")));
        assert_eq!(plain.read("hello, world"), Reply::welcome(""));
        assert_eq!(plain.join(1, "c", ""), "+c");
        assert_eq!(plain.read("you joined"), Reply::Done(None));
        assert_eq!(plain.read("news"), Reply::Other);
        assert_eq!(plain.send_around("c", 64), ("c:".into(), "/c".into()));
    }

    #[test]
    fn without_a_join_text_connecting_is_joining() {
        let plain =
            Plain::new(&DriverPlan { path: some("/{channel}"), ..DriverPlan::default() }).expect("valid");
        assert_eq!((plain.opened(), path(&plain, "c", Role::Publisher)), (Opened::Joined, "/c".into()));
        assert_eq!(plain.send_around("c", 64), (String::new(), String::new()));
        assert!(plain.lacks(Need::Lobby));
    }

    #[test]
    fn templates_that_cannot_work_are_refused() {
        for plan in [
            DriverPlan { send: some("{channel}"), ..DriverPlan::default() },
            DriverPlan { join: some("+{channel}"), ..DriverPlan::default() },
            DriverPlan { welcome: some("hello"), ..DriverPlan::default() },
        ] {
            assert!(Plain::new(&plan).is_err_and(|why| why.ends_with('.')));
        }
    }
}

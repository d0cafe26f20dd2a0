//! The options of an app for Channelstream: the paths of the app, and the conditions for back ends and
//! clients.

use std::fmt;

/// The options of an app for back ends and clients of Channelstream.
#[derive(Clone, Eq, PartialEq)]
pub struct ChannelstreamOptions {
    /// The secret with which back ends sign.
    pub secret: Box<str>,
    /// The addresses from which back ends may call; `0.0.0.0` allows every address.
    pub allow_posting_from: Vec<Box<str>>,
    /// Whether a signature is valid for a limited time.
    pub validate_requests: bool,
    /// The administrator's name.
    pub admin_user: Box<str>,
    /// The administrator's password; `None` if nobody may sign in.
    pub admin_secret: Option<Box<str>>,
    /// Parts of origins whose pages may read answers; an empty list allows every origin.
    pub allow_cors: Vec<Box<str>>,
    /// The prefix of the app's paths: empty, or `/` and a name.
    pub prefix: Box<str>,
}

impl ChannelstreamOptions {
    /// The default options with this secret: back ends call from this machine, and the paths have no prefix.
    pub fn new(secret: &str) -> Self {
        Self {
            secret: secret.into(),
            allow_posting_from: vec!["127.0.0.1".into()],
            validate_requests: true,
            admin_user: "admin".into(),
            admin_secret: None,
            allow_cors: Vec::new(),
            prefix: "".into(),
        }
    }

    /// Whether the secret is one of the original's public defaults.
    pub fn has_known_secret(&self) -> bool {
        *self.secret == *"secret" || self.admin_secret.as_deref() == Some("admin_secret")
    }

    /// Whether a back end may call from this address.
    pub fn allows(&self, address: &str) -> bool {
        self.allow_posting_from.iter().any(|allowed| **allowed == *"0.0.0.0" || **allowed == *address)
    }

    /// Whether pages of this origin may read answers.
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        let allows = |allowed: &str| origin.unwrap_or("<>").contains(allowed);
        self.allow_cors.is_empty() || self.allow_cors.iter().any(|allowed| allows(allowed))
    }
}

impl fmt::Debug for ChannelstreamOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelstreamOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{App, AppKeys, Apps, AppsError};

    #[test]
    fn addresses_and_origins_are_allowed_as_listed() {
        let mut options = ChannelstreamOptions::new("s3cret");
        assert!(options.allows("127.0.0.1") && !options.allows("127.0.0.10") && !options.allows(""));
        options.allow_posting_from = vec!["0.0.0.0".into()];
        assert!(options.allows("203.0.113.9"));
        assert!(options.allows_origin(None) && options.allows_origin(Some("https://a.example")));
        options.allow_cors = vec!["a.example".into()];
        assert!(options.allows_origin(Some("https://a.example:8080")));
        assert!(!options.allows_origin(Some("https://b.example")) && !options.allows_origin(None));
    }

    #[test]
    fn secrets_that_everybody_knows_are_told_and_none_is_shown() {
        assert!(ChannelstreamOptions::new("secret").has_known_secret());
        let mut options = ChannelstreamOptions::new("s3cret");
        assert!(!options.has_known_secret());
        options.admin_secret = Some("admin_secret".into());
        assert!(options.has_known_secret());
        assert!(!format!("{options:?}").contains("secret\""));
    }

    #[test]
    fn no_prefix_is_that_of_two_apps() {
        let app = |name: &str, prefix: &str| {
            let options =
                ChannelstreamOptions { prefix: prefix.into(), ..ChannelstreamOptions::new("s3cret") };
            App { channelstream: Some(options), ..App::new(name, AppKeys::default()) }
        };
        assert!(Apps::new(vec![app("a", ""), app("b", "/b")]).is_ok());
        let refused = Apps::new(vec![app("a", "/b"), app("b", "/b")]).expect_err("they share a prefix");
        assert_eq!(refused, AppsError::DuplicatePrefix("b".into()));
    }
}

//! What Channelstream's back ends and clients find of an app: where, and who of them may come in.

use std::fmt;

/// The rules of an app for back ends and clients of Channelstream.
#[derive(Clone, Eq, PartialEq)]
pub struct ChannelstreamOptions {
    /// What back ends sign with.
    pub secret: Box<str>,
    /// The addresses that back ends call from; `0.0.0.0` is any.
    pub allow_posting_from: Vec<Box<str>>,
    /// Whether a signature grows old.
    pub validate_requests: bool,
    /// The administrator's name.
    pub admin_user: Box<str>,
    /// The administrator's password; `None`: nobody can sign in.
    pub admin_secret: Option<Box<str>>,
    /// Parts of origins whose pages may call; none: any may.
    pub allow_cors: Vec<Box<str>>,
    /// What the app's paths begin with: empty, or `/` and what follows.
    pub prefix: Box<str>,
}

impl ChannelstreamOptions {
    /// The default but for the secret: back ends on this machine, at the root.
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

    /// Whether a secret is one that everybody knows.
    pub fn has_known_secret(&self) -> bool {
        *self.secret == *"secret" || self.admin_secret.as_deref() == Some("admin_secret")
    }

    /// Whether back ends may call from this address.
    pub fn allows(&self, address: &str) -> bool {
        self.allow_posting_from.iter().any(|allowed| **allowed == *"0.0.0.0" || **allowed == *address)
    }

    /// Whether pages of an origin may call.
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

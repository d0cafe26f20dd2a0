//! The options of an app for Agnost's clients: the names of the app, and the conditions for connecting.

use std::iter;

/// The options of an app for clients of Agnost and Altogic.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct AgnostOptions {
    /// The environment's id, by which clients name the app.
    pub env_id: Box<str>,
    /// The subdomain by which Altogic's clients may name the app instead.
    pub subdomain: Option<Box<str>>,
    /// Whether clients of Agnost and Altogic may connect.
    pub enabled: bool,
    /// Whether clients need one of the app's client keys.
    pub key_required: bool,
    /// Whether clients need a valid session token.
    pub session_required: bool,
}

impl AgnostOptions {
    /// The default options: a client needs a client key and no session token.
    pub fn new(env_id: &str) -> Self {
        Self {
            env_id: env_id.into(),
            subdomain: None,
            enabled: true,
            key_required: true,
            session_required: false,
        }
    }

    /// The names by which clients mean the app.
    pub(super) fn names(&self) -> impl Iterator<Item = Environment<'_>> {
        let subdomain = self.subdomain.as_deref().map(Environment::Subdomain);
        iter::once(Environment::Id(&self.env_id)).chain(subdomain)
    }
}

/// The name by which a client of Agnost means an app.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Environment<'a> {
    /// The environment's id.
    Id(&'a str),
    /// The subdomain.
    Subdomain(&'a str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{App, AppKeys, Apps, AppsError};

    fn app(name: &str, env_id: &str, subdomain: Option<&str>) -> App {
        let options = AgnostOptions { subdomain: subdomain.map(Box::from), ..AgnostOptions::new(env_id) };
        App { agnost: Some(options), ..App::new(name, AppKeys::default()) }
    }

    #[test]
    fn an_app_is_found_by_either_name_and_no_name_means_two() {
        let plain = App::new("plain", AppKeys::default());
        let apps = vec![plain, app("one", "e1", Some("acme")), app("two", "acme", None)];
        let apps = Apps::new(apps).expect("names of two kinds may be alike");
        let found = |environment| apps.by_environment(environment).map(|app| &*app.name);
        assert_eq!(found(Environment::Id("acme")), Some("two"));
        assert_eq!(found(Environment::Subdomain("acme")), Some("one"));
        assert_eq!(found(Environment::Id("plain")), None);
        for twin in [app("b", "e1", None), app("b", "e2", Some("acme"))] {
            let refused = Apps::new(vec![app("a", "e1", Some("acme")), twin]).expect_err("they share a name");
            assert_eq!(refused, AppsError::DuplicateEnvironment("b".into()));
        }
    }
}

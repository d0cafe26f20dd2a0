//! The options of an app for Agnost's clients: the names of the app, and the conditions for connecting.

use std::{collections::HashSet, sync::Arc};

use super::App;

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
}

/// The first app that has a name of an earlier app.
pub(super) fn find_ambiguous(apps: &[Arc<App>]) -> Option<&App> {
    let (mut ids, mut subdomains) = (HashSet::new(), HashSet::new());
    let found = apps.iter().find(|app| {
        app.agnost.as_ref().is_some_and(|options| {
            let is_new = ids.insert(&options.env_id)
                && options.subdomain.as_ref().is_none_or(|subdomain| subdomains.insert(subdomain));
            !is_new
        })
    });
    found.map(|app| &**app)
}

/// The name by which a client of Agnost means an app.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Environment<'a> {
    /// The environment's id.
    Id(&'a str),
    /// The subdomain.
    Subdomain(&'a str),
}

impl Environment<'_> {
    /// Whether the name means this app.
    pub(super) fn means(self, app: &App) -> bool {
        let Some(options) = &app.agnost else { return false };
        match self {
            Self::Id(id) => *options.env_id == *id,
            Self::Subdomain(subdomain) => options.subdomain.as_deref() == Some(subdomain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppKeys, Apps, AppsError};

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

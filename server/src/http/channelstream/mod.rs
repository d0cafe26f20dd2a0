//! The places of Channelstream's apps: each app has a prefix, after which the original's routes follow. The
//! app without a prefix has every path that no other protocol has.

mod access;
mod pages;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use fanfare_core::{
    app::{App, AppLimits, Apps, ChannelstreamOptions},
    dialect::channelstream::{
        Answer, Directory, DirectoryCounters, DirectoryLimits, DirectorySizes, Moment, Verifier,
    },
    engine::Node,
};
use std::sync::Arc;

pub(crate) use self::{
    access::{Admission, Knock, scheme, script_name},
    pages::{
        Page, listen_headers, overview_page, plain, put_answer, put_empty, put_html, put_page, redirect,
        sign_in_page,
    },
};
use crate::sys::{Clock, random, random_bits};

/// The beginning of the native API's paths, which belong to no place.
const NATIVE: &str = "/v1/";

/// The places of a server, the longest prefix first.
pub(crate) struct Places(Box<[Place]>);

/// The place of a request.
#[derive(Copy, Clone)]
pub(crate) struct Located<'p> {
    pub(crate) place: &'p Place,
    /// The path after the prefix: the original's route.
    pub(crate) path: &'p str,
    /// The prefix in the URLs of the place's clients.
    pub(crate) base: &'p str,
}

/// An app with its Channelstream paths and its directory.
pub(crate) struct Place {
    pub(crate) app: Arc<App>,
    pub(crate) options: ChannelstreamOptions,
    verifier: Verifier,
    /// Signs the cookies of administrators, with a secret of this process.
    cookies: Verifier,
    /// The app's directory. A worker holds the lock while it applies one request and hands the effects to its
    /// engine, and never waits meanwhile.
    directory: Mutex<Directory>,
    /// When a sign-in last failed, in Unix milliseconds.
    failed_ms: AtomicU64,
}

impl Places {
    pub(crate) fn new(apps: &Apps, node: &Node) -> Self {
        let now = Moment(Clock::new().unix_us());
        let mut places: Vec<Place> = apps.iter().filter_map(|app| Place::new(app, node, now)).collect();
        places.sort_by_key(|place| std::cmp::Reverse(place.options.prefix.len()));
        Self(places.into())
    }

    /// Whether the server has no places.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The place of a path. `script` is the prefix under which a trusted proxy serves the place; the proxy
    /// may have removed the prefix from the path.
    pub(crate) fn find<'p>(&'p self, path: &'p str, script: Option<&'p str>) -> Option<Located<'p>> {
        if path.starts_with(NATIVE) {
            return None;
        }
        let rest = |prefix: &str| path.strip_prefix(prefix).filter(|rest| rest.starts_with('/'));
        if let Some(base) = script {
            let of = |prefix: &str| self.0.iter().find(|place| *place.options.prefix == *prefix);
            let place = of(base).or_else(|| of(""))?;
            return Some(Located { place, path: rest(base).unwrap_or(path), base });
        }
        self.0.iter().find_map(|place| {
            let base = &*place.options.prefix;
            rest(base).map(|path| Located { place, path, base })
        })
    }

    /// The place of an app.
    pub(crate) fn of(&self, app: &App) -> Option<&Place> {
        self.0.iter().find(|place| place.app.id == app.id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter()
    }
}

impl Place {
    fn new(app: &Arc<App>, node: &Node, now: Moment) -> Option<Self> {
        let options = app.channelstream.clone()?;
        let AppLimits { history_bytes, message_bytes, .. } = app.limits;
        let states = node.user_states(app.id).clone();
        let limits = DirectoryLimits { bytes: history_bytes, message_bytes, ..DirectoryLimits::default() };
        Some(Self {
            verifier: Verifier::new(&options.secret),
            cookies: Verifier::new(&format!("{:032x}", random_bits())),
            directory: Mutex::new(Directory::new(limits, random(), now, states)),
            failed_ms: AtomicU64::new(0),
            app: app.clone(),
            options,
        })
    }

    /// The app's directory. A panic of a worker leaves the directory consistent, so a poisoned lock is taken.
    pub(crate) fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sizes and the counters of the app's directory.
    pub(crate) fn counts(&self) -> (DirectorySizes, DirectoryCounters) {
        let directory = self.directory();
        (directory.sizes(), directory.counters())
    }

    /// Completes an answer. Other calls may have the directory in between.
    pub(crate) fn complete(&self, answer: &mut Answer) {
        while !answer.is_complete() {
            self.directory().go_on(answer);
        }
    }

    /// Whether the name and the password are an administrator's. After a wrong password every sign-in fails
    /// for a while.
    pub(crate) fn sign_in(&self, user: &str, password: &str, now_ms: u64) -> bool {
        /// The milliseconds of that while.
        const PAUSE_MS: u64 = 500;
        let Some(secret) = &self.options.admin_secret else { return false };
        // Relaxed: the time orders no other memory access.
        if now_ms < self.failed_ms.load(Ordering::Relaxed).saturating_add(PAUSE_MS) {
            return false;
        }
        // The comparison of signatures takes the same time for every wrong text.
        let is = |given: &str, own: &str| {
            let signed = self.cookies.sign(given, 0);
            self.cookies.sign(own, 0) == signed
        };
        let may = is(user, &self.options.admin_user) & is(password, secret);
        if !may {
            self.failed_ms.store(now_ms, Ordering::Relaxed);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use fanfare_core::app::AppKeys;

    use super::*;

    fn places(prefixes: &[&str]) -> Places {
        let app = |(at, prefix): (usize, &&str)| {
            let mut options = ChannelstreamOptions::new("s3cret");
            options.prefix = (*prefix).into();
            options.admin_secret = Some("pass".into());
            App { channelstream: Some(options), ..App::new(&format!("app{at}"), AppKeys::default()) }
        };
        let apps = Apps::new(prefixes.iter().enumerate().map(app).collect()).expect("they differ");
        Places::new(&apps, &Node::new(apps.clone(), 1, 64, 1))
    }

    #[test]
    fn the_longest_prefix_has_a_path_and_the_api_has_its_own() {
        let places = places(&["", "/a", "/a/b"]);
        let located = |path, script| {
            let found: Option<Located<'_>> = places.find(path, script);
            found.map(|Located { place, path, base }| (&*place.app.name, path, base))
        };
        let found = |path| located(path, None).map(|(app, path, _)| (app, path));
        assert_eq!(found("/connect"), Some(("app0", "/connect")));
        assert_eq!(found("/a/connect"), Some(("app1", "/connect")));
        assert_eq!(found("/a/b/connect"), Some(("app2", "/connect")));
        assert_eq!(found("/ab/connect"), Some(("app0", "/ab/connect")));
        assert_eq!(found("/v1/send"), None);
        let nothing = Apps::default();
        let none = Places::new(&nothing, &Node::new(nothing.clone(), 1, 64, 1));
        assert!(none.find("/connect", None).is_none() && none.find("/connect", Some("/a")).is_none());
        // A proxy that removes the prefix, one that leaves it, and one whose prefix no app has.
        assert_eq!(located("/connect", Some("/a")), Some(("app1", "/connect", "/a")));
        assert_eq!(located("/a/connect", Some("/a")), Some(("app1", "/connect", "/a")));
        assert_eq!(located("/chat/connect", Some("/chat")), Some(("app0", "/connect", "/chat")));
        assert_eq!(located("/v1/send", Some("/a")), None);
    }

    #[test]
    fn a_wrong_password_has_the_next_one_wait() {
        let places = places(&[""]);
        let place = places.iter().next().expect("there is one");
        assert!(place.sign_in("admin", "pass", 1_000));
        assert!(!place.sign_in("admin", "passed", 1_000) && !place.sign_in("root", "pass", 2_000));
        assert!(!place.sign_in("admin", "pass", 2_499));
        assert!(place.sign_in("admin", "pass", 2_500));
    }
}

//! Where back ends and clients of Channelstream find an app: a prefix of paths, behind which each has the
//! original's routes. The app at the root has every path that no other protocol has.

mod access;
mod pages;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use fanfare_core::{
    app::{App, AppLimits, Apps, ChannelstreamOptions},
    dialect::channelstream::{Directory, DirectoryLimits, Moment, Verifier},
};
use std::sync::Arc;

pub(crate) use self::{
    access::{Admission, Knock},
    pages::{Page, overview_page, put_answer, put_empty, put_html, put_page, redirect, sign_in_page},
};
use crate::sys::{Clock, random, random_bits};

/// What the paths of the API begin with, which is never a place's.
const NATIVE: &str = "/v1/";

/// The places of a server, the longest prefix first.
pub(crate) struct Places(Box<[Place]>);

/// An app as Channelstream's peers find it.
pub(crate) struct Place {
    pub(crate) app: Arc<App>,
    pub(crate) options: ChannelstreamOptions,
    verifier: Verifier,
    /// Signs the cookies of administrators: a secret of this process.
    cookies: Verifier,
    /// Held for as long as it takes to apply one request and to hand what follows from it to the engine,
    /// which never waits.
    directory: Mutex<Directory>,
    /// When a sign-in last failed, in Unix milliseconds.
    failed_ms: AtomicU64,
}

impl Places {
    pub(crate) fn new(apps: &Apps) -> Self {
        let now = Moment(Clock::new().unix_us());
        let mut places: Vec<Place> = apps.iter().filter_map(|app| Place::new(app, now)).collect();
        places.sort_by_key(|place| std::cmp::Reverse(place.options.prefix.len()));
        Self(places.into())
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a path is a place's.
    pub(crate) fn owns(&self, path: &str) -> bool {
        !self.is_empty() && self.find(path).is_some()
    }

    /// The place that has a path, and what of the path follows its prefix.
    pub(crate) fn find<'p>(&self, path: &'p str) -> Option<(&Place, &'p str)> {
        if path.starts_with(NATIVE) {
            return None;
        }
        let rest =
            |place: &Place| path.strip_prefix(&*place.options.prefix).filter(|rest| rest.starts_with('/'));
        self.0.iter().find_map(|place| rest(place).map(|rest| (place, rest)))
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
    fn new(app: &Arc<App>, now: Moment) -> Option<Self> {
        let options = app.channelstream.clone()?;
        let AppLimits { history_bytes, message_bytes, .. } = app.limits;
        let limits = DirectoryLimits { bytes: history_bytes, message_bytes, ..DirectoryLimits::default() };
        Some(Self {
            verifier: Verifier::new(&options.secret),
            cookies: Verifier::new(&format!("{:032x}", random_bits())),
            directory: Mutex::new(Directory::new(limits, random(), now)),
            failed_ms: AtomicU64::new(0),
            app: app.clone(),
            options,
        })
    }

    /// The app's directory. A worker that panicked inside has left it whole or not begun.
    pub(crate) fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an administrator may come in with these. After a failure nobody is looked at for a while.
    pub(crate) fn sign_in(&self, user: &str, password: &str, now_ms: u64) -> bool {
        /// How long.
        const PAUSE_MS: u64 = 500;
        let Some(secret) = &self.options.admin_secret else { return false };
        // Relaxed: a time, which orders nothing.
        if now_ms < self.failed_ms.load(Ordering::Relaxed).saturating_add(PAUSE_MS) {
            return false;
        }
        // Comparing signatures takes the same time for all that are wrong.
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
        Places::new(&Apps::new(prefixes.iter().enumerate().map(app).collect()).expect("they differ"))
    }

    #[test]
    fn the_longest_prefix_has_a_path_and_the_api_has_its_own() {
        let places = places(&["", "/a", "/a/b"]);
        let found = |path| places.find(path).map(|(place, rest)| (&*place.app.name, rest));
        assert_eq!(found("/connect"), Some(("app0", "/connect")));
        assert_eq!(found("/a/connect"), Some(("app1", "/connect")));
        assert_eq!(found("/a/b/connect"), Some(("app2", "/connect")));
        assert_eq!(found("/ab/connect"), Some(("app0", "/ab/connect")));
        assert_eq!(found("/v1/send"), None);
        assert!(!Places::new(&Apps::default()).owns("/connect"));
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

//! Apps: the tenants of a server, and what the peers of each are allowed.
//!
//! An [`App`] is built once, by the configuration, and shared unchanged by every worker. An app decides who
//! may connect (keys, origins, session tokens) and how much a client may do (limits). This module knows no
//! connections and reads no clock. No data crosses from one app to another.

mod agnost;
mod channelstream;
mod keys;
mod options;
mod origins;
mod word;
mod xano;

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

pub use self::agnost::{AgnostOptions, Environment};
pub use self::channelstream::ChannelstreamOptions;
pub use self::keys::{
    AppKeys, Grant, KEY_BYTES_MAX, KEY_BYTES_MIN, KeyError, KeyRefusal, KeyRole, KeyTerms, Visitor,
};
pub(crate) use self::options::fit;
pub use self::options::{ChannelOptions, ChannelRule, HistoryLimits, SignedInMessages, Who};
pub use self::origins::{OriginError, Origins};
pub use self::word::OptionsWord;
pub use self::xano::{XanoChannel, XanoOptions};
use crate::token::{SessionVerifier, TokenError, Verified};

/// The most bytes of an app's name.
pub const APP_NAME_BYTES_MAX: usize = 64;

/// An app's place in [`Apps`]: small, and dense from 0, so that it can index arrays.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub struct AppId(pub u16);

/// What happens to a connection that reads more slowly than its channels publish.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Default, Debug)]
pub enum SlowConsumer {
    /// It is closed with 4000; the client comes back and recovers.
    #[default]
    Disconnect,
    /// Publications are dropped, and a `gap` says how many.
    Drop,
}

/// What happens to a handshake with a session token that is not valid, in a dialect that leaves it open.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Default, Debug)]
pub enum InvalidSession {
    /// The handshake is refused.
    #[default]
    Refuse,
    /// The session begins without a user.
    Anonymous,
}

/// The bounds of one app. Sizes are in bytes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct AppLimits {
    /// The payload of one message.
    pub message_bytes: usize,
    /// A session's profile.
    pub profile_bytes: usize,
    /// A channel's name; at most [`AppLimits::NAME_BYTES_MAX`].
    pub channel_name_bytes: usize,
    /// An event's name; at most [`AppLimits::NAME_BYTES_MAX`].
    pub event_name_bytes: usize,
    /// Channels that one connection may be in.
    pub channels_per_connection: u16,
    /// Connections of the app at one time; 0 is no limit.
    pub connections: u32,
    /// Messages that one connection may send in a second; 0 is no limit.
    pub messages_per_second: u32,
    /// Bytes queued for one connection: its high-water mark, beyond which it is a slow consumer.
    pub outbound_bytes: usize,
    /// Bytes of answers after which a session's next command waits until its client has read more.
    pub answer_bytes: usize,
    /// Bytes that all channels together remember.
    pub history_bytes: usize,
    /// The approximate most bytes of a list of all members of a channel as JSON.
    pub members_bytes: usize,
    /// Milliseconds that a session is kept whose connection is lost; 0 ends it at once.
    pub resume_ms: u32,
    /// Bytes of output that a session keeps for its client's return.
    pub resume_bytes: usize,
    /// Sessions that may be parked at one time, and bytes that they keep together.
    pub parked_sessions: usize,
    /// See [`AppLimits::parked_sessions`].
    pub parked_bytes: usize,
    /// The most messages and joins that wait for triggers, and the bytes that they keep together.
    pub trigger_calls: usize,
    /// The most bytes of messages and joins that wait for triggers. See [`AppLimits::trigger_calls`].
    pub trigger_bytes: usize,
}

impl AppLimits {
    /// Names of channels and events are never longer than this, whatever the app.
    pub const NAME_BYTES_MAX: usize = 256;
}

impl Default for AppLimits {
    fn default() -> Self {
        AppLimits {
            message_bytes: 64 * 1024,
            profile_bytes: 4 * 1024,
            channel_name_bytes: Self::NAME_BYTES_MAX,
            event_name_bytes: Self::NAME_BYTES_MAX,
            channels_per_connection: 128,
            connections: 0,
            messages_per_second: 0,
            outbound_bytes: 4 * 1024 * 1024,
            answer_bytes: 512 * 1024,
            history_bytes: 64 * 1024 * 1024,
            members_bytes: 16 * 1024 * 1024,
            resume_ms: 0,
            resume_bytes: 256 * 1024,
            parked_sessions: 10_000,
            parked_bytes: 64 * 1024 * 1024,
            trigger_calls: 4096,
            trigger_bytes: 16 * 1024 * 1024,
        }
    }
}

/// One app: its keys, rules and limits.
#[derive(Clone, Debug)]
pub struct App {
    /// Its place in [`Apps`], which sets it.
    pub id: AppId,
    /// Whether the app was removed while the server runs: nobody finds it, and its sessions end.
    pub removed: bool,
    /// Its name: 1 to [`APP_NAME_BYTES_MAX`] letters, digits, `.`, `_` and `-`.
    pub name: Box<str>,
    /// Whether commands that write need a valid session.
    pub session_required: bool,
    /// Whether back ends see the addresses of members and sessions.
    pub member_addresses: bool,
    /// Whether clients of the native dialect need one of the app's client keys.
    pub key_required: bool,
    /// Whether a client whose session token is not valid connects without a user.
    pub invalid_session: InvalidSession,
    /// Whether a session receives what it caused itself, unless it says otherwise.
    pub echo: bool,
    /// Whether receivers of a message are told which session and user sent it.
    pub show_sender: bool,
    /// Whether a session may edit and delete what it, or its user, sent.
    pub sender_edits: bool,
    /// Whether only members may send to a channel. This option and the following ones are for channels
    /// without a rule.
    pub membership_to_send: bool,
    /// Whether joins, leaves and updates are announced to the other members.
    pub announce: bool,
    /// Whether members are told of a user's first session and last.
    pub presence_by_user: bool,
    /// What happens to slow consumers.
    pub slow_consumer: SlowConsumer,
    /// How much is remembered.
    pub history: HistoryLimits,
    /// What other channels are like.
    pub rules: Vec<ChannelRule>,
    /// How much its peers may do.
    pub limits: AppLimits,
    /// The keys that open it.
    pub keys: AppKeys,
    /// The web origins that may use it.
    pub origins: Origins,
    /// The options for Agnost's clients; `None` if such clients may not use the app.
    pub agnost: Option<AgnostOptions>,
    /// The options for Channelstream; `None` if its back ends and clients may not use the app.
    pub channelstream: Option<ChannelstreamOptions>,
    /// The options for Xano's clients; `None` if such clients may not use the app.
    pub xano: Option<XanoOptions>,
    /// Verifies its session tokens.
    pub sessions: SessionVerifier,
}

impl App {
    /// An app with every default: any origin, no session keys.
    pub fn new(name: &str, keys: AppKeys) -> App {
        App {
            id: AppId(0),
            removed: false,
            name: Box::from(name),
            session_required: false,
            member_addresses: false,
            key_required: true,
            invalid_session: InvalidSession::Refuse,
            echo: true,
            show_sender: false,
            sender_edits: false,
            membership_to_send: false,
            announce: true,
            presence_by_user: false,
            slow_consumer: SlowConsumer::default(),
            history: HistoryLimits::NONE,
            rules: Vec::new(),
            limits: AppLimits::default(),
            keys,
            origins: Origins::any(),
            agnost: None,
            channelstream: None,
            xano: None,
            sessions: SessionVerifier::default(),
        }
    }

    /// What a channel of this name is like, by the configuration.
    pub fn channel_options(&self, name: &str) -> ChannelOptions {
        options::resolve(&self.rules, name).unwrap_or_else(|| self.default_options())
    }

    /// Whether a dialect keeps a directory of the app's members.
    pub fn has_directory(&self) -> bool {
        self.channelstream.is_some()
    }

    /// What channels are like that no rule is about.
    pub fn default_options(&self) -> ChannelOptions {
        ChannelOptions {
            history: self.history,
            announce: self.announce,
            presence_by_user: self.presence_by_user,
            membership_to_send: self.membership_to_send,
            slow_consumer: self.slow_consumer,
            ..ChannelOptions::default()
        }
    }

    /// The role of `key`, or `None` if the app does not have this key. The time of the check is the same for
    /// every wrong key of one length.
    pub fn key_role(&self, key: &str) -> Option<KeyRole> {
        self.keys.role(key)
    }

    /// What `key` allows this visitor.
    ///
    /// # Errors
    /// The app does not have this key, or the key's terms do not allow the visitor.
    pub fn admit_key(&self, key: &str, visitor: &Visitor<'_>) -> Result<Grant, KeyRefusal> {
        self.keys.admit(key, visitor)
    }

    /// Whether a request with this `Origin` header may use the app. A request without the header may, because
    /// every browser sends the header and only browsers do.
    pub fn origin_allowed(&self, origin: Option<&str>) -> bool {
        origin.is_none_or(|origin| self.origins.allow(origin))
    }

    /// Verifies a session token. A claim is invalid if it exceeds the app's limits: a profile or a
    /// channel's name that is too long, or more channels than a connection may join. The cost of the check is
    /// added to `checks`.
    pub fn verify_session(
        &self,
        token: &str,
        now_seconds: u64,
        checks: &mut u32,
    ) -> Result<Verified, TokenError> {
        let verified = self.sessions.verify_dated(token, now_seconds, checks)?;
        let claims = &verified.claims;
        let limits = &self.limits;
        if claims.profile.as_ref().is_some_and(|profile| profile.len() > limits.profile_bytes) {
            return Err(TokenError::InvalidClaim("profile"));
        }
        if claims.channels.len() > usize::from(limits.channels_per_connection)
            || claims.channels.iter().any(|name| name.len() > limits.channel_name_bytes)
        {
            return Err(TokenError::InvalidClaim("channels"));
        }
        Ok(verified)
    }
}

/// Every app of a server. Names are unique. Of apps that no others replaced, `by_id(AppId(i))` is the i-th of
/// [`Apps::iter`].
#[derive(Clone, Default, Debug)]
pub struct Apps {
    /// The apps by id, with those that were removed.
    slots: Box<[Arc<App>]>,
    /// The apps that were not removed, in the order of the ids.
    apps: Box<[Arc<App>]>,
    /// Ids of `apps`, in the order of the names.
    by_name: Box<[u16]>,
    /// The access tokens of back ends that may name any app.
    access_tokens: AppKeys,
}

impl Apps {
    /// Takes the apps in their order, and sets the id of each to its place.
    pub fn new(apps: Vec<App>) -> Result<Apps, AppsError> {
        if let Some(app) = apps.iter().find(|app| !is_app_name(&app.name)) {
            return Err(AppsError::InvalidName(app.name.clone()));
        }
        let count = u16::try_from(apps.len()).map_err(|_| AppsError::TooMany)?;
        let slots = (0..count).zip(apps).map(|(id, app)| Arc::new(App { id: AppId(id), ..app })).collect();
        Self::of_slots(slots).checked()
    }

    /// The apps with another one in the place of the app with the same id and name.
    ///
    /// # Errors
    /// If clients could mean the app or another one.
    pub fn with(&self, app: App) -> Result<Apps, AppsError> {
        let mut slots = self.slots.clone();
        let place = usize::from(app.id.0);
        slots[place] = Arc::new(app);
        Apps { access_tokens: self.access_tokens.clone(), ..Self::of_slots(slots) }.checked()
    }

    /// The apps, if each name means one of them.
    fn checked(self) -> Result<Apps, AppsError> {
        let apps = &self.apps;
        for pair in self.by_name.windows(2) {
            let name = &self.slots[usize::from(pair[0])].name;
            if *name == self.slots[usize::from(pair[1])].name {
                return Err(AppsError::DuplicateName(name.clone()));
            }
        }
        if let Some(app) = find_ambiguous(apps, |app| app.agnost.iter().flat_map(AgnostOptions::names)) {
            return Err(AppsError::DuplicateEnvironment(app.name.clone()));
        }
        if let Some(app) = find_ambiguous(apps, |app| app.channelstream.iter().map(|own| &own.prefix)) {
            return Err(AppsError::DuplicatePrefix(app.name.clone()));
        }
        if let Some(app) = find_ambiguous(apps, |app| app.xano.iter().flat_map(XanoOptions::names)) {
            return Err(AppsError::DuplicateCanonical(app.name.clone()));
        }
        Ok(self)
    }

    /// `new` in the place of these apps: an app that stays keeps its id, an app that is new has an id that no
    /// app had, and an app that is gone is removed. `None` if there would be more than `limit` ids.
    pub fn succeed(&self, new: &Apps, limit: usize) -> Option<Apps> {
        let mut slots = Vec::with_capacity(self.slots.len());
        for old in &self.slots {
            slots.push(match new.by_name(&old.name) {
                Some(app) => Arc::new(App { id: old.id, ..App::clone(app) }),
                None if old.removed => old.clone(),
                None => {
                    let limits = AppLimits { history_bytes: 0, ..old.limits };
                    Arc::new(App { removed: true, limits, ..App::clone(old) })
                }
            });
        }
        let is_known = |app: &Arc<App>| self.slots.iter().any(|old| old.name == app.name);
        for app in new.iter().filter(|app| !is_known(app)) {
            let id = AppId(u16::try_from(slots.len()).ok()?);
            slots.push(Arc::new(App { id, ..App::clone(app) }));
        }
        (slots.len() <= limit)
            .then(|| Apps { access_tokens: new.access_tokens.clone(), ..Apps::of_slots(slots.into()) })
    }

    /// The apps of these slots, of which each has the id of its place.
    fn of_slots(slots: Box<[Arc<App>]>) -> Apps {
        let apps: Box<[Arc<App>]> = slots.iter().filter(|app| !app.removed).cloned().collect();
        let mut by_name: Box<[u16]> = apps.iter().map(|app| app.id.0).collect();
        by_name.sort_by_key(|&id| &slots[usize::from(id)].name);
        Apps { slots, apps, by_name, access_tokens: AppKeys::default() }
    }

    /// The apps that were removed.
    pub fn removed(&self) -> impl Iterator<Item = &Arc<App>> {
        self.slots.iter().filter(|app| app.removed)
    }

    /// The apps with access tokens, which are server keys for back ends that may name any app.
    pub fn with_access_tokens(self, access_tokens: AppKeys) -> Apps {
        Apps { access_tokens, ..self }
    }

    /// Whether a back end with this token may name any app.
    pub fn is_access_token(&self, token: &str) -> bool {
        self.access_tokens.role(token) == Some(KeyRole::Server)
    }

    /// The app of this name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<App>> {
        let found = self.by_name.binary_search_by(|&id| (*self.slots[usize::from(id)].name).cmp(name));
        found.ok().map(|place| &self.slots[usize::from(self.by_name[place])])
    }

    /// The app that a client of Agnost names.
    pub fn by_environment(&self, environment: Environment<'_>) -> Option<&Arc<App>> {
        let is_own = |options: &AgnostOptions| options.names().any(|name| name == environment);
        self.apps.iter().find(|app| app.agnost.as_ref().is_some_and(is_own))
    }

    /// Whether any app serves clients of Agnost.
    pub fn serve_agnost(&self) -> bool {
        self.apps.iter().any(|app| app.agnost.is_some())
    }

    /// The app that a client of Xano names.
    pub fn by_canonical(&self, name: &str) -> Option<&Arc<App>> {
        let is_own = |options: &XanoOptions| options.names().any(|own| own == name);
        self.apps.iter().find(|app| app.xano.as_ref().is_some_and(is_own))
    }

    /// Whether any app serves clients of Xano.
    pub fn serve_xano(&self) -> bool {
        self.apps.iter().any(|app| app.xano.is_some())
    }

    /// The app with this id, which may have been removed.
    pub fn by_id(&self, id: AppId) -> Option<&Arc<App>> {
        self.slots.get(usize::from(id.0))
    }

    /// The app with this id, which these apps gave out.
    pub fn of(&self, id: AppId) -> &Arc<App> {
        self.by_id(id).expect("an id is of one of the apps")
    }

    /// Every app, in the order of the ids.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<App>> {
        self.apps.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.apps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.apps.is_empty()
    }
}

impl<'a> IntoIterator for &'a Apps {
    type Item = &'a Arc<App>;
    type IntoIter = std::slice::Iter<'a, Arc<App>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Why a list of apps was refused.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum AppsError {
    /// Two apps have this name.
    DuplicateName(Box<str>),
    /// This app has the environment's id or the subdomain of another app.
    DuplicateEnvironment(Box<str>),
    /// This app has the Channelstream prefix of another app.
    DuplicatePrefix(Box<str>),
    /// This app has the canonical or the hash of another app, or has the same name as canonical and as hash.
    DuplicateCanonical(Box<str>),
    /// This is no name for an app.
    InvalidName(Box<str>),
    /// More than 65535.
    TooMany,
}

impl fmt::Display for AppsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateName(name) => write!(f, "Two apps are named `{name}`."),
            Self::DuplicateEnvironment(name) => write!(
                f,
                "The app `{name}` has the `env_id` or the `subdomain` of another app, so clients could mean \
                 either."
            ),
            Self::DuplicatePrefix(name) => {
                write!(f, "The app `{name}` has the `channelstream.prefix` of another app.")
            }
            Self::DuplicateCanonical(name) => write!(
                f,
                "The app `{name}` has a `canonical` or a `hash` that is taken: clients could mean either."
            ),
            Self::InvalidName(name) => write!(
                f,
                "`{name}` is not a name for an app: use 1 to {APP_NAME_BYTES_MAX} letters, digits, `.`, `_` and `-`."
            ),
            Self::TooMany => write!(f, "There are more than {} apps.", u16::MAX),
        }
    }
}

impl std::error::Error for AppsError {}

/// Names appear in queries, paths, logs and metrics, and must need quoting in none of them.
fn is_app_name(name: &str) -> bool {
    (1..=APP_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// The first app of which one of `names` is an earlier app's, or another one of its own.
fn find_ambiguous<'a, Name: Eq + Hash, Names: Iterator<Item = Name>>(
    apps: &'a [Arc<App>],
    names: impl Fn(&'a App) -> Names,
) -> Option<&'a App> {
    let mut taken = HashSet::new();
    let found = apps.iter().find(|app| names(app).any(|name| !taken.insert(name)));
    found.map(|app| &**app)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::*;
    use crate::token::{Algorithm, KeyMaterial, SessionKey};

    const SECRET: &[u8] = b"a secret of more than 32 bytes in all";
    const NOW: u64 = 1_750_000_000;

    fn app(name: &str) -> App {
        App::new(name, AppKeys::default())
    }

    #[test]
    fn apps_are_found_by_name_and_id() {
        let apps = Apps::new(vec![app("chat"), app("Chat"), app("a.b_c-1")]).expect("the names differ");
        assert_eq!(apps.len(), 3);
        for (index, name) in ["chat", "Chat", "a.b_c-1"].into_iter().enumerate() {
            let found = apps.by_name(name).expect("it is there");
            assert_eq!((usize::from(found.id.0), &*found.name), (index, name));
            assert!(Arc::ptr_eq(found, apps.by_id(found.id).expect("it is there")));
        }
        assert!(apps.by_name("CHAT").is_none() && apps.by_name("").is_none());
        assert!(apps.by_id(AppId(3)).is_none());
        assert!(Apps::default().is_empty());
    }

    #[test]
    fn apps_that_stay_keep_their_ids_and_ids_are_never_shared() {
        let first = Apps::new(vec![app("a"), app("b"), app("c")]).expect("the names differ");
        let second = first.succeed(&Apps::new(vec![app("c"), app("d"), app("a")]).expect("valid"), 8);
        let second = second.expect("there is room");
        let ids =
            |apps: &Apps| apps.iter().map(|app| (app.id.0, String::from(&*app.name))).collect::<Vec<_>>();
        assert_eq!(ids(&second), [(0, "a".into()), (2, "c".into()), (3, "d".into())]);
        assert!(second.by_name("b").is_none() && second.of(AppId(1)).removed);
        assert_eq!((second.of(AppId(1)).limits.history_bytes, second.len()), (0, 3));
        assert_eq!(second.by_name("d").map(|app| app.id), Some(AppId(3)));
        // An app that comes back is the app that it was.
        let third = second.succeed(&Apps::new(vec![app("b"), app("e")]).expect("valid"), 8).expect("room");
        assert_eq!(ids(&third), [(1, "b".into()), (4, "e".into())]);
        assert_eq!(third.removed().count(), 3);
        assert!(third.succeed(&Apps::new(vec![app("f")]).expect("valid"), 5).is_none());
    }

    #[test]
    fn names_are_unique_and_plain() {
        let duplicate = Apps::new(vec![app("b"), app("a"), app("b")]).expect_err("b is there twice");
        assert_eq!(duplicate, AppsError::DuplicateName("b".into()));
        for name in ["", "a b", "ä", "a/b", &"n".repeat(65)] {
            let error = Apps::new(vec![app(name)]).expect_err("the name is refused");
            assert_eq!(error, AppsError::InvalidName(name.into()));
        }
    }

    #[test]
    fn a_request_without_origin_is_allowed() {
        let mut app = app("a");
        app.origins = Origins::new(&["https://example.com"]).expect("a valid origin");
        assert!(app.origin_allowed(None));
        assert!(app.origin_allowed(Some("https://example.com")));
        assert!(!app.origin_allowed(Some("https://example.org")));
        app.origins = Origins::new::<&str>(&[]).expect("an empty list");
        assert!(app.origin_allowed(None) && !app.origin_allowed(Some("https://example.com")));
    }

    #[test]
    fn tokens_are_held_to_the_limits_of_the_app() {
        let key = SessionKey::new(Algorithm::Hs256, None, KeyMaterial::Secret(SECRET)).expect("a secret");
        let mut app = app("a");
        app.sessions = SessionVerifier::new(vec![key], 0, false);
        app.limits.profile_bytes = 8;
        app.limits.channel_name_bytes = 4;
        app.limits.channels_per_connection = 2;
        let verify = |claims: Value| {
            let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET));
            app.verify_session(&token.expect("it encodes"), NOW, &mut 0).map(|_| ())
        };
        assert_eq!(verify(json!({"sub": "u", "profile": [1, 2, 3], "channels": ["room", "b"]})), Ok(()));
        let profile = Err(TokenError::InvalidClaim("profile"));
        assert_eq!(verify(json!({"sub": "u", "profile": [1, 2, 3, 4]})), profile);
        let channels = Err(TokenError::InvalidClaim("channels"));
        assert_eq!(verify(json!({"sub": "u", "channels": ["rooms"]})), channels);
        assert_eq!(verify(json!({"sub": "u", "channels": ["a", "b", "c"]})), channels);
    }
}

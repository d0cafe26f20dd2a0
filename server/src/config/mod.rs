//! The configuration: raw (flags, environment, file) in, validated and immutable out.
//!
//! ```text
//! Args ─────────┐
//! environment ──┼─▶ layers ──▶ checks: ranges, relations ──▶ Config ──▶ print ──▶ TOML
//! raw::File ────┘                    └──▶ apps ──▶ Apps
//! ```
//!
//! [`Config::load`] is the only way in, runs before any thread is started, and either gives a configuration
//! that needs no further check or one sentence that says what to change. It opens no socket. Every key is
//! described in docs/CONFIGURATION.md, and a test holds that page to the raw structures.

mod access;
mod acme;
mod agnost;
mod apps;
mod changes;
mod channelstream;
mod endpoint;
mod error;
mod key_sets;
mod keys;
mod layers;
mod listeners;
mod print;
mod proxies;
mod raw;
mod settings;
mod triggers;
pub(crate) mod xano;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fanfare_core::address::TrustedProxies;
use fanfare_core::app::Apps;
use fanfare_core::http::ForwardingHeader;

use self::access::AccessSource;
use self::acme::{Acme, Folders};
use self::apps::{AppSource, BuiltApps};
pub use self::changes::{Change, When};
pub(crate) use self::endpoint::Bindable;
pub use self::endpoint::Endpoint;
pub use self::error::ConfigError;
use self::layers::Environment;
use self::listeners::ListenerGroup;
pub(crate) use self::listeners::Listening;
pub use self::listeners::Preamble;
use crate::acme::Settings;
pub use crate::addresses::AddressLimits;
use crate::args::{Action, Args, Secrets};
use crate::issuer::Issuer;
use crate::tls::TlsSettings;
use crate::trigger::spec::{Spec, Work};

/// The most worker threads.
pub const WORKERS_MAX: usize = 128;

/// What a frame must have room for beside a payload: the members of the command around it.
const ENVELOPE_BYTES: usize = 1024;

/// Everything that is decided before the server starts. What [`Config::load`] gives keeps these relations:
/// `frame_bytes` and `body_bytes` have room for any app's message and profile, and `outbound_bytes` of any
/// app has room for two of them.
#[derive(Clone, Debug)]
pub struct Config {
    /// The addresses without TLS. Together with the addresses of `[[server.listeners]]` there is at least one
    /// address, and all addresses differ.
    pub listen: Vec<Endpoint>,
    /// The address of the admin plane, or `None` if it is off.
    pub admin_listen: Option<Endpoint>,
    /// The permissions of Unix sockets.
    pub socket_mode: u32,
    /// The proxies whose word about their clients' addresses is believed.
    pub trusted_proxies: TrustedProxies,
    /// The header in which these proxies name a client's address.
    pub forwarding_header: ForwardingHeader,
    /// The dashboard's password; `None` if the dashboard has no password and is served on loopback alone.
    pub dashboard_password: Option<Password>,
    /// Worker threads, 1 to [`WORKERS_MAX`].
    pub workers: usize,
    /// Whether each worker is pinned to a core.
    pub pin: bool,
    /// How long a worker with nothing to do polls before it sleeps, in microseconds; 0 is not at all.
    pub spin_us: u32,
    /// After how much silence a connection is sent a ping.
    pub ping_interval_ms: u32,
    /// How long a peer may take to finish a request or a handshake.
    pub request_timeout_ms: u32,
    /// Milliseconds that a WebSocket message may take from its first byte to its last.
    pub message_timeout_ms: u32,
    /// How long an HTTP connection may rest between two requests.
    pub keep_alive_ms: u32,
    /// Over how long a shutdown spreads the closes of sessions; 0 is all at once.
    pub drain_spread_ms: u32,
    /// How long a shutdown then waits for connections to take their last bytes; 0 is not at all.
    pub drain_ms: u32,
    /// The folder of what outlives the server; `None`: nothing does.
    pub data_dir: Option<PathBuf>,
    /// Connections that wait in the operating system to be accepted, for each listening socket.
    pub backlog: u32,
    /// Connections of the whole server; 0 is as many as the limit of open files allows.
    pub connections: u32,
    /// The limits of one address.
    pub address_limits: AddressLimits,
    /// Bytes of memory that `/capacity` reckons with; 0 is what the cgroup or the machine has.
    pub memory_bytes: u64,
    /// Bytes of a WebSocket message, and of any frame of it.
    pub frame_bytes: usize,
    /// Fragments of a WebSocket message.
    pub fragments: usize,
    /// Bytes of an HTTP head.
    pub head_bytes: usize,
    /// Headers in an HTTP head.
    pub headers: usize,
    /// Bytes of an HTTP body.
    pub body_bytes: usize,
    /// Entries in the mailbox of a worker.
    pub mailbox_depth: usize,
    /// What is logged, and how.
    pub log: LogConfig,
    /// The apps: at least one.
    pub apps: Apps,
    /// The keys of the app `default`, if nothing was configured. They must be told to the user, and `listen`
    /// and
    /// `admin_listen` have loopback addresses only.
    pub development: Option<DevelopmentKeys>,
    /// Whether the admin listener serves the demo's page. If so, `development` has keys.
    pub demo: Demo,
    /// What the user should hear, a sentence each, though it keeps nothing from working.
    pub warnings: Vec<String>,
    worker_count: WorkerCount,
    file: Option<PathBuf>,
    secrets: Vec<AppSource>,
    access: AccessSource,
    /// The certificates that the running server obtains.
    acme: Option<Acme>,
    /// The groups of addresses with options of their own.
    groups: Vec<ListenerGroup>,
    /// The command line that the configuration was loaded with.
    args: Args,
}

/// Whether the demo's page is served.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub enum Demo {
    /// The demo's page is not served.
    #[default]
    Off,
    /// The demo's page is served, for the development app.
    On,
}

/// Where the number of workers comes from.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum WorkerCount {
    /// From the machine.
    OnePerCore,
    /// From the configuration.
    Fixed,
}

/// What is logged, and how.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct LogConfig {
    /// A level, or directives with commas between: `info,fanfare_server=debug`.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a line of the log.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The dashboard's password.
#[derive(Clone, Eq, PartialEq)]
pub struct Password(Box<str>);

impl Password {
    /// The allowed bytes of a password.
    pub const BYTES: std::ops::RangeInclusive<usize> = 12..=256;

    /// A password of [`Password::BYTES`] bytes.
    pub fn new(text: &str) -> Option<Self> {
        Self::BYTES.contains(&text.len()).then(|| Self(text.into()))
    }

    /// The password's text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").finish_non_exhaustive()
    }
}

/// The keys of a server that runs without configuration.
#[derive(Clone, Eq, PartialEq)]
pub struct DevelopmentKeys {
    /// For clients.
    pub client_key: String,
    /// For the back end.
    pub server_key: String,
}

impl fmt::Debug for DevelopmentKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevelopmentKeys").finish_non_exhaustive()
    }
}

impl Config {
    /// Reads flags, environment and file, and checks all of it.
    ///
    /// The environment is the process's (`std::env::vars_os()`), or whatever a test says. The file is the one
    /// `args` names, or else the variable `FANFARE_CONFIG`; there need not be one.
    pub fn load<K: Into<OsString>, V: Into<OsString>>(
        args: &Args,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Config, ConfigError> {
        let mut environment = Environment::new(environment);
        if args.action() == Action::Demo {
            let file = args.config.as_ref();
            return match file {
                Some(_) => {
                    Err(ConfigError::setting("--config", "is of no use to `fanfare demo`: leave it out"))
                }
                None => Config::validate(args, &mut environment, raw::File::default(), None),
            };
        }
        let named = environment.setting("FANFARE_CONFIG")?.map(PathBuf::from);
        let path = args.config.clone().or(named);
        let raw = path.as_deref().map(raw::File::read).transpose()?.unwrap_or_default();
        Config::validate(args, &mut environment, raw, path)
    }

    /// Reads a configuration from text, without flags or environment.
    pub fn from_toml(text: &str) -> Result<Config, ConfigError> {
        let path = Path::new("configuration");
        let raw = raw::File::parse(text, path)?;
        let nothing: [(OsString, OsString); 0] = [];
        Config::validate(&Args::default(), &mut Environment::new(nothing), raw, None)
    }

    /// The effective configuration, as a file that this server accepts.
    ///
    /// With [`Secrets::Hidden`] a placeholder stands for each key and secret that was written out. A file
    /// that has it is refused, with a sentence that says why. Keys and secrets that came from a variable stay
    /// references to that variable in either case.
    pub fn to_toml(&self, secrets: Secrets) -> String {
        print::to_toml(self, secrets)
    }

    /// What was loaded, in one line.
    pub fn summary(&self) -> String {
        let list = |items: Vec<String>| items.join(", ");
        let source = self.file.as_ref().map_or(String::from("no file"), |path| path.display().to_string());
        let shown = |listening: Listening<'_>| {
            let suffix = if listening.tls().is_some() { " (TLS)" } else { "" };
            format!("{}{suffix}", listening.endpoint)
        };
        let listen = list(self.listeners().map(shown).collect());
        let admin = self.admin_listen.as_ref().map_or(String::from("off"), Endpoint::to_string);
        let apps = list(self.apps.iter().map(|app| app.name.to_string()).collect());
        let development = if self.development.is_some() { " (development)" } else { "" };
        let issuers = list(self.issuers().iter().map(|issuer| issuer.endpoint.to_string()).collect());
        let issuers = match issuers.is_empty() {
            true => issuers,
            false => format!("; keys of issuers, which only a running server reads: {issuers}"),
        };
        format!(
            "ok: {source}; listen {listen}; admin {admin}; workers {}; apps {apps}{development}{issuers}",
            self.workers
        )
    }

    fn validate(
        args: &Args,
        environment: &mut Environment,
        raw: raw::File,
        file: Option<PathBuf>,
    ) -> Result<Config, ConfigError> {
        let server = &raw.server;
        let limits = &server.limits;
        let base = file.as_deref().and_then(Path::parent);
        let demo = if args.action() == Action::Demo { Demo::On } else { Demo::Off };
        let BuiltApps { apps, secrets, development } = apps::build(&raw.apps, environment, base, demo)?;
        let (access_tokens, access) = access::tokens(server, environment)?;
        let apps = apps.with_access_tokens(access_tokens);
        let data_dir = settings::data_dir(environment, server, base)?;
        let folders = Folders { base, data: data_dir.as_deref() };
        let acme = server.acme.as_ref().map(|raw| acme::build(raw, folders)).transpose()?;
        let issued = acme.as_ref().map(|acme| &acme.settings.issued);
        let groups = listeners::build(&server.listeners, base, issued)?;
        let settings::Workers { workers, worker_count } = settings::workers(args, environment, server)?;
        let mut config = Config {
            listen: settings::listen(args, environment, server)?,
            admin_listen: settings::admin_listen(args, environment, server)?,
            socket_mode: settings::socket_mode(environment, server)?,
            trusted_proxies: proxies::trusted(environment, server)?,
            forwarding_header: proxies::header(environment, server)?,
            dashboard_password: settings::dashboard_password(environment, server)?,
            workers,
            worker_count,
            pin: settings::pin(args, environment, server)?,
            spin_us: environment.number("server.spin_us", server.spin_us, 0, 0..=10_000)?,
            ping_interval_ms: environment.number(
                "server.ping_interval_ms",
                server.ping_interval_ms,
                25_000,
                100..=3_600_000,
            )?,
            request_timeout_ms: environment.number(
                "server.request_timeout_ms",
                server.request_timeout_ms,
                10_000,
                100..=600_000,
            )?,
            message_timeout_ms: environment.number(
                "server.message_timeout_ms",
                server.message_timeout_ms,
                60_000,
                100..=3_600_000,
            )?,
            keep_alive_ms: environment.number(
                "server.keep_alive_ms",
                server.keep_alive_ms,
                60_000,
                100..=3_600_000,
            )?,
            drain_spread_ms: environment.number(
                "server.drain_spread_ms",
                server.drain_spread_ms,
                5_000,
                0..=600_000,
            )?,
            drain_ms: environment.number("server.drain_ms", server.drain_ms, 10_000, 0..=600_000)?,
            data_dir,
            backlog: environment.number("server.backlog", server.backlog, 4096, 1..=65_535)?,
            connections: environment.number(
                "server.limits.connections",
                limits.connections,
                0,
                0..=16_777_216,
            )?,
            address_limits: settings::address_limits(environment, limits)?,
            memory_bytes: environment.number(
                "server.limits.memory_bytes",
                limits.memory_bytes,
                0,
                0..=1 << 50,
            )?,
            frame_bytes: environment.number(
                "server.limits.frame_bytes",
                limits.frame_bytes,
                1 << 20,
                16_384..=67_108_864,
            )?,
            fragments: environment.number("server.limits.fragments", limits.fragments, 1024, 1..=65_536)?,
            head_bytes: environment.number(
                "server.limits.head_bytes",
                limits.head_bytes,
                8192,
                1024..=65_536,
            )?,
            headers: environment.number("server.limits.headers", limits.headers, 64, 16..=256)?,
            body_bytes: environment.number(
                "server.limits.body_bytes",
                limits.body_bytes,
                1 << 20,
                16_384..=67_108_864,
            )?,
            mailbox_depth: environment.number(
                "server.limits.mailbox_depth",
                limits.mailbox_depth,
                65_536,
                64..=1_048_576,
            )?,
            log: settings::log(args, environment, &raw.log)?,
            apps,
            development,
            demo,
            warnings: Vec::new(),
            acme,
            groups,
            args: args.clone(),
            file,
            secrets,
            access,
        };
        config.warnings.extend(config.groups.iter().flat_map(|listener| listener.warnings.clone()));
        config.warnings.extend(config.acme.iter().flat_map(|acme| acme.warnings.clone()));
        config.check_relations()?;
        config.check_proxies()?;
        config.check_development(environment)?;
        channelstream::check_secrets(&config)?;
        config.warnings.extend(environment.check_unknown()?);
        Ok(config)
    }

    /// The triggers of each app, by the app's name.
    pub(crate) fn triggers(&self) -> impl Iterator<Item = (&str, &[Arc<Spec>])> {
        self.apps.iter().map(|app| &*app.name).zip(self.secrets.iter().map(|app| &*app.triggers))
    }

    /// The issuers whose keys are read while the server runs.
    pub(crate) fn issuers(&self) -> Vec<Issuer> {
        self.secrets.iter().flat_map(|app| app.issuers.clone()).collect()
    }

    /// The certificates that the running server obtains.
    pub(crate) fn acme(&self) -> Option<Arc<Settings>> {
        self.acme.as_ref().map(|acme| acme.settings.clone())
    }

    /// The most connections to back ends that the configured triggers have.
    pub(crate) fn trigger_connections(&self) -> u64 {
        let connections = |spec: &Arc<Spec>| match &spec.work {
            Work::Http(settings) => settings.connections as u64,
            Work::Script(_) | Work::Broken(_) => 0,
        };
        self.triggers().flat_map(|(_, specs)| specs).map(connections).sum()
    }

    /// Every address to listen on.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = Listening<'_>> {
        let plain = self.listen.iter().map(|endpoint| Listening { endpoint, place: None, group: None });
        let grouped = self.groups.iter().enumerate().flat_map(|(place, group)| {
            let listening = move |endpoint| Listening { endpoint, place: Some(place), group: Some(group) };
            group.endpoints.iter().map(listening)
        });
        plain.chain(grouped)
    }

    /// The TLS settings of a group of `[[server.listeners]]`.
    pub(crate) fn tls_of(&self, place: usize) -> Option<&TlsSettings> {
        self.groups.get(place)?.tls.as_ref()
    }

    /// When the first of the certificates in files expires, in seconds since 1970.
    pub(crate) fn certificate_expires_s(&self) -> Option<u64> {
        self.groups.iter().filter_map(|group| group.tls.as_ref()?.expires_s).min()
    }

    /// Checks the settings that depend on each other.
    fn check_relations(&self) -> Result<(), ConfigError> {
        let endpoints: Vec<&Endpoint> = self.listeners().map(|listening| listening.endpoint).collect();
        for (at, endpoint) in endpoints.iter().enumerate() {
            if endpoints[..at].iter().any(|other| other.is_same(endpoint)) {
                let problem = format!("names {endpoint}, where another listener serves already");
                return Err(ConfigError::setting("server.listeners", problem));
            }
        }
        let taken = endpoints.iter().find(|own| self.is_admin(own));
        if let Some((admin, taken)) = self.admin_listen.as_ref().zip(taken) {
            let problem = format!("is {admin}, where {taken} is served already: give it a port of its own");
            return Err(ConfigError::setting("server.admin_listen", problem));
        }
        for app in &self.apps {
            let limits = &app.limits;
            let (what, bytes) = if limits.message_bytes >= limits.profile_bytes {
                ("message_bytes", limits.message_bytes)
            } else {
                ("profile_bytes", limits.profile_bytes)
            };
            let key = |name: &str| format!("apps.{}.limits.{name}", app.name);
            let room = bytes + ENVELOPE_BYTES;
            let incoming = [
                ("server.limits.frame_bytes", self.frame_bytes),
                ("server.limits.body_bytes", self.body_bytes),
            ];
            for (name, limit) in incoming {
                if limit < room {
                    return Err(too_small(name, limit, room, &format!("`{}` is {bytes}", key(what))));
                }
            }
            if limits.outbound_bytes < 2 * room {
                let reason = format!("`{}` is {bytes}, and two of them must fit", key(what));
                return Err(too_small(&key("outbound_bytes"), limits.outbound_bytes, 2 * room, &reason));
            }
        }
        Ok(())
    }

    /// Checks that somebody may connect to each listener for proxies.
    fn check_proxies(&self) -> Result<(), ConfigError> {
        let is_for_proxies = |listener: &ListenerGroup| listener.preamble == Preamble::Proxy;
        match self.groups.iter().position(is_for_proxies) {
            Some(place) if self.trusted_proxies.is_empty() => {
                let key = format!("server.listeners[{place}].proxy_protocol");
                let problem = "is true, but nobody may connect: name the proxies in `server.trusted_proxies`";
                Err(ConfigError::setting(key, problem))
            }
            _ => Ok(()),
        }
    }

    /// Whether the admin plane would listen on this address too. Listening sockets share addresses on
    /// purpose, so the operating system would not object: it would send each of the two a part of the
    /// connections.
    fn is_admin(&self, endpoint: &Endpoint) -> bool {
        match (&self.admin_listen, endpoint) {
            (Some(Endpoint::Address(admin)), Endpoint::Address(address)) => {
                let same_host = admin.ip() == address.ip()
                    || admin.ip().is_unspecified()
                    || address.ip().is_unspecified();
                admin.port() != 0 && admin.port() == address.port() && same_host
            }
            (Some(admin), endpoint) => admin.is_same(endpoint),
            (None, _) => false,
        }
    }

    fn check_development(&mut self, environment: &mut Environment) -> Result<(), ConfigError> {
        if self.development.is_none() {
            if environment.setting(apps::DEVELOPMENT_VARIABLE)?.is_some() {
                let warning = "`FANFARE_DEV_KEY` has no effect, because the file configures apps.";
                self.warnings.push(String::from(warning));
            }
            return Ok(());
        }
        let mut endpoints = self.listeners().map(|listening| listening.endpoint).chain(&self.admin_listen);
        match endpoints.find(|endpoint| !endpoint.is_local()) {
            Some(endpoint) => Err(ConfigError::DevelopmentExposed(endpoint.clone())),
            None => Ok(()),
        }
    }
}

fn too_small(name: &str, value: usize, needed: usize, reason: &str) -> ConfigError {
    let problem = format!("is {value}: it must be at least {needed}, because {reason}");
    ConfigError::setting(name, problem)
}

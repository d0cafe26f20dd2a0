//! Counters of a worker, readable by the admin plane while the worker writes them.
//!
//! A worker counts in plain numbers and publishes them once per turn; nothing is looked up or locked for a
//! message.

use std::{
    iter::Sum,
    sync::atomic::{AtomicU64, Ordering},
};

use fanfare_core::{
    app::App,
    dialect::{DIALECTS, Dialect},
    engine::{self, AppCounts, DialectCounts},
};

use super::{
    admin::Observed,
    exposition::{Exposition, Kind, TextFormat},
    histogram::Histogram,
    memory::{KINDS, Ledger, PublishedMemory},
    process::{ProcessMetric, process_metrics},
};
use crate::{
    acme::{self, Acme},
    args::COMMIT,
    connection::Transport,
    http::channelstream::Place,
    issuer::{self, Issuer, Issuers},
};

/// Declares the counters: name in the exposition, description, kind.
macro_rules! metrics {
    ($($field:ident $kind:ident $help:literal)*) => {
        /// What a worker publishes. Plain numbers, as the worker counts them.
        #[derive(Copy, Clone, Default, Debug)]
        #[allow(missing_docs, reason = "each has its description in `METRICS`")]
        pub(crate) struct WorkerCounters { $(pub(crate) $field: u64,)* }

        /// Name, kind and description of each, in the order of the fields.
        pub(crate) const METRICS: &[(&str, Kind, &str)] = &[$((stringify!($field), Kind::$kind, $help),)*];

        impl WorkerCounters {
            fn values(&self) -> [u64; METRICS.len()] {
                [$(self.$field,)*]
            }
        }
    };
}

metrics! {
    connections Gauge "Open connections."
    sessions Gauge "Sessions."
    polling Gauge "Clients that poll, with or without a session."
    accepted_total Counter "Connections accepted."
    refused_total Counter "Connections refused because the server is full."
    proxy_refused_total Counter "Connections refused on a listener for proxies."
    address_refused_total Counter "Connections and handshakes refused by a limit of their address."
    failed_keys_total Counter "Keys, session tokens and signatures that were wrong."
    address_blocked_total Counter "Requests refused because too many keys from their address were wrong."
    accept_pauses_total Counter "Times accepting paused because descriptors or memory ran out."
    app_full_total Counter "Handshakes refused because the app is full."
    session_refusals_total Counter "Sessions refused on a WebSocket that was open already."
    handshakes_total Counter "WebSocket handshakes that succeeded."
    upgrades_total Counter "Clients that changed from polling to a WebSocket."
    polling_refused_total Counter "Polling clients refused at a limit of polling clients or connections."
    tls_handshakes_total Counter "TLS handshakes that succeeded."
    tls_resumptions_total Counter "TLS handshakes that resumed an earlier session by a ticket."
    tls_failures_total Counter "Connections closed because TLS or its handshake failed."
    requests_total Counter "HTTP requests answered."
    request_errors_total Counter "HTTP requests answered with status 400 or above."
    request_timeouts_total Counter "Requests and handshakes that did not arrive in time."
    stalled_total Counter "HTTP connections closed because the peer did not take their answers in time."
    closed_total Counter "Connections closed, for any reason."
    protocol_errors_total Counter "Connections closed because the peer broke the protocol."
    ping_timeouts_total Counter "Connections closed because the peer was silent for two ping intervals."
    message_timeouts_total Counter
        "Connections closed because a WebSocket message was begun and not finished in time."
    bad_tokens_total Counter "Connections closed because too many session tokens in a row did not verify."
    panics_total Counter
        "Connections closed because handling their input panicked: a fault of the server's. Report it."
    disconnected_total Counter "Sessions disconnected by their app's back end."
    drained_total Counter "Sessions told to come back because the server ends."
    removed_total Counter "Sessions closed because their app was removed by a reload."
    slow_consumers_total Counter "Sessions closed because their outbound queue passed its limit."
    congested_total Counter
        "Times a session began to lose publications because its outbound queue passed its limit."
    missed_total Counter
        "Publications dropped for sessions with a full outbound queue, counted when a gap message tells \
         them or the session ends."
    recovered_total Counter "Publications that sessions had missed and received on joining."
    unrecovered_total Counter "Joins that were told that what they missed is not remembered."
    parked_total Counter "Times a session whose connection was lost was kept for its client's return."
    resumed_total Counter "Parked sessions that a client resumed on a new connection."
    unresumed_total Counter
        "Kept sessions that ended: their time was over, a bound was passed, or frames were lost."
    expired_keys_total Counter "Sessions ended because the key of their client has expired."
    presence_ghost_seconds_max Gauge
        "For how long the session that was kept first has been without a connection, in seconds."
    member_lists_refused_total Counter "Lists of all members refused because they are too long."
    back_end_refusals_total Counter "Events of a back end's WebSocket that were refused."
    history_forgotten_total Counter "Messages forgotten because their app remembered too much."
    received_bytes_total Counter "Bytes read from connections."
    sent_bytes_total Counter "Bytes that the kernel took for connections."
    commands_total Counter "Commands and publications asked for, over any transport."
    command_errors_total Counter "Commands answered with an error."
    publications_total Counter "Messages accepted for publication."
    changes_total Counter "Edits and deletions of messages, by the worker that did them."
    notices_total Counter "Presence notices published."
    deliveries_total Counter "Publications handed to members of this worker."
    overloaded_total Counter "Messages and joins refused because a mailbox or an app's triggers had no room."
    rate_limited_total Counter "Messages refused by an app's rate limit."
    delegated_total Counter "Operations left to another worker that was inside the channel."
    mail_total Counter "Mail handled from other workers."
    mailbox_depth Gauge "Mail waiting."
    turns_total Counter "Turns of the loop that wrote something."
    writes_total Counter "Writes of a turn's output, one for each touched session."
}

impl WorkerCounters {
    /// Takes over what the engine counted.
    pub(crate) fn take_engine(&mut self, counters: engine::Counters) {
        self.commands_total = counters.commands;
        self.command_errors_total = counters.command_errors;
        self.publications_total = counters.publications;
        self.changes_total = counters.changes;
        self.notices_total = counters.notices;
        self.deliveries_total = counters.deliveries;
        self.missed_total = counters.missed;
        self.recovered_total = counters.recovered;
        self.unrecovered_total = counters.unrecovered;
        self.parked_total = counters.parked;
        self.resumed_total = counters.resumed;
        self.unresumed_total = counters.unresumed;
        self.expired_keys_total = counters.expired_keys;
        self.member_lists_refused_total = counters.member_lists_refused;
        self.history_forgotten_total = counters.history_forgotten;
        self.overloaded_total = counters.overloaded;
        self.rate_limited_total = counters.rate_limited;
        self.delegated_total = counters.delegated;
        self.mail_total = counters.mail;
        self.slow_consumers_total = counters.slow_consumers;
        self.congested_total = counters.congested;
        self.turns_total = counters.turns;
        self.writes_total = counters.writes;
    }
}

/// The published numbers of one worker.
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    counters: [AtomicU64; METRICS.len()],
    dialects: [[AtomicU64; DIALECT_METRICS.len()]; DIALECTS],
    /// Refused handshakes and requests of each dialect.
    refused: [AtomicU64; DIALECTS],
    pub(crate) times: Times,
    pub(crate) memory: PublishedMemory,
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            dialects: Default::default(),
            refused: Default::default(),
            times: Times::default(),
            memory: PublishedMemory::default(),
        }
    }
}

impl WorkerMetrics {
    /// Publishes. Only the worker may.
    pub(crate) fn publish(&self, counters: &WorkerCounters, dialects: &[DialectCounts; DIALECTS]) {
        for (published, value) in self.counters.iter().zip(counters.values()) {
            published.store(value, Ordering::Relaxed);
        }
        for (at, (published, counts)) in self.dialects.iter().zip(dialects).enumerate() {
            let refused = self.refused[at].load(Ordering::Relaxed);
            let values = [counts.sessions, counts.messages, counts.refusals + refused];
            for (published, value) in published.iter().zip(values) {
                published.store(value, Ordering::Relaxed);
            }
        }
    }

    /// Counts a handshake or a request that was refused. Only the worker may.
    pub(crate) fn count_refusal(&self, dialect: Dialect) {
        self.refused[dialect as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, metric: usize) -> u64 {
        self.counters[metric].load(Ordering::Relaxed)
    }
}

/// How long a worker takes. Only the worker observes.
#[derive(Default, Debug)]
pub(crate) struct Times {
    /// Every turn, from the end of its wait for events to its end.
    pub(crate) turn: Histogram,
    /// The stages of turns with output, in the order of [`STAGES`].
    pub(crate) stages: [Histogram; STAGES.len()],
    /// Handshakes of WebSockets by transport, from accepting the connection.
    pub(crate) handshakes: [Histogram; Transport::ALL.len()],
}

/// The stages of a delivery: input is read, decoded, checked and numbered; mail and operations of other
/// workers are handled; members are linked to what they receive; the kernel has the output.
pub(crate) const STAGES: [&str; 4] = ["read", "ordered", "linked", "written"];

const MEMORY_HELP: &str = "Memory by what it is used for. The kinds add up to the resident memory.";
const TURN_HELP: &str = "Time of a turn of the loop, without the wait for events.";
const STAGE_HELP: &str = "Time that a turn with output spends in each stage of a delivery.";
const HANDSHAKE_HELP: &str =
    "Time from accepting a connection to its WebSocket, if the handshake is its first request.";

/// What clients of each dialect do: name, kind and description.
const DIALECT_METRICS: [(&str, Kind, &str); 3] = [
    ("dialect_connections", Kind::Gauge, "Clients of the dialect that have a session."),
    (
        "dialect_messages_total",
        Kind::Counter,
        "Messages of the dialect's clients: frames and packets, without heartbeats.",
    ),
    (
        "dialect_refusals_total",
        Kind::Counter,
        "Commands, handshakes and requests of the dialect's clients that were refused.",
    ),
];

/// What the node knows of an app: name, kind and description.
pub(super) const APP_METRICS: [(&str, Kind, &str); 19] = [
    ("app_sessions", Kind::Gauge, "Sessions of the app."),
    ("parked_sessions", Kind::Gauge, "Sessions of the app that are kept without a connection."),
    ("parked_bytes", Kind::Gauge, "Bytes of output that parked sessions of the app keep."),
    ("app_history_bytes", Kind::Gauge, "Bytes that the app's channels remember."),
    ("app_history_forgotten_total", Kind::Counter, "The app's part of history_forgotten_total."),
    ("app_sessions_opened_total", Kind::Counter, "Sessions of the app that began."),
    ("app_publications_total", Kind::Counter, "The app's part of publications_total."),
    ("app_deliveries_total", Kind::Counter, "The app's part of deliveries_total."),
    ("app_command_errors_total", Kind::Counter, "Commands of the app's sessions answered with an error."),
    ("app_rate_limited_total", Kind::Counter, "The app's part of rate_limited_total."),
    ("directory_users", Kind::Gauge, "Users that the app's directory keeps."),
    ("directory_clients", Kind::Gauge, "Clients in the app's directory, those included that have not come."),
    ("directory_waiting", Kind::Gauge, "Clients that a back end has announced and that have not come."),
    ("directory_bytes", Kind::Gauge, "Approximate bytes of the messages and notices in the directory."),
    ("directory_collected_total", Kind::Counter, "Announced clients whose time was over before they came."),
    ("directory_refused_total", Kind::Counter, "Calls refused because the directory is full."),
    ("directory_forgotten_total", Kind::Counter, "Messages and notices dropped because of history_bytes."),
    ("revoked_users", Kind::Gauge, "Users of the app whose session tokens are revoked."),
    ("revoked_tokens", Kind::Gauge, "Ids of the app's revoked session tokens."),
];

/// The values of [`APP_METRICS`], of one app or of several together.
#[derive(Copy, Clone, Default)]
pub(super) struct AppValues(pub(super) [u64; APP_METRICS.len()]);

impl AppValues {
    pub(super) fn of(observed: &Observed, app: &App) -> Self {
        let Observed { node, control, .. } = observed;
        let (sizes, counts) = control.places.of(app).map(Place::counts).unwrap_or_default();
        let app = app.id;
        let AppCounts { sessions, publications, deliveries, command_errors, rate_limited } = node.counts(app);
        Self([
            node.sessions(app) as u64,
            node.parked_sessions(app) as u64,
            node.parked_bytes(app) as u64,
            node.remembered(app) as u64,
            node.forgotten(app),
            sessions,
            publications,
            deliveries,
            command_errors,
            rate_limited,
            sizes.users as u64,
            sizes.connections as u64,
            sizes.waiting as u64,
            sizes.bytes as u64,
            counts.collected,
            counts.refused,
            counts.forgotten,
            node.revoked_users(app) as u64,
            node.revoked_tokens(app) as u64,
        ])
    }
}

impl Sum for AppValues {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let add = |Self(a): Self, Self(b): Self| Self(std::array::from_fn(|at| a[at] + b[at]));
        all.fold(Self::default(), add)
    }
}

/// The most apps with values of their own. Further apps have their sum, by the name [`OTHER_APPS`], which no
/// app has.
const APPS_SHOWN: usize = 100;
const OTHER_APPS: &str = "(others)";

const CERTIFICATE_HELP: &str =
    "Time at which the first certificate expires, in seconds since 1970; 0 without a certificate.";

/// Every number of the server, the workers and the apps.
pub(crate) fn exposition(observed: &Observed, format: TextFormat) -> String {
    let mut text = Exposition::new(format);
    put_server(&mut text, observed);
    put_apps(&mut text, observed);
    put_issuers(&mut text, &observed.errands.issuers);
    put_acme(&mut text, &observed.errands.acme);
    for (at, (name, kind, help)) in METRICS.iter().enumerate() {
        text.begin(&format!("fanfare_{name}"), *kind, help);
        for (worker, metrics) in observed.workers.iter().enumerate() {
            text.sample(&[("worker", &worker)], metrics.read(at));
        }
    }
    put_dialects(&mut text, observed);
    put_times(&mut text, observed);
    if let Some(triggers) = observed.triggers() {
        triggers.put_metrics(&mut text);
    }
    text.finish()
}

fn put_dialects(text: &mut Exposition, observed: &Observed) {
    for (at, (name, kind, help)) in DIALECT_METRICS.iter().enumerate() {
        text.begin(&format!("fanfare_{name}"), *kind, help);
        for dialect in Dialect::ALL {
            let of = |worker: &WorkerMetrics| worker.dialects[*dialect as usize][at].load(Ordering::Relaxed);
            let sum: u64 = observed.workers.iter().map(|worker| of(worker)).sum();
            text.sample(&[("dialect", &dialect.name())], sum);
        }
    }
}

fn put_server(text: &mut Exposition, observed: &Observed) {
    text.begin("fanfare_channels", Kind::Gauge, "Channels.");
    text.sample(&[], observed.node.channels());
    text.begin("fanfare_certificate_expiry_timestamp_seconds", Kind::Gauge, CERTIFICATE_HELP);
    text.sample(&[], observed.certificate_expires_s().unwrap_or(0));
    text.begin("fanfare_build_info", Kind::Gauge, "Always 1.");
    let (version, commit) = (env!("CARGO_PKG_VERSION"), COMMIT.unwrap_or("unknown"));
    text.sample(&[("version", &version), ("commit", &commit)], 1);
    for ProcessMetric { name, kind, help, value } in process_metrics(observed.started_unix_s) {
        text.begin(name, kind, help);
        text.sample(&[], value);
    }
    text.begin("fanfare_memory_bytes", Kind::Gauge, MEMORY_HELP);
    for (kind, bytes) in KINDS.iter().zip(Ledger::read(observed).bytes) {
        text.sample(&[("kind", kind)], bytes);
    }
    let mut total = |name, help, count: &AtomicU64| {
        text.begin(name, Kind::Counter, help);
        text.sample(&[], count.load(Ordering::Relaxed));
    };
    let help = "Reloads of the configuration that took effect.";
    total("fanfare_reloads_total", help, &observed.reloads);
    let help = "Reloads of the configuration that were refused.";
    total("fanfare_reload_failures_total", help, &observed.failed_reloads);
    let help = "Times an address found no room in the table of limits by address.";
    total("fanfare_address_table_overflows_total", help, &observed.control.addresses.overflows);
}

fn put_apps(text: &mut Exposition, observed: &Observed) {
    let apps = observed.node.apps();
    let mut values: Vec<(&str, AppValues)> =
        apps.iter().take(APPS_SHOWN).map(|app| (&*app.name, AppValues::of(observed, app))).collect();
    if apps.iter().len() > APPS_SHOWN {
        let others = apps.iter().skip(APPS_SHOWN).map(|app| AppValues::of(observed, app)).sum();
        values.push((OTHER_APPS, others));
    }
    for (at, (name, kind, help)) in APP_METRICS.iter().enumerate() {
        text.begin(&format!("fanfare_{name}"), *kind, help);
        for (app, AppValues(values)) in &values {
            // The name of an app has no character that would have to be escaped.
            text.sample(&[("app", app)], values[at]);
        }
    }
}

fn put_issuers(text: &mut Exposition, issuers: &Issuers) {
    let mut has_issuers = false;
    issuers.visit(|_, _| has_issuers = true);
    for issuer::Metric { name, kind, help, value } in issuer::METRICS.iter().filter(|_| has_issuers) {
        text.begin(name, *kind, help);
        issuers.visit(|issuer, numbers| {
            let Issuer { app, place, .. } = issuer;
            text.sample(&[("app", app), ("issuer", place)], value(issuer, numbers));
        });
    }
}

fn put_acme(text: &mut Exposition, acme: &Acme) {
    let mut has_domains = false;
    acme.visit(|_, _, _| has_domains = true);
    for acme::Metric { name, kind, help, value } in acme::METRICS.iter().filter(|_| has_domains) {
        text.begin(name, *kind, help);
        acme.visit(|domain, expires_s, numbers| {
            text.sample(&[("domain", &domain)], value(expires_s, numbers));
        });
    }
}

fn put_times(text: &mut Exposition, observed: &Observed) {
    let times = || observed.workers.iter().map(|worker| &worker.times);
    text.begin("fanfare_turn_seconds", Kind::Histogram, TURN_HELP);
    for (worker, times) in times().enumerate() {
        text.histogram(&[("worker", &worker)], &Histogram::sum([&times.turn]));
    }
    text.begin("fanfare_delivery_stage_seconds", Kind::Histogram, STAGE_HELP);
    for (at, stage) in STAGES.iter().enumerate() {
        text.histogram(&[("stage", stage)], &Histogram::sum(times().map(|times| &times.stages[at])));
    }
    text.begin("fanfare_handshake_seconds", Kind::Histogram, HANDSHAKE_HELP);
    for (at, transport) in Transport::ALL.iter().enumerate() {
        let of_workers = times().map(|times| &times.handshakes[at]);
        text.histogram(&[("transport", &transport.name())], &Histogram::sum(of_workers));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fanfare_core::{
        app::{App, AppKeys, Apps},
        engine::Node,
    };

    use super::*;
    use crate::control::{admin::Errands, background::Background};
    use crate::worker::Control;

    fn observed(apps: usize) -> Observed {
        let keys =
            AppKeys::new(&["client-key-0123456789"], &["server-key-0123456789"]).expect("they are keys");
        let apps = (0..apps).map(|at| App::new(&format!("app-{at}"), keys.clone())).collect();
        let apps = Apps::new(apps).expect("they are apps");
        let config = crate::config::Config::from_toml("[apps.a]\nclient_key = 'client-key-0123456789'");
        let config = Arc::new(config.expect("it is a configuration"));
        let workers = vec![Arc::new(WorkerMetrics::default()), Default::default()];
        let node = Arc::new(Node::new(apps, 2, 64, 1));
        let control = Arc::new(Control::new(Vec::new(), 0, config.clone(), &node));
        let background = Arc::new(Background::start().expect("a thread starts"));
        let issuers = Issuers::start(background.clone(), config.issuers());
        let acme = Acme::start(background, config.acme()).expect("there is no folder to make");
        let errands = Errands { issuers, acme };
        Observed::new(node, workers, control, errands, None)
    }

    #[test]
    fn exposition_shows_every_metric_of_every_worker() {
        let observed = observed(2);
        observed.workers[1]
            .publish(&WorkerCounters { accepted_total: 7, ..WorkerCounters::default() }, &Default::default());
        let text = exposition(&observed, TextFormat::Prometheus);
        assert!(text.contains("fanfare_channels 0\n"));
        assert!(text.contains("fanfare_accepted_total{worker=\"1\"} 7\n"));
        assert_eq!(text.matches("{app=").count(), 2 * APP_METRICS.len());
        let counters =
            text.lines().filter(|line| line.contains("{worker=") && !line.contains("turn_seconds"));
        assert_eq!(counters.count(), 2 * METRICS.len());
        let dialects = text.matches("{dialect=").count();
        assert_eq!(dialects, DIALECTS * DIALECT_METRICS.len(), "the label has few values");
        assert_eq!(text.matches("{stage=\"linked\",le=").count(), 19);
    }

    #[test]
    fn many_apps_have_few_samples() {
        let text = exposition(&observed(APPS_SHOWN + 20), TextFormat::Prometheus);
        assert_eq!(text.matches("{app=").count(), (APPS_SHOWN + 1) * APP_METRICS.len());
        assert!(text.contains("fanfare_app_sessions{app=\"(others)\"} 0\n"));
    }
}

//! Counters of a worker, readable by the admin plane while the worker writes them.
//!
//! A worker counts in plain numbers and publishes them once per turn; nothing is looked up or locked for a
//! message.

use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_core::{
    engine::{self, Node},
    id::AppId,
};

use super::{
    admin::Observed,
    process::{ProcessMetric, process_metrics},
};
use crate::{
    args::COMMIT,
    issuer::{self, Issuer},
};

/// Declares the counters: name in the exposition, description, kind.
macro_rules! metrics {
    ($($field:ident $kind:ident $help:literal)*) => {
        /// What a worker publishes. Plain numbers, as the worker counts them.
        #[derive(Copy, Clone, Default, Debug)]
        #[allow(missing_docs, reason = "each has its description in `METRICS`")]
        pub(crate) struct WorkerCounters { $(pub(crate) $field: u64,)* }

        /// Name, kind and description of each, in the order of the fields.
        pub(crate) const METRICS: &[(&str, &str, &str)] = &[$((stringify!($field), stringify!($kind), $help),)*];

        impl WorkerCounters {
            fn values(&self) -> [u64; METRICS.len()] {
                [$(self.$field,)*]
            }
        }
    };
}

metrics! {
    connections gauge "Open connections."
    sessions gauge "Sessions."
    polling gauge "Clients that poll, with or without a session."
    accepted_total counter "Connections accepted."
    refused_total counter "Connections refused because the server is full."
    accept_pauses_total counter "Times accepting paused because descriptors or memory ran out."
    app_full_total counter "Handshakes refused because the app is full."
    session_refusals_total counter "Sessions refused on a WebSocket that was open already."
    handshakes_total counter "WebSocket handshakes that succeeded."
    upgrades_total counter "Clients that changed from polling to a WebSocket."
    polling_refused_total counter "Polling clients refused at a limit of polling clients or connections."
    tls_handshakes_total counter "TLS handshakes that succeeded."
    tls_resumptions_total counter "TLS handshakes that resumed an earlier session by a ticket."
    tls_failures_total counter "Connections closed because TLS or its handshake failed."
    requests_total counter "HTTP requests answered."
    request_errors_total counter "HTTP requests answered with status 400 or above."
    request_timeouts_total counter "Requests and handshakes that did not arrive in time."
    stalled_total counter "HTTP connections closed because the peer did not take their answers in time."
    closed_total counter "Connections closed, for any reason."
    protocol_errors_total counter "Connections closed because the peer broke the protocol."
    ping_timeouts_total counter "Connections closed because the peer was silent for two ping intervals."
    message_timeouts_total counter "Connections closed because a WebSocket message was begun and not finished in time."
    bad_tokens_total counter "Connections closed because too many session tokens in a row did not verify."
    panics_total counter "Connections closed because handling their input panicked: a fault of the server's. Report it."
    disconnected_total counter "Sessions disconnected by their app's back end."
    drained_total counter "Sessions told to come back because the server ends."
    slow_consumers_total counter "Sessions closed because their outbound queue passed its limit."
    congested_total counter "Times a session began to lose publications because its outbound queue passed its limit."
    missed_total counter "Publications dropped for sessions with a full outbound queue, counted when a gap message tells them or the session ends."
    recovered_total counter "Publications that sessions had missed and received on joining."
    unrecovered_total counter "Joins that were told that what they missed is not remembered."
    parked_total counter "Times a session whose connection was lost was kept for its client's return."
    resumed_total counter "Parked sessions that a client resumed on a new connection."
    unresumed_total counter "Kept sessions that ended: their time was over, a bound was passed, or frames were lost."
    presence_ghost_seconds_max gauge "For how long the session that was kept first has been without a connection, in seconds."
    member_lists_refused_total counter "Lists of all members refused because they are too long."
    back_end_refusals_total counter "Events of a back end's WebSocket that were refused."
    history_forgotten_total counter "Messages forgotten because their app remembered too much."
    received_bytes_total counter "Bytes read from connections."
    sent_bytes_total counter "Bytes that the kernel took for connections."
    commands_total counter "Commands and publications asked for, over any transport."
    command_errors_total counter "Commands answered with an error."
    publications_total counter "Messages accepted for publication."
    changes_total counter "Edits and deletions of messages, by the worker that did them."
    notices_total counter "Presence notices published."
    deliveries_total counter "Publications handed to members of this worker."
    overloaded_total counter "Messages refused because a worker's mailbox was full."
    rate_limited_total counter "Messages refused by an app's rate limit."
    delegated_total counter "Operations left to another worker that was inside the channel."
    mail_total counter "Mail handled from other workers."
    mailbox_depth gauge "Mail waiting."
    turns_total counter "Turns of the loop that wrote something."
    writes_total counter "Writes of a turn's output, one for each touched session."
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
pub(crate) struct WorkerMetrics([AtomicU64; METRICS.len()]);

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl WorkerMetrics {
    /// Publishes. Only the worker may.
    pub(crate) fn publish(&self, counters: &WorkerCounters) {
        for (published, value) in self.0.iter().zip(counters.values()) {
            published.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self, metric: usize) -> u64 {
        self.0[metric].load(Ordering::Relaxed)
    }
}

/// What the node knows of each app: name, kind and description.
const APP_METRICS: [(&str, &str, &str); 5] = [
    ("app_sessions", "gauge", "Sessions of the app."),
    ("parked_sessions", "gauge", "Sessions of the app that are kept without a connection."),
    ("parked_bytes", "gauge", "Bytes of output that parked sessions of the app keep."),
    ("app_history_bytes", "gauge", "Bytes that the app's channels remember."),
    ("app_history_forgotten_total", "counter", "The app's part of history_forgotten_total."),
];

pub(super) fn app_values(node: &Node, app: AppId) -> [u64; APP_METRICS.len()] {
    [
        node.sessions(app) as u64,
        node.parked_sessions(app) as u64,
        node.parked_bytes(app) as u64,
        node.remembered(app) as u64,
        node.forgotten(app),
    ]
}

const CERTIFICATE_HELP: &str =
    "Time at which the first certificate expires, in seconds since 1970; 0 without a certificate.";

/// Every worker's and app's numbers in the Prometheus text format, version 0.0.4.
pub(crate) fn exposition(observed: &Observed) -> String {
    let Observed { workers, node, .. } = observed;
    let mut text = String::with_capacity(8192);
    let mut line = |args: std::fmt::Arguments<'_>| {
        text.push_str(&args.to_string());
        text.push('\n');
    };
    line(format_args!("# HELP fanfare_channels Channels.\n# TYPE fanfare_channels gauge"));
    line(format_args!("fanfare_channels {}", node.channels()));
    let name = "certificate_expiry_timestamp_seconds";
    line(format_args!("# HELP fanfare_{name} {CERTIFICATE_HELP}\n# TYPE fanfare_{name} gauge"));
    line(format_args!("fanfare_{name} {}", observed.certificate_expires_s.load(Ordering::Relaxed)));
    let (version, commit) = (env!("CARGO_PKG_VERSION"), COMMIT.unwrap_or("unknown"));
    line(format_args!("# HELP fanfare_build_info Always 1.\n# TYPE fanfare_build_info gauge"));
    line(format_args!("fanfare_build_info{{version=\"{version}\",commit=\"{commit}\"}} 1"));
    for ProcessMetric { name, kind, help, value } in process_metrics() {
        line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"));
    }
    let reloads = [
        ("reloads_total", "Reloads of the configuration that took effect.", &observed.reloads),
        (
            "reload_failures_total",
            "Reloads of the configuration that were refused.",
            &observed.failed_reloads,
        ),
    ];
    for (name, help, count) in reloads {
        line(format_args!("# HELP fanfare_{name} {help}\n# TYPE fanfare_{name} counter"));
        line(format_args!("fanfare_{name} {}", count.load(Ordering::Relaxed)));
    }
    for (at, (name, kind, help)) in APP_METRICS.iter().enumerate() {
        line(format_args!("# HELP fanfare_{name} {help}\n# TYPE fanfare_{name} {kind}"));
        for app in node.apps().iter() {
            // A name has no character that would have to be escaped.
            line(format_args!("fanfare_{name}{{app=\"{}\"}} {}", app.name, app_values(node, app.id)[at]));
        }
    }
    let mut has_issuers = false;
    observed.issuers.visit(|_, _| has_issuers = true);
    for (name, kind, help, value) in issuer::METRICS.iter().filter(|_| has_issuers) {
        line(format_args!("# HELP fanfare_{name} {help}\n# TYPE fanfare_{name} {kind}"));
        observed.issuers.visit(|issuer, numbers| {
            let Issuer { app, place, .. } = issuer;
            let value = value(issuer, numbers);
            line(format_args!("fanfare_{name}{{app=\"{app}\",issuer=\"{place}\"}} {value}"));
        });
    }
    for (at, (name, kind, help)) in METRICS.iter().enumerate() {
        line(format_args!("# HELP fanfare_{name} {help}\n# TYPE fanfare_{name} {kind}"));
        for (worker, metrics) in workers.iter().enumerate() {
            line(format_args!("fanfare_{name}{{worker=\"{worker}\"}} {}", metrics.read(at)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fanfare_core::app::{App, AppKeys, Apps};

    use super::*;
    use crate::{control::background::Background, issuer::Issuers, worker::Control};

    #[test]
    fn exposition_shows_every_metric_of_every_worker() {
        let keys =
            AppKeys::new(&["client-key-0123456789"], &["server-key-0123456789"]).expect("they are keys");
        let apps = Apps::new(vec![App::new("a", keys.clone()), App::new("b", keys)]).expect("they are apps");
        let config = crate::config::Config::from_toml("[apps.a]\nclient_key = 'client-key-0123456789'");
        let config = Arc::new(config.expect("it is a configuration"));
        let workers = vec![Arc::new(WorkerMetrics::default()), Default::default()];
        workers[1].publish(&WorkerCounters { accepted_total: 7, ..WorkerCounters::default() });
        let control = Arc::new(Control::new(Vec::new(), 0, config.clone()));
        let node = Arc::new(Node::new(apps, 2, 64, 1));
        let background = Arc::new(Background::start().expect("a thread starts"));
        let issuers = Issuers::start(background, config.issuers());
        let text = exposition(&Observed::new(node, workers, control, issuers, None));
        assert!(text.contains("fanfare_channels 0\n"));
        assert!(text.contains("fanfare_accepted_total{worker=\"1\"} 7\n"));
        assert_eq!(text.matches("# TYPE").count(), METRICS.len() + APP_METRICS.len() + 9);
        assert_eq!(text.matches("{app=").count(), 2 * APP_METRICS.len());
        assert_eq!(text.matches("{worker=").count(), 2 * METRICS.len());
    }
}

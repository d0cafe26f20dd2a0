//! The numbers that workers and apps publish, as JSON.

use std::{
    sync::atomic::Ordering,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use fanfare_core::json::write_string;

use super::{Observed, handshake::dialects};
use crate::control::{
    histogram::{BOUNDS_NS, Histogram, Observations},
    memory::{KINDS, Ledger},
    metrics::{AppValues, METRICS, STAGES},
};

/// Writes `{"time_ms","uptime_ms","ready","capacity","channels","apps":[…],"metrics":[…],"memory":{…},
/// "latency":{…}}`.
pub(super) fn json(observed: &Observed) -> BytesMut {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let uptime = observed.started.elapsed().as_millis();
    let (ready, capacity) = (observed.ready.load(Ordering::Relaxed), observed.control.capacity.total());
    let channels = observed.node.channels();
    let mut out = BytesMut::with_capacity(16 << 10);
    put(&mut out, format_args!("{{\"time_ms\":{now},\"uptime_ms\":{uptime},\"ready\":{ready},"));
    put(&mut out, format_args!("\"capacity\":{capacity},\"channels\":{channels},\"apps\":["));
    for (at, app) in observed.node.apps().iter().enumerate() {
        let AppValues([sessions, parked, parked_bytes, history_bytes, forgotten, ..]) =
            AppValues::of(observed, app);
        put(&mut out, format_args!("{}{{\"name\":", if at > 0 { "," } else { "" }));
        write_string(&mut out, &app.name);
        put(&mut out, format_args!(",\"sessions\":{sessions},\"parked_sessions\":{parked}"));
        put(&mut out, format_args!(",\"parked_bytes\":{parked_bytes},\"history_bytes\":{history_bytes}"));
        put(&mut out, format_args!(",\"history_forgotten\":{forgotten},\"dialects\":["));
        for (at, dialect) in dialects(app).enumerate() {
            put(&mut out, format_args!("{}\"{dialect}\"", if at > 0 { "," } else { "" }));
        }
        put(&mut out, format_args!("]}}"));
    }
    put(&mut out, format_args!("],\"metrics\":["));
    for (at, (name, kind, help)) in METRICS.iter().enumerate() {
        put(
            &mut out,
            format_args!(
                "{}{{\"name\":\"{name}\",\"kind\":\"{}\",\"help\":",
                if at > 0 { "," } else { "" },
                kind.name()
            ),
        );
        write_string(&mut out, help);
        put(&mut out, format_args!(",\"values\":["));
        for (worker, metrics) in observed.workers.iter().enumerate() {
            put(&mut out, format_args!("{}{}", if worker > 0 { "," } else { "" }, metrics.read(at)));
        }
        put(&mut out, format_args!("]}}"));
    }
    put(&mut out, format_args!("],"));
    put_memory(&mut out, observed);
    put_latency(&mut out, observed);
    put(&mut out, format_args!("}}"));
    out
}

fn put_memory(out: &mut BytesMut, observed: &Observed) {
    let Ledger { bytes, resident } = Ledger::read(observed);
    put(out, format_args!("\"memory\":{{\"resident\":{resident},\"kinds\":["));
    for (at, (kind, bytes)) in KINDS.iter().zip(bytes).enumerate() {
        let comma = if at > 0 { "," } else { "" };
        put(out, format_args!("{comma}{{\"kind\":\"{kind}\",\"bytes\":{bytes}}}"));
    }
    put(out, format_args!("]}},"));
}

fn put_latency(out: &mut BytesMut, observed: &Observed) {
    put(out, format_args!("\"latency\":{{\"bounds_ns\":{BOUNDS_NS:?},\"stages\":["));
    for (at, stage) in STAGES.iter().enumerate() {
        let of_workers = observed.workers.iter().map(|worker| &worker.times.stages[at]);
        let Observations { counts, .. } = Histogram::sum(of_workers);
        let comma = if at > 0 { "," } else { "" };
        put(out, format_args!("{comma}{{\"stage\":\"{stage}\",\"counts\":{counts:?}}}"));
    }
    put(out, format_args!("]}}"));
}

pub(super) fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    std::fmt::Write::write_fmt(out, text).expect("a buffer in memory grows");
}

//! The largest and the busiest channels of an app.
//!
//! A census looks at every channel of the table, on the admin thread, when somebody asks and the last one is
//! not fresh. How busy a channel is follows from its offsets in two of them. A census looks at whole shards
//! until it has seen [`CHANNELS`] channels: of a larger table it ranks those.

use std::{
    cmp::Reverse,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use fanfare_core::{channel::Channel, engine::Node, id::AppId, json::write_string, limits::TABLE_SHARDS};
use hashbrown::HashMap;

use super::overview::put;

/// Channels that one census looks at.
const CHANNELS: usize = 100_000;

/// Channels that are named, for each order.
const RANKED: usize = 20;

/// For how long a census is fresh, and how long the last one of an app is kept.
const FRESH: Duration = Duration::from_millis(1500);
const KEPT: Duration = Duration::from_secs(30);

/// The last census of each app that somebody looks at.
#[derive(Default)]
pub(super) struct Censuses(Mutex<HashMap<AppId, Census>>);

struct Census {
    at: Instant,
    /// Offsets by epoch, which no two channels share.
    offsets: HashMap<u64, u64>,
    json: Bytes,
}

/// A channel and its place.
struct Counted {
    channel: Arc<Channel>,
    members: usize,
    /// Messages in a thousand seconds.
    rate: u64,
}

impl Censuses {
    /// `{"seen","partial","by_members":[{"channel","members","rate"}],"by_rate":[…]}`.
    pub(super) fn json(&self, node: &Node, app: AppId) -> Bytes {
        let mut censuses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        censuses.retain(|_, census| census.at.elapsed() < KEPT);
        if let Some(census) = censuses.get(&app).filter(|census| census.at.elapsed() < FRESH) {
            return census.json.clone();
        }
        let census = Census::take(node, app, censuses.get(&app));
        let json = census.json.clone();
        censuses.insert(app, census);
        json
    }
}

impl Census {
    fn take(node: &Node, app: AppId, before: Option<&Census>) -> Self {
        let at = Instant::now();
        let passed_ms = before.map_or(0, |before| before.at.elapsed().as_millis()) as u64;
        let mut offsets = HashMap::new();
        let mut counted = Vec::new();
        let mut seen = 0;
        let mut shard = 0;
        while shard < TABLE_SHARDS && seen < CHANNELS {
            node.visit_channels(shard, |channel| {
                seen += 1;
                if channel.app() != app {
                    return;
                }
                let offset = channel.offset();
                offsets.insert(channel.epoch(), offset);
                // A channel that came into being since has had all its messages since.
                let earlier = before.map(|before| before.offsets.get(&channel.epoch()).copied().unwrap_or(0));
                let since = earlier.map_or(0, |earlier| offset.saturating_sub(earlier));
                let rate = (since * 1_000_000).checked_div(passed_ms).unwrap_or(0);
                counted.push(Counted { channel: channel.clone(), members: channel.members(), rate });
            });
            shard += 1;
        }
        let mut out = BytesMut::new();
        put(&mut out, format_args!("{{\"seen\":{seen},\"partial\":{},", shard < TABLE_SHARDS));
        put_ranking(&mut out, "by_members", &mut counted, |counted| (counted.members, counted.rate));
        put(&mut out, format_args!(","));
        put_ranking(&mut out, "by_rate", &mut counted, |counted| (counted.rate, counted.members));
        put(&mut out, format_args!("}}"));
        Self { at, offsets, json: out.freeze() }
    }
}

fn put_ranking<K: Ord>(out: &mut BytesMut, name: &str, counted: &mut [Counted], key: impl Fn(&Counted) -> K) {
    let order = |counted: &Counted| Reverse(key(counted));
    if counted.len() > RANKED {
        counted.select_nth_unstable_by_key(RANKED, order);
    }
    let count = RANKED.min(counted.len());
    let ranked = &mut counted[..count];
    ranked.sort_by_key(order);
    put(out, format_args!("\"{name}\":["));
    for (at, Counted { channel, members, rate }) in ranked.iter().enumerate() {
        put(out, format_args!("{}{{\"channel\":", if at > 0 { "," } else { "" }));
        write_string(out, channel.name().unwrap_or_default());
        let (whole, thousandths) = (rate / 1000, rate % 1000);
        put(out, format_args!(",\"members\":{members},\"rate\":{whole}.{thousandths:03}}}"));
    }
    put(out, format_args!("]"));
}

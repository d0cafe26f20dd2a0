//! The largest and the busiest channels of an app.
//!
//! A census reads every channel of the table on the admin thread. A census is made when a page asks and the
//! last census is stale. A channel's rate follows from its offsets in two censuses. A census reads whole
//! shards until it has read [`CHANNELS`] channels, so in a larger table some channels are not ranked.

use std::{
    cmp::Reverse,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use fanfare_core::{channel::Channel, engine::Node, id::AppId, json::write_string, limits::TABLE_SHARDS};
use hashbrown::HashMap;

use super::overview::put;

/// The channels after which a census reads no further shard.
const CHANNELS: usize = 100_000;

/// The number of channels in each ranking.
const RANKED: usize = 20;

/// How long a census is fresh, and how long the last census of an app is kept.
const FRESH: Duration = Duration::from_millis(1500);
const KEPT: Duration = Duration::from_secs(30);

/// The last census of each app that a page asks about.
#[derive(Default)]
pub(super) struct Censuses(Mutex<HashMap<AppId, Census>>);

struct Census {
    at: Instant,
    /// The channels' offsets by epoch. No two channels have the same epoch.
    offsets: HashMap<u64, u64>,
    json: Bytes,
}

/// A channel with its counts.
struct Counted {
    channel: Arc<Channel>,
    members: usize,
    /// The channel's messages in a thousand seconds.
    rate: u64,
}

impl Censuses {
    /// Writes `{"seen","partial","by_members":[{"channel","members","rate"}],"by_rate":[…]}`.
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
                // All messages of a channel that was created after the last census are newer than that
                // census.
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

//! The invariants of delivery, judged by nothing but what receivers saw: order, gap, duplicate, audience.
//!
//! It knows neither the engine nor a clock, so whoever drives sessions by whatever means may use it: give it
//! one [`Stay`] for each time a receiver was in a stream, and what senders know of their own messages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// Who sends and receives; numbers are the driver's.
pub(crate) type Peer = u32;

/// Tells publications apart; a driver makes each one unique.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub(crate) enum Key {
    /// The `number`-th message of `sender`.
    Message { sender: Peer, number: u32 },
    /// A presence notice about `peer`, whose profile was `profile`.
    Notice { kind: Kind, peer: Peer, profile: u32 },
}

/// What a notice tells.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub(crate) enum Kind {
    Join,
    Leave,
    Update,
}

impl Key {
    fn by(&self) -> Peer {
        match *self {
            Key::Message { sender, .. } => sender,
            Key::Notice { peer, .. } => peer,
        }
    }
}

/// A publication as it was received.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Seen {
    pub(crate) key: Key,
    pub(crate) offset: Option<u64>,
}

/// One time that a receiver was in a stream, from joining to leaving.
#[derive(Clone, Default, Debug)]
pub(crate) struct Stay {
    pub(crate) receiver: Peer,
    /// Names the stream: app, channel and epoch, as the driver likes.
    pub(crate) stream: String,
    /// The position at which it joined, if it was told.
    pub(crate) from: Option<u64>,
    pub(crate) seen: Vec<Seen>,
    /// Offsets that its own messages got meanwhile, by the answers to them.
    pub(crate) own_offsets: Vec<u64>,
    /// How many of its own messages may have got an offset of which it was not told, because it was cut off.
    pub(crate) own_unknown: usize,
    /// It was still in the stream, and had received all there was, when the run ended.
    pub(crate) to_the_end: bool,
}

/// What is wrong.
#[derive(Debug)]
pub(crate) enum Violation {
    /// The same publication twice.
    Duplicate { stay: Box<Stay>, key: Key },
    /// An offset that is not above the one before it, or not above the position.
    NotRising { stay: Box<Stay>, offset: u64 },
    /// A message that was for the receiver did not come.
    Gap { stay: Box<Stay>, offset: u64, missing: Option<Key> },
    /// A publication that the stream had while the receiver was in it did not come.
    Missing { stay: Box<Stay>, key: Key },
    /// Two receivers saw different messages under one offset.
    Disagreement { stream: String, offset: u64, keys: [Key; 2] },
    /// Receivers saw these in contradictory orders.
    Order { stream: String, keys: Vec<Key> },
    /// Messages of one sender came in another order than they were sent.
    SenderOrder { stay: Box<Stay>, key: Key },
    /// A sender received what it asked not to.
    Echo { stay: Box<Stay>, key: Key },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { stay, key } => write!(f, "{key:?} came twice: {stay:?}"),
            Self::NotRising { stay, offset } => write!(f, "offset {offset} came too late: {stay:?}"),
            Self::Gap { stay, offset, missing } => {
                write!(f, "offset {offset} did not come, which is {missing:?}: {stay:?}")
            }
            Self::Missing { stay, key } => write!(f, "{key:?} did not come, or only here: {stay:?}"),
            Self::Disagreement { stream, offset, keys: [one, other] } => {
                write!(f, "offset {offset} of {stream} is {one:?} to one and {other:?} to another")
            }
            Self::Order { stream, keys } => write!(f, "orders contradict each other in {stream}: {keys:?}"),
            Self::SenderOrder { stay, key } => write!(f, "{key:?} came after later ones: {stay:?}"),
            Self::Echo { stay, key } => write!(f, "{key:?} came, but no echo was wanted: {stay:?}"),
        }
    }
}

/// Collects stays and judges them together.
#[derive(Default)]
pub(crate) struct Checker {
    pub(crate) stays: Vec<Stay>,
    /// Publications whose originator wanted no echo.
    pub(crate) unechoed: HashSet<Key>,
    /// For some streams, all they ever carried, in order: what a peer saw that was in it from first to last.
    pub(crate) references: HashMap<String, Vec<Key>>,
}

impl Checker {
    /// Adds what another has collected.
    pub(crate) fn merge(&mut self, other: Checker) {
        self.stays.extend(other.stays);
        self.unechoed.extend(other.unechoed);
        self.references.extend(other.references);
    }

    /// Judges everything.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        let mut streams: BTreeMap<&str, Vec<&Stay>> = BTreeMap::new();
        for stay in &self.stays {
            self.check_alone(stay)?;
            streams.entry(&stay.stream).or_default().push(stay);
        }
        for (stream, stays) in streams {
            let messages = agreed_offsets(stream, &stays)?;
            let last = messages.last_key_value().map(|(&offset, _)| offset);
            for stay in &stays {
                self.check_offsets(stay, &messages, last)?;
            }
            check_one_order(stream, &stays)?;
            if let Some(reference) = self.references.get(stream) {
                let places = reference.iter().enumerate().map(|(place, &key)| (key, place)).collect();
                for stay in &stays {
                    self.check_against(stay, reference, &places)?;
                }
            }
        }
        Ok(())
    }

    fn not_for(&self, stay: &Stay, key: &Key) -> bool {
        key.by() == stay.receiver && self.unechoed.contains(key)
    }

    /// What one stay shows by itself.
    fn check_alone(&self, stay: &Stay) -> Result<(), Violation> {
        let boxed = || Box::new(stay.clone());
        let mut keys = HashSet::new();
        let mut senders: HashMap<Peer, u32> = HashMap::new();
        for &Seen { key, .. } in &stay.seen {
            if !keys.insert(key) {
                return Err(Violation::Duplicate { stay: boxed(), key });
            }
            if self.not_for(stay, &key) {
                return Err(Violation::Echo { stay: boxed(), key });
            }
            if let Key::Message { sender, number } = key {
                let before = senders.insert(sender, number);
                if before.is_some_and(|before| before > number) {
                    return Err(Violation::SenderOrder { stay: boxed(), key });
                }
            }
        }
        Ok(())
    }

    /// Offsets rise from the position by one each, but for messages that were not for the receiver.
    fn check_offsets(
        &self,
        stay: &Stay,
        messages: &BTreeMap<u64, Key>,
        last: Option<u64>,
    ) -> Result<(), Violation> {
        let mut offsets = stay.seen.iter().filter_map(|seen| seen.offset).peekable();
        let Some(mut at) = stay.from.or_else(|| offsets.peek().map(|first| first - 1)) else { return Ok(()) };
        let mut unknown = stay.own_unknown;
        let mut excused = |offset: u64| match messages.get(&offset) {
            Some(key) => self.not_for(stay, key),
            None if stay.own_offsets.contains(&offset) => true,
            None => {
                let may = unknown > 0;
                unknown = unknown.saturating_sub(1);
                may
            }
        };
        let end = if stay.to_the_end { last } else { None };
        for (offset, was_seen) in offsets.map(|offset| (offset, true)).chain(end.map(|end| (end, false))) {
            if was_seen && offset <= at {
                return Err(Violation::NotRising { stay: Box::new(stay.clone()), offset });
            }
            while at < offset {
                at += 1;
                if !(was_seen && at == offset || excused(at)) {
                    let missing = messages.get(&at).copied();
                    return Err(Violation::Gap { stay: Box::new(stay.clone()), offset: at, missing });
                }
            }
        }
        Ok(())
    }

    /// A stay is an uninterrupted part of the reference, but for what was not for the receiver.
    fn check_against(
        &self,
        stay: &Stay,
        reference: &[Key],
        places: &HashMap<Key, usize>,
    ) -> Result<(), Violation> {
        let mut next = None;
        let end = stay.to_the_end.then_some(reference.len());
        let seen = stay.seen.iter().map(|seen| places.get(&seen.key).copied().ok_or(seen.key));
        for place in seen.chain(end.map(Ok)) {
            let place = place.map_err(|key| Violation::Missing { stay: Box::new(stay.clone()), key })?;
            let from = next.unwrap_or(place);
            if place < from {
                let keys = vec![reference[place], reference[from - 1]];
                return Err(Violation::Order { stream: stay.stream.clone(), keys });
            }
            if let Some(&key) = reference[from..place].iter().find(|key| !self.not_for(stay, key)) {
                return Err(Violation::Missing { stay: Box::new(stay.clone()), key });
            }
            next = Some(place + 1);
        }
        Ok(())
    }
}

/// Which message every offset is; all receivers agree.
fn agreed_offsets(stream: &str, stays: &[&Stay]) -> Result<BTreeMap<u64, Key>, Violation> {
    let mut messages = BTreeMap::new();
    for seen in stays.iter().flat_map(|stay| &stay.seen) {
        let Some(offset) = seen.offset else { continue };
        let agreed = *messages.entry(offset).or_insert(seen.key);
        if agreed != seen.key {
            let keys = [agreed, seen.key];
            return Err(Violation::Disagreement { stream: stream.into(), offset, keys });
        }
    }
    Ok(messages)
}

/// There is an order that every receiver's view is a part of: the union of their orders has no cycle (Kahn's
/// sort).
fn check_one_order(stream: &str, stays: &[&Stay]) -> Result<(), Violation> {
    let mut keys: Vec<Key> = stays.iter().flat_map(|stay| &stay.seen).map(|seen| seen.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let place = |seen: &Seen| keys.binary_search(&seen.key).expect("all are there");
    let mut steps: Vec<(usize, usize)> = Vec::new();
    for stay in stays {
        let mut places = stay.seen.iter().map(place);
        let Some(mut from) = places.next() else { continue };
        for to in places {
            steps.push((from, to));
            from = to;
        }
    }
    steps.sort_unstable();
    steps.dedup();
    let mut before = vec![0; keys.len()];
    steps.iter().for_each(|&(_, to)| before[to] += 1);
    let mut free: Vec<usize> = (0..keys.len()).filter(|&key| before[key] == 0).collect();
    while let Some(key) = free.pop() {
        let start = steps.partition_point(|&(from, _)| from < key);
        for &(_, to) in steps[start..].iter().take_while(|&&(from, _)| from == key) {
            before[to] -= 1;
            if before[to] == 0 {
                free.push(to);
            }
        }
    }
    let stuck: Vec<Key> = (0..keys.len()).filter(|&key| before[key] > 0).map(|key| keys[key]).collect();
    match stuck.is_empty() {
        true => Ok(()),
        false => Err(Violation::Order { stream: stream.into(), keys: stuck }),
    }
}

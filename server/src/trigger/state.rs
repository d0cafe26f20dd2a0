//! The states that scripts keep from call to call: a JSON text for each channel. All texts of a trigger have
//! one bound.
//!
//! Only one script thread uses the states of a trigger, so it never waits for the lock.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;

/// The most bytes of a trigger's states for all channels.
pub(crate) const TRIGGER_STATE_BYTES: usize = 4 << 20;

/// The approximate bytes of an entry besides its texts.
const ENTRY_BYTES: usize = 96;

/// The states of a trigger by channel. The key `""` is for messages without a channel.
#[derive(Default)]
pub(crate) struct States(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_channel: HashMap<Box<str>, Entry>,
    bytes: usize,
    /// A counter that grows with each use of a state.
    clock: u64,
}

struct Entry {
    text: Box<str>,
    used: u64,
}

impl States {
    /// The state of a channel.
    pub(crate) fn of(&self, channel: &str) -> Option<Box<str>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let now = kept.clock;
        let entry = kept.by_channel.get_mut(channel)?;
        entry.used = now;
        Some(entry.text.clone())
    }

    /// Stores the state of a channel. `{}` and `null` are not stored. Returns how many states of other
    /// channels were dropped.
    pub(crate) fn keep(&self, channel: &str, text: Box<str>) -> usize {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = |text: &str| text.len() + channel.len() + ENTRY_BYTES;
        if let Some(old) = kept.by_channel.remove(channel) {
            kept.bytes -= cost(&old.text);
        }
        if matches!(&*text, "{}" | "null") {
            return 0;
        }
        kept.bytes += cost(&text);
        kept.clock += 1;
        let used = kept.clock;
        kept.by_channel.insert(channel.into(), Entry { text, used });
        kept.make_room()
    }
}

impl Kept {
    /// Drops the quarter of the states that was used least recently, so that dropping is rare.
    fn make_room(&mut self) -> usize {
        if self.bytes <= TRIGGER_STATE_BYTES {
            return 0;
        }
        let mut used: Vec<u64> = self.by_channel.values().map(|entry| entry.used).collect();
        let quarter = used.len() / 4;
        let (_, &mut limit, _) = used.select_nth_unstable(quarter);
        let before = self.by_channel.len();
        // The state that was just used stays, even if it is the only one.
        let newest = self.clock;
        self.by_channel.retain(|_, entry| entry.used > limit || entry.used == newest);
        self.bytes =
            self.by_channel.iter().map(|(name, entry)| name.len() + entry.text.len() + ENTRY_BYTES).sum();
        before - self.by_channel.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_kept_for_its_channel_and_an_empty_one_is_not() {
        let states = States::default();
        assert_eq!(states.of("a"), None);
        assert_eq!(states.keep("a", r#"{"n":1}"#.into()), 0);
        assert_eq!((states.of("a").as_deref(), states.of("b")), (Some(r#"{"n":1}"#), None));
        states.keep("a", "{}".into());
        assert_eq!(states.of("a"), None);
        assert_eq!(states.0.lock().expect("no panic").bytes, 0);
    }

    #[test]
    fn states_are_bounded_and_those_unused_longest_go() {
        let states = States::default();
        let text = "x".repeat(64 << 10);
        let mut dropped = 0;
        for n in 0..200 {
            dropped += states.keep(&n.to_string(), text.clone().into());
            assert!(states.0.lock().expect("no panic").bytes <= TRIGGER_STATE_BYTES);
            assert!(states.of("0").is_some(), "it is used all the time");
        }
        assert!(dropped >= 100, "{dropped}");
        assert!(states.of("199").is_some() && states.of("1").is_none());
    }
}

//! The first faults of a run, one by one: what somebody needs who looks for the reason. Written down where a
//! fault is found, which is rare; a run without faults pays nothing.

use serde::{Deserialize, Serialize};

/// Faults of a run that are kept.
pub(crate) const MAX_FAULTS: usize = 1000;

/// What a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    Lost,
    NotArrived,
    Repeated,
    Reordered,
    Misdelivered,
    Corrupt,
    Hole,
}

/// One fault. What is not known of it is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FaultRecord {
    pub(crate) kind: FaultKind,
    /// When it was found, or when what is missing was due, by [`crate::clock`].
    pub(crate) at_ns: u64,
    /// The worker and its connection.
    pub(crate) subscriber: (usize, u32),
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) publisher: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sequence: Option<u32>,
    /// The number in the channel, and the one that the subscriber had seen before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_offset: Option<u64>,
}

/// The first faults that one worker found, or all of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct FaultLog(Vec<FaultRecord>);

impl FaultRecord {
    pub(crate) fn new(kind: FaultKind, at_ns: u64, subscriber: (usize, u32)) -> Self {
        Self {
            kind,
            at_ns,
            subscriber,
            channel: None,
            publisher: None,
            sequence: None,
            offset: None,
            last_offset: None,
        }
    }

    /// The message that it is about.
    pub(crate) fn of_message(self, publisher: u32, sequence: u32) -> Self {
        Self { publisher: Some(publisher), sequence: Some(sequence), ..self }
    }

    pub(crate) fn in_channel(self, channel: String) -> Self {
        Self { channel: Some(channel), ..self }
    }

    pub(crate) fn with_offsets(self, offset: Option<u64>, last_offset: Option<u64>) -> Self {
        Self { offset, last_offset, ..self }
    }
}

impl FaultLog {
    /// Whether another one is kept.
    pub(crate) fn has_room(&self) -> bool {
        self.0.len() < MAX_FAULTS
    }

    pub(crate) fn put(&mut self, fault: FaultRecord) {
        if self.has_room() {
            self.0.push(fault);
        }
    }

    /// Takes in another worker's, and keeps the first of both.
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
        self.0.sort_by_key(|fault| fault.at_ns);
        self.0.truncate(MAX_FAULTS);
    }

    pub(crate) fn records(&self) -> &[FaultRecord] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_thousand_of_all_workers_are_kept() {
        let log = |first: u64, step: usize| {
            let mut log = FaultLog::default();
            for number in (first..).step_by(step).take(MAX_FAULTS + 1) {
                log.put(FaultRecord::new(FaultKind::Lost, number, (0, 0)));
            }
            log
        };
        let (mut odd, even) = (log(1, 2), log(0, 2));
        assert!(!odd.has_room());
        odd.add(&even);
        assert!(odd.records().iter().map(|fault| fault.at_ns).eq(0..MAX_FAULTS as u64));
    }
}

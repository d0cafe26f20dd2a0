//! The metrics of triggers, for the admin listener.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::Serialize;

use crate::control::{
    exposition::{Exposition, Kind},
    histogram::{Histogram, Observations},
};

/// The most triggers with metrics of their own. Further triggers have their sum, by the name [`OTHERS`],
/// which no app and no trigger has.
const TRIGGERS_SHOWN: usize = 100;
const OTHERS: &str = "(others)";

/// The most lines of the log for a trigger's failures, and for the lines of its script, in a second.
const FAILURES_PER_SECOND: u64 = 10;
const LINES_PER_SECOND: u64 = 100;

/// The counts of a trigger since it was made. A change of the trigger's settings keeps the counts.
#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) passed: AtomicU64,
    pub(crate) replaced: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// The errors: exceeded budgets of time, memory and output, stuck runs, and any other error.
    pub(crate) out_of_time: AtomicU64,
    /// The runs that were stuck, and those that did not begin because others were.
    pub(crate) stuck: AtomicU64,
    pub(crate) out_of_memory: AtomicU64,
    pub(crate) out_of_output: AtomicU64,
    pub(crate) thrown: AtomicU64,
    pub(crate) states_dropped: AtomicU64,
    /// Lines that were not logged, because the trigger had too many.
    pub(crate) unlogged: AtomicU64,
    /// Runs that wait for their turn.
    pub(crate) queued: AtomicU64,
    /// The times of the runs.
    times: Histogram,
    failures: LineBudget,
    lines: LineBudget,
    pub(crate) http: HttpNumbers,
}

/// The further counts of an http trigger.
#[derive(Default)]
pub(crate) struct HttpNumbers {
    pub(crate) requests: AtomicU64,
    /// The requests that brought no verdict at all.
    pub(crate) failed: AtomicU64,
    /// The attempts to connect.
    pub(crate) connects: AtomicU64,
    /// How often the breaker opened.
    pub(crate) opened: AtomicU64,
    /// 1 while the breaker is open, and 0 while it is closed.
    pub(crate) is_open: AtomicU64,
    /// The events that failed because the breaker was open, and those for which the back end gave no verdict.
    pub(crate) shed: AtomicU64,
    pub(crate) no_verdict: AtomicU64,
}

/// The lines of the present second.
#[derive(Default)]
struct LineBudget {
    second: AtomicU64,
    lines: AtomicU64,
}

impl LineBudget {
    /// Whether one more line may be logged. Relaxed: lines that are logged at the same time may be a few too
    /// many.
    fn take(&self, time_ms: u64, most: u64) -> bool {
        let second = time_ms / 1000;
        if self.second.fetch_max(second, Ordering::Relaxed) < second {
            self.lines.store(0, Ordering::Relaxed);
        }
        self.lines.fetch_add(1, Ordering::Relaxed) < most
    }
}

/// Adds one to a count. Relaxed: the count orders no other memory access.
pub(crate) fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

/// The counts of a trigger, as the dashboard shows them.
#[derive(Serialize)]
pub(crate) struct Counts {
    passed: u64,
    replaced: u64,
    refused: u64,
    failed: u64,
    queued: u64,
    /// The CPU times of the runs, by bucket.
    times: Vec<u64>,
}

impl Numbers {
    pub(super) fn counts(&self) -> Counts {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let budgets = [&self.out_of_time, &self.out_of_memory, &self.out_of_output];
        let failures = budgets.into_iter().chain([&self.stuck, &self.thrown]);
        Counts {
            passed: read(&self.passed),
            replaced: read(&self.replaced),
            refused: read(&self.refused),
            failed: failures.map(read).sum(),
            queued: read(&self.queued),
            times: Histogram::sum([&self.times]).counts.to_vec(),
        }
    }

    /// Counts a run of this time.
    pub(crate) fn took(&self, time: Duration) {
        self.times.observe(time);
    }

    /// Counts one waiting run less.
    pub(crate) fn dequeued(&self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a failure at this time may be logged. One that may not is counted.
    pub(crate) fn may_log_failure(&self, time_ms: u64) -> bool {
        self.counted(self.failures.take(time_ms, FAILURES_PER_SECOND))
    }

    /// Whether a line of the script at this time may be logged. One that may not is counted.
    pub(crate) fn may_log_line(&self, time_ms: u64) -> bool {
        self.counted(self.lines.take(time_ms, LINES_PER_SECOND))
    }

    fn counted(&self, may_log: bool) -> bool {
        if !may_log {
            count(&self.unlogged);
        }
        may_log
    }
}

/// A value of the further label, and the number of runs with it.
type Value = (&'static str, fn(&Numbers) -> &AtomicU64);

/// A metric of triggers: its name, kind and description, and its values with the value of a further label.
struct Metric {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// The name of the further label; empty if there is none.
    label: &'static str,
    values: &'static [Value],
}

const METRICS: [Metric; 5] = [
    Metric {
        name: "fanfare_trigger_verdicts_total",
        kind: Kind::Counter,
        help: "Verdicts of a trigger. A run that failed has none.",
        label: "verdict",
        values: &[
            ("pass", |numbers| &numbers.passed),
            ("replace", |numbers| &numbers.replaced),
            ("refuse", |numbers| &numbers.refused),
        ],
    },
    Metric {
        name: "fanfare_trigger_errors_total",
        kind: Kind::Counter,
        help: "Failed runs of a trigger: a budget, a stuck run, the script, the back end, an open breaker.",
        label: "why",
        values: &[
            ("time", |numbers| &numbers.out_of_time),
            ("stuck", |numbers| &numbers.stuck),
            ("memory", |numbers| &numbers.out_of_memory),
            ("output", |numbers| &numbers.out_of_output),
            ("thrown", |numbers| &numbers.thrown),
            ("back_end", |numbers| &numbers.http.no_verdict),
            ("breaker", |numbers| &numbers.http.shed),
        ],
    },
    Metric {
        name: "fanfare_trigger_states_dropped_total",
        kind: Kind::Counter,
        help: "Channels whose state was dropped because a trigger keeps too much.",
        label: "",
        values: &[("", |numbers| &numbers.states_dropped)],
    },
    Metric {
        name: "fanfare_trigger_unlogged_total",
        kind: Kind::Counter,
        help: "Lines of a trigger that were not logged because it logs too much.",
        label: "",
        values: &[("", |numbers| &numbers.unlogged)],
    },
    Metric {
        name: "fanfare_trigger_queue",
        kind: Kind::Gauge,
        help: "Runs that wait for their turn.",
        label: "",
        values: &[("", |numbers| &numbers.queued)],
    },
];

/// The further metrics of triggers that ask a back end.
const HTTP_METRICS: [Metric; 5] = [
    Metric {
        name: "fanfare_trigger_requests_total",
        kind: Kind::Counter,
        help: "Requests of a trigger to the back end.",
        label: "",
        values: &[("", |numbers| &numbers.http.requests)],
    },
    Metric {
        name: "fanfare_trigger_request_failures_total",
        kind: Kind::Counter,
        help: "Requests of a trigger that brought no verdict.",
        label: "",
        values: &[("", |numbers| &numbers.http.failed)],
    },
    Metric {
        name: "fanfare_trigger_connects_total",
        kind: Kind::Counter,
        help: "Attempts of a trigger to connect to the back end.",
        label: "",
        values: &[("", |numbers| &numbers.http.connects)],
    },
    Metric {
        name: "fanfare_trigger_breaker_opened_total",
        kind: Kind::Counter,
        help: "How often the breaker of a trigger opened.",
        label: "",
        values: &[("", |numbers| &numbers.http.opened)],
    },
    Metric {
        name: "fanfare_trigger_breaker_open",
        kind: Kind::Gauge,
        help: "1 while the breaker of a trigger is open: the back end is not asked.",
        label: "",
        values: &[("", |numbers| &numbers.http.is_open)],
    },
];

/// A trigger with its counts.
pub(super) struct Counted<'a> {
    pub(super) app: &'a str,
    pub(super) trigger: &'a str,
    pub(super) numbers: &'a Numbers,
    pub(super) asks_back_end: bool,
}

impl Metric {
    /// Writes the metric of these triggers; nothing without triggers.
    fn put(&self, text: &mut Exposition, triggers: &[&Counted<'_>]) {
        let (shown, others) = triggers.split_at(triggers.len().min(TRIGGERS_SHOWN));
        if shown.is_empty() {
            return;
        }
        text.begin(self.name, self.kind, self.help);
        for (word, number) in self.values {
            let further: &[_] = match self.label {
                "" => &[],
                label => &[(label, word as &dyn std::fmt::Display)],
            };
            let value = |counted: &&Counted<'_>| number(counted.numbers).load(Ordering::Relaxed);
            for counted in shown {
                let labels = [("app", &counted.app as _), ("trigger", &counted.trigger as _)];
                text.sample(&[&labels, further].concat(), value(counted));
            }
            if !others.is_empty() {
                let labels = [("app", &OTHERS as _), ("trigger", &OTHERS as _)];
                text.sample(&[&labels, further].concat(), others.iter().map(value).sum::<u64>());
            }
        }
    }
}

/// Writes the metrics of triggers; nothing without triggers.
pub(super) fn put(text: &mut Exposition, triggers: &[Counted<'_>]) {
    if triggers.is_empty() {
        return;
    }
    let all: Vec<&Counted<'_>> = triggers.iter().collect();
    let asking: Vec<_> = triggers.iter().filter(|counted| counted.asks_back_end).collect();
    METRICS.iter().for_each(|metric| metric.put(text, &all));
    HTTP_METRICS.iter().for_each(|metric| metric.put(text, &asking));
    let (shown, others) = triggers.split_at(triggers.len().min(TRIGGERS_SHOWN));
    text.begin(
        "fanfare_trigger_seconds",
        Kind::Histogram,
        "Time of the runs of a trigger; of scripts, CPU time.",
    );
    let times = |of: &[Counted<'_>]| -> Observations {
        Histogram::sum(of.iter().map(|counted| &counted.numbers.times))
    };
    for counted in shown.chunks(1) {
        let labels = [("app", &counted[0].app as _), ("trigger", &counted[0].trigger as _)];
        text.histogram(&labels, &times(counted));
    }
    if !others.is_empty() {
        text.histogram(&[("app", &OTHERS), ("trigger", &OTHERS)], &times(others));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::exposition::TextFormat;

    #[test]
    fn many_triggers_have_few_samples() {
        let numbers = Numbers::default();
        numbers.took(Duration::from_micros(3));
        count(&numbers.replaced);
        let counted = || Counted { app: "a", trigger: "t", numbers: &numbers, asks_back_end: true };
        let written = |triggers: usize| {
            let triggers: Vec<_> = (0..triggers).map(|_| counted()).collect();
            let mut text = Exposition::new(TextFormat::Prometheus);
            put(&mut text, &triggers);
            text.finish()
        };
        assert_eq!(written(0), "");
        let one = written(1);
        assert!(
            one.contains("fanfare_trigger_verdicts_total{app=\"a\",trigger=\"t\",verdict=\"replace\"} 1\n")
        );
        assert!(one.contains("fanfare_trigger_seconds_count{app=\"a\",trigger=\"t\"} 1\n"));
        let lines = |text: &str| text.matches("app=").count();
        let many = written(TRIGGERS_SHOWN + 20);
        assert_eq!(lines(&many), (TRIGGERS_SHOWN + 1) * lines(&one));
        let others =
            "fanfare_trigger_verdicts_total{app=\"(others)\",trigger=\"(others)\",verdict=\"replace\"} 20\n";
        assert!(many.contains(others));
    }

    #[test]
    fn a_trigger_logs_a_bounded_number_of_lines_a_second() {
        let numbers = Numbers::default();
        let logged = |time_ms| (0..1000).filter(|_| numbers.may_log_line(time_ms)).count() as u64;
        assert_eq!((logged(5_000), logged(5_999), logged(6_000)), (LINES_PER_SECOND, 0, LINES_PER_SECOND));
        assert!(numbers.may_log_failure(6_000), "failures have a budget of their own");
        assert_eq!(numbers.unlogged.load(Ordering::Relaxed), 3000 - 2 * LINES_PER_SECOND);
    }
}

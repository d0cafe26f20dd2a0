//! What makes a run no result, and whose fault that is. A generator that was the limit, or could not see, is
//! never the server's fault.

use super::{Limit, Report, Row, SATURATED};
use crate::{
    ledger::Faults,
    plan::{ConnectPlan, Pace, Work},
    verdict::{Blame, Reason},
};

/// Share of messages that may be late before the generator is blamed.
const LATE_SHARE: f64 = 0.01;
/// Share of what is due in a window that must come at all.
const ARRIVED_SHARE: f64 = 0.98;

impl Report {
    /// Finds all problems and remarks.
    pub(super) fn judge(
        &mut self,
        failure: Option<Reason>,
        first_failure: Option<String>,
        refusal: Option<String>,
    ) {
        self.limit = self.find_limit();
        if let Some(Reason { blame, sentence }) = failure {
            self.put_reason(blame, sentence);
        }
        if let Some(sentence) = first_failure {
            let sentence = format!("{} cycles failed, the first so: {sentence}", self.failed);
            self.put_reason(Blame::Server, sentence);
        }
        self.judge_deliveries();
        self.judge_answers(refusal);
        self.judge_arrivals();
        self.judge_slow();
        self.judge_generator();
        self.put_remarks();
    }

    /// Who was the limit, in any window of an open loop, or in all of a closed one.
    fn find_limit(&self) -> Limit {
        let is_busy = |row: &Row| row.busy_share > Some(SATURATED) || row.late_share > LATE_SHARE;
        let is_any = |of: &dyn Fn(&Row) -> bool| match self.plan.work.is_closed_loop() {
            true => of(&self.summary),
            false => self.windows.iter().any(of),
        };
        let generator = is_any(&is_busy);
        let server = is_any(&|row| row.server_saturated == Some(true));
        match (server, generator) {
            (true, true) => Limit::Both,
            (true, false) => Limit::Server,
            (false, true) => Limit::Generator,
            (false, false) if self.summary.server_saturated.is_some() => Limit::Neither,
            (false, false) => Limit::Unknown,
        }
    }

    /// Who is to blame for what did not come in time: a generator that had no time to read it. One that was
    /// late with sending by some milliseconds explains nothing that did not come for seconds.
    fn delay_blame(&self) -> Blame {
        let is_overloaded = self.windows.iter().any(|row| row.busy_share > Some(SATURATED));
        if is_overloaded { Blame::Generator } else { Blame::Server }
    }

    fn is_generator_limit(&self) -> bool {
        matches!(self.limit, Limit::Generator | Limit::Both)
    }

    fn judge_deliveries(&mut self) {
        let Faults { lost, not_arrived, repeated, reordered, misdelivered, corrupt, holes } = self.faults;
        let kinds = [
            (lost, "lost"),
            (repeated, "repeated"),
            (reordered, "reordered"),
            (misdelivered, "misdelivered"),
            (corrupt, "corrupt"),
            (holes, "holes in the numbering"),
        ];
        let wrong: Vec<_> = kinds.iter().filter(|(count, _)| *count > 0).collect();
        if !wrong.is_empty() {
            let list: Vec<_> = wrong.iter().map(|(count, kind)| format!("{count} {kind}")).collect();
            self.put_reason(Blame::Server, format!("Deliveries went wrong: {}.", list.join(", ")));
        }
        if not_arrived > 0 {
            let blame = self.delay_blame();
            let whose = match blame {
                Blame::Generator => "the generator was the limit",
                _ => "nothing shows whether they ever would have",
            };
            let drain = self.plan.drain_seconds;
            self.put_reason(
                blame,
                format!(
                    "{not_arrived} deliveries had not arrived when the drain of {drain} s ended; {whose}."
                ),
            );
        }
    }

    /// What the server said, or did not say.
    fn judge_answers(&mut self, refusal: Option<String>) {
        if let Some(code) = refusal {
            let sentence = format!("The server refused {} messages, the first as {code}.", self.refused);
            self.put_reason(Blame::Server, sentence);
        }
        if self.gaps > 0 {
            let sentence = format!("The server said that it left out {} deliveries.", self.gaps);
            self.put_reason(Blame::Server, sentence);
        }
        if self.returns.unrecovered > 0 {
            let sentence = format!(
                "{} of those that came back did not recover: the server remembers too little of their \
                 channels.",
                self.returns.unrecovered
            );
            self.put_reason(Blame::Server, sentence);
        }
        if let Some(failed) = self.verdicts.map(|verdicts| verdicts.failed).filter(|failed| *failed > 0) {
            self.put_reason(Blame::Server, format!("Triggers failed for {failed} messages."));
        }
        if self.returns.lapsed > 0 {
            let sentence = format!(
                "{} of those that came back found their sessions ended: the server keeps them too short a \
                 time, or keeps too little of them.",
                self.returns.lapsed
            );
            self.put_reason(Blame::Server, sentence);
        }
        let blame = self.delay_blame();
        if self.stragglers > 0 {
            let sentence = format!("{} connections were not back when a window ended.", self.stragglers);
            self.put_reason(blame, sentence);
        }
        if self.unfinished > 0 {
            let sentence = format!("{} cycles never came to an end.", self.unfinished);
            self.put_reason(blame, sentence);
        }
    }

    /// Whether what was due came, and anything at all did.
    fn judge_arrivals(&mut self) {
        let blame = self.delay_blame();
        let least = self.windows.iter().enumerate().filter_map(|(at, row)| Some((at, row.arrived_share?)));
        let least = least.min_by(|(_, one), (_, other)| one.total_cmp(other));
        // A rate that grows until the server falls behind is meant to be too high in the end.
        if let Some((window, share)) =
            least.filter(|(_, share)| *share < ARRIVED_SHARE && !self.is_ramp() && !self.partial)
        {
            let sentence = format!(
                "Only {:.1} % of what was due in window {} came before the drain ended.",
                share * 100.0,
                window + 1
            );
            self.put_reason(blame, sentence);
        }
        if !self.partial && self.windows.iter().any(Row::is_empty) && self.idling.is_none() {
            self.put_reason(blame, "Nothing was delivered in a window.".into());
        }
    }

    /// Whether members that stopped reading slowed anything down.
    fn judge_slow(&mut self) {
        let slow = self.slow;
        let is_felt = slow.disconnected + slow.missed + slow.backlogged.unwrap_or_default() > 0;
        if slow.readers > 0 && !is_felt && !self.partial {
            let seen = match slow.backlogged {
                Some(_) => "what they did not read fits the buffers of their own sockets",
                None => "and whether the server holds anything back for them cannot be seen from here",
            };
            self.put_reason(
                Blame::Generator,
                format!(
                    "None of the {} slow members slowed the server down: {seen}. Longer windows, larger \
                     payloads or a higher rate fill them.",
                    slow.readers
                ),
            );
        }
    }

    /// Whether the generator was the limit, or nobody was. Where one side is meant to be, the generator may
    /// be one as well as the server, or if the plan says so.
    fn judge_generator(&mut self) {
        let open = !self.plan.work.is_closed_loop();
        let late = self.windows.iter().map(|row| row.late_share).fold(0.0, f64::max);
        if late > LATE_SHARE {
            let sentence = format!(
                "The generator was late with {:.1} % of what was due in a window: its latencies say little.",
                late * 100.0
            );
            self.put_reason(Blame::Generator, sentence);
        }
        let busy = |row: &Row| row.busy_share.unwrap_or_default();
        let share = match open {
            true => self.windows.iter().map(busy).fold(0.0, f64::max),
            false => busy(&self.summary),
        };
        if share > SATURATED {
            self.judge_busy(share, open);
        } else if !open && !self.windows.is_empty() {
            self.judge_nobody();
        }
    }

    fn judge_busy(&mut self, share: f64, open: bool) {
        let what = format!("A worker of the generator was busy for {:.0} % of the time", share * 100.0);
        if open {
            self.put_reason(Blame::Generator, format!("{what}: its latencies say little."));
        } else if self.limit == Limit::Both {
            self.remarks.push(format!("{what}, too."));
        } else if self.plan.lower_bound {
            self.remarks.push(format!(
                "{what}: the server can do at least this. Its CPU time for each delivery or operation holds."
            ));
        } else {
            let sentence = format!(
                "{what}, and the server was not: it can do at least this (--lower-bound if that will do)."
            );
            self.put_reason(Blame::Generator, sentence);
        }
    }

    /// A closed loop whose generator was not the limit: the server must have been.
    fn judge_nobody(&mut self) {
        let percent =
            |share: Option<f64>| share.map_or("–".into(), |share| format!("{:.0} %", share * 100.0));
        let row = &self.summary;
        let (server, busy) = (percent(row.server_cores), percent(row.busy_share));
        let what = match self.limit {
            Limit::Server | Limit::Both => return,
            Limit::Neither => format!("Neither side was saturated (server {server}, busiest worker {busy})"),
            _ => format!("Whether the server was saturated is not known (busiest worker {busy})"),
        };
        let in_flight = match self.plan.work.publishing().map(|work| work.pace) {
            Some(Pace::Closed { window }) => {
                format!("the {window} messages in flight in each channel (--window)")
            }
            _ => "the operations under way at one time".into(),
        };
        let sleep = if self.plan.spin { "" } else { ", and the generator's sleeping between turns (--spin)" };
        let why = format!("{what}: {in_flight}, the server's own waiting{sleep} may have set this rate");
        if self.plan.lower_bound || self.partial {
            self.remarks.push(format!("{why}. The server can do at least this."));
        } else {
            self.put_reason(Blame::Generator, format!("{why}; it is a lower bound (--lower-bound)."));
        }
    }

    fn put_remarks(&mut self) {
        self.put_limit_remark();
        if let Some(doubt) = self.doubt.filter(|_| !self.windows.is_empty()) {
            self.remarks.push(doubt.to_string());
        }
        if let Some(warning) = self.plan.spin_warning() {
            self.remarks.push(format!("{warning}."));
        }
        if self.returns.adrift > 0 {
            let sentence = "The server has no recovery: what was missed while away is not counted.";
            self.remarks.push(sentence.into());
        }
        if self.held_up > 0 {
            self.remarks.push(format!(
                "{} cycles were due while all that may be at a time were under way (--cycles): they waited \
                 for {}, and their latencies say so.",
                self.held_up,
                if self.is_generator_limit() { "the generator or the server" } else { "the server" }
            ));
        }
        self.remarks.extend(self.behind_sentence());
        if self.never_begun > 0 {
            let sentence = format!("{} cycles were due and never began.", self.never_begun);
            self.remarks.push(sentence);
        }
        if self.merged > 0 {
            self.remarks.push(format!(
                "{} pairs of notices cancelled each other out: latencies are upper bounds.",
                self.merged
            ));
        }
        let outliers = self.find_outliers();
        self.remarks.extend(outliers);
    }

    fn put_limit_remark(&mut self) {
        let Some(cores) = self.summary.server_cores else { return };
        if matches!(self.limit, Limit::Server | Limit::Both) {
            let is_thread =
                self.summary.server_thread_cores > Some(SATURATED) && cores > 1.0 + SATURATED / 2.0;
            self.remarks.push(if is_thread {
                format!("A thread of the server was saturated (of {cores:.2} cores in all).")
            } else {
                format!("The server was saturated ({cores:.2} cores).")
            });
        }
    }

    /// Whether each window asks for another rate.
    pub(super) fn is_ramp(&self) -> bool {
        matches!(&self.plan.work, Work::Connect(ConnectPlan { rate: Some(rate), .. }) if rate.from != rate.to)
    }
}

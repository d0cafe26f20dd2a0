//! The highest rate that holds a service level: steps up until one does not hold, bisects, and measures the
//! last one that held again before it is believed.
//!
//! ```text
//!  start ── ×2 ── ×2 ── … ──▶ fails      start fails ── ÷2 ── ÷2 ── … ──▶ holds
//!                └──── bisect until 5 % apart ────┘ ──▶ verify: holds = found, fails = bisect on below
//! ```

use std::fmt::Write;

use serde::Serialize;

use crate::{
    plan::{Pace, Plan, PlanError, Rate, Work},
    report::{Report, html},
    thresholds::{Measured, Threshold},
    verdict::{Blame, Verdict},
};

/// How close together the highest rate that holds and the lowest that does not are in the end.
const CLOSE: f64 = 1.05;
/// Runs at most.
const MAX_PROBES: usize = 40;
/// Times that a rate is halved at most before none holds.
const MAX_HALVINGS: usize = 12;

/// What to search.
#[derive(Debug, Clone)]
pub struct SearchPlan {
    /// The plan, with the rate to begin with.
    pub plan: Plan,
    /// What a rate must hold: all of it.
    pub slo: Vec<Threshold>,
}

/// One run of a search.
#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    /// The rate that was asked for.
    pub rate: f64,
    /// What it came to.
    pub finding: ProbeFinding,
    /// The 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// The maximum, in milliseconds.
    pub max_ms: f64,
    /// Values that those are of.
    pub values: u64,
    /// Deliveries and operations a second.
    pub per_second: f64,
    /// CPU time of the server, in cores.
    pub server_cores: Option<f64>,
    /// The conditions, and what was measured.
    pub conditions: Vec<Measured>,
    /// What was wrong, a sentence each.
    pub problems: Vec<String>,
}

/// What a rate comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeFinding {
    /// All conditions are true, and nothing went wrong.
    Holds,
    /// The server does not hold it.
    Fails,
    /// The generator was the limit: it says nothing about the server.
    Blind,
}

/// A search, and what it has found.
#[derive(Debug, Clone, Serialize)]
pub struct Search {
    /// The conditions.
    pub slo: Vec<String>,
    /// All runs, in their order.
    pub probes: Vec<Probe>,
    /// The highest rate that held, twice.
    pub found: Option<f64>,
    /// Why the search ended without one, or why what was found is a lower bound.
    pub remark: Option<String>,
    #[serde(skip)]
    low: Option<f64>,
    #[serde(skip)]
    high: Option<f64>,
    #[serde(skip)]
    start: f64,
    #[serde(skip)]
    is_verifying: bool,
    #[serde(skip)]
    is_blind: bool,
}

impl SearchPlan {
    /// A search for the rate of an open loop.
    pub(crate) fn new(plan: Plan, slo: Vec<Threshold>) -> Result<Self, PlanError> {
        let wrong = |sentence: &str| Err(PlanError(sentence.into()));
        if slo.is_empty() {
            return wrong("A search needs --slo: what is to hold, as in p99<20ms,lost=0.");
        }
        if rate_of(&plan.work).is_none() {
            return wrong("A search needs an open loop: --rate, to begin with, in a scenario that has one.");
        }
        Ok(Self { plan, slo })
    }

    /// The plan at another rate.
    pub fn at(&self, rate: f64) -> Plan {
        let mut plan = self.plan.clone();
        match &mut plan.work {
            Work::Fanout(work) | Work::Send(work) | Work::Broadcast(work) | Work::Slow(work) => {
                work.pace = Pace::Open { rate };
            }
            Work::Connect(work) => work.rate = Some(Rate { from: rate, to: rate }),
            Work::Presence(work) => work.rate = Some(rate),
            Work::Storm(work) => work.rate = rate,
            Work::Idle(_) => {}
        }
        plan
    }

    /// The search before its first run.
    pub fn begin(&self) -> Search {
        Search {
            slo: self.slo.iter().map(ToString::to_string).collect(),
            probes: Vec::new(),
            found: None,
            remark: None,
            low: None,
            high: None,
            start: rate_of(&self.plan.work).unwrap_or(1.0),
            is_verifying: false,
            is_blind: false,
        }
    }

    /// What a run at a rate comes to.
    pub fn judge(&self, rate: f64, report: &Report) -> Probe {
        let conditions: Vec<_> = self.slo.iter().map(|condition| condition.measure(report)).collect();
        let holds = conditions.iter().all(|condition| condition.is_true == Some(true));
        let blamed = |blame| report.reasons.iter().any(|reason| reason.blame == blame);
        let finding = match () {
            () if blamed(Blame::Generator) || blamed(Blame::Interrupted) => ProbeFinding::Blind,
            () if holds && !blamed(Blame::Server) => ProbeFinding::Holds,
            () => ProbeFinding::Fails,
        };
        let row = &report.summary;
        Probe {
            rate,
            finding,
            p99_ms: row.latency.p99_us / 1e3,
            max_ms: row.latency.max_us / 1e3,
            values: row.latency.count,
            per_second: row.deliveries_per_second + row.operations_per_second,
            server_cores: row.server_cores,
            conditions,
            problems: report.problems.clone(),
        }
    }
}

/// The rate of an open loop that can have another one.
fn rate_of(work: &Work) -> Option<f64> {
    match work {
        Work::Fanout(work) | Work::Send(work) | Work::Broadcast(work) | Work::Slow(work) => match work.pace {
            Pace::Open { rate } => Some(rate),
            Pace::Closed { .. } => None,
        },
        Work::Connect(work) => work.rate.map(|rate| rate.from),
        Work::Presence(work) => work.rate,
        Work::Storm(work) => Some(work.rate).filter(|rate| *rate > 0.0),
        Work::Idle(_) => None,
    }
}

impl Search {
    /// The rate to measure next; none if the search is over.
    pub fn next_rate(&mut self) -> Option<f64> {
        if self.found.is_some() || self.remark.is_some() {
            return None;
        }
        if self.probes.len() >= MAX_PROBES {
            self.remark = Some(format!("No rate was found in {MAX_PROBES} runs."));
            return None;
        }
        let rate = match (self.low, self.high) {
            (None, None) => self.start,
            (Some(low), None) => low * 2.0,
            (None, Some(high)) => {
                if self.probes.len() > MAX_HALVINGS {
                    self.remark = Some(format!("Not even {high:.1} a second holds."));
                    return None;
                }
                high / 2.0
            }
            (Some(low), Some(high)) if high / low <= CLOSE => {
                self.is_verifying = true;
                low
            }
            (Some(low), Some(high)) => f64::midpoint(low, high),
        };
        Some(rate)
    }

    /// Ends the search for want of a plan for a rate: what it has found is a lower bound.
    pub fn give_up(&mut self, sentence: String) {
        (self.is_blind, self.remark) = (true, Some(sentence));
        self.found = self.low;
    }

    /// Takes what a run came to.
    pub fn take(&mut self, probe: Probe) {
        let (rate, finding) = (probe.rate, probe.finding);
        self.probes.push(probe);
        match finding {
            ProbeFinding::Holds if self.is_verifying => {
                self.found = Some(rate);
                if self.is_blind {
                    let sentence = "The generator was the limit above it: the server can do at least this.";
                    self.remark = Some(sentence.into());
                }
            }
            ProbeFinding::Holds => self.low = Some(rate),
            ProbeFinding::Blind if self.low.is_none() => {
                self.remark = Some(format!("The generator was the limit at {rate:.1} a second already."));
            }
            // What the generator cannot do it cannot say of the server.
            ProbeFinding::Fails | ProbeFinding::Blind => {
                self.is_blind = finding == ProbeFinding::Blind;
                self.high = Some(rate);
                if self.is_verifying {
                    // It held by chance: what is below it is searched again.
                    self.is_verifying = false;
                    self.low = self.lower_that_held(rate);
                }
            }
        }
    }

    /// The highest rate below this one that held.
    fn lower_that_held(&self, rate: f64) -> Option<f64> {
        let held =
            self.probes.iter().filter(|probe| probe.finding == ProbeFinding::Holds && probe.rate < rate);
        held.map(|probe| probe.rate).reduce(f64::max)
    }

    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        match (self.found, self.is_blind) {
            (Some(_), false) => Verdict::Clean,
            (None, false) if self.probes.iter().all(|probe| probe.finding != ProbeFinding::Blind) => {
                Verdict::Server
            }
            _ => Verdict::Generator,
        }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = format!("search: {}\n", self.slo.join(", "));
        let mut put = |line: String| writeln!(out, "{line}").expect("a string takes everything");
        put(format!("{:>10} {:>10} {:>10} {:>10} {:>8}  ", "rate", "done/s", "p99 ms", "max ms", "server"));
        for probe in &self.probes {
            let word = match probe.finding {
                ProbeFinding::Holds => "holds".into(),
                ProbeFinding::Blind => "the generator was the limit".into(),
                ProbeFinding::Fails => probe.why(),
            };
            let server = probe.server_cores.map_or("–".into(), |cores| format!("{:.0} %", cores * 100.0));
            put(format!(
                "{:>10.1} {:>10.0} {:>10.3} {:>10.3} {server:>8}  {word}",
                probe.rate, probe.per_second, probe.p99_ms, probe.max_ms
            ));
        }
        if let Some(rate) = self.found {
            put(format!("highest rate that holds, measured twice: {rate:.1} a second"));
        }
        if let Some(remark) = &self.remark {
            put(remark.clone());
        }
        out
    }

    /// For programs: the whole report of the last run is another file's.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct File<'a> {
            version: &'static str,
            commit: &'static str,
            verdict: Verdict,
            search: &'a Search,
        }
        let file =
            File { version: crate::VERSION, commit: crate::COMMIT, verdict: self.verdict(), search: self };
        let mut json = serde_json::to_string_pretty(&file).expect("numbers and strings");
        json.push('\n');
        json
    }

    /// One page: rate against latency.
    pub fn html(&self) -> String {
        let mut out = html::begin("Search");
        let points = |of: ProbeFinding| -> Vec<(f64, f64)> {
            let mut points: Vec<_> = self
                .probes
                .iter()
                .filter(|probe| probe.finding == of)
                .map(|probe| (probe.rate, probe.p99_ms))
                .collect();
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            points
        };
        let text = html::escape(&self.text());
        out += "<h3>p99 by rate, ms: <span class=a>holds</span>, <span class=b>does not</span></h3>";
        html::write_dots(
            &mut out,
            &[("a", points(ProbeFinding::Holds)), ("b", points(ProbeFinding::Fails))],
            &self.text(),
        )
        .expect("a string takes everything");
        out + &format!("<pre>{text}</pre></html>\n")
    }
}

impl Probe {
    /// Why the rate does not hold.
    fn why(&self) -> String {
        let broken = self.conditions.iter().find(|condition| condition.is_true != Some(true));
        match broken {
            Some(condition) => format!("{}: {}", condition.condition, condition.shown),
            None => self.problems.first().cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    fn probe(rate: f64, finding: ProbeFinding) -> Probe {
        Probe {
            rate,
            finding,
            p99_ms: 1.0,
            max_ms: 2.0,
            values: 3,
            per_second: rate,
            server_cores: None,
            conditions: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn search(start: &str, of: impl Fn(f64, usize) -> ProbeFinding) -> Search {
        let slo = Threshold::read_all(&["p99<20ms".into(), "lost=0".into()]).expect("conditions");
        let plan =
            SearchPlan::new(plan(&format!("loadgen fanout --rate {start}")), slo).expect("an open loop");
        let mut search = plan.begin();
        while let Some(rate) = search.next_rate() {
            let finding = of(rate, search.probes.len());
            search.take(probe(rate, finding));
        }
        search
    }

    #[test]
    fn highest_rate_that_holds_is_found_from_below_and_from_above_and_verified() {
        for start in ["10", "700", "90000"] {
            let found = search(
                start,
                |rate, _| {
                    if rate <= 730.0 { ProbeFinding::Holds } else { ProbeFinding::Fails }
                },
            );
            let rate = found.found.expect("one is found");
            assert!(rate <= 730.0 && rate * CLOSE >= 730.0, "{start}: {rate}");
            let held = found.probes.iter().filter(|probe| probe.rate == rate);
            assert_eq!((held.count(), found.verdict()), (2, Verdict::Clean), "{}", found.text());
            assert!(found.probes.len() < 25 && found.text().contains("measured twice"), "{}", found.text());
            assert!(found.html().contains("<svg role=img") && found.json().contains("\"found\": "));
        }
    }

    #[test]
    fn rate_that_held_by_chance_is_not_believed() {
        // Above 500 a rate holds the first time it is measured, and never again.
        let seen = std::cell::RefCell::new(Vec::<f64>::new());
        let found = search("100", |rate, _| {
            let again = seen.borrow().contains(&rate);
            seen.borrow_mut().push(rate);
            if rate <= 500.0 || (rate < 700.0 && !again) { ProbeFinding::Holds } else { ProbeFinding::Fails }
        });
        assert!(found.found.is_none_or(|rate| rate <= 500.0), "{}", found.text());
    }

    #[test]
    fn generator_that_is_the_limit_makes_it_a_lower_bound() {
        let found =
            search("100", |rate, _| if rate < 300.0 { ProbeFinding::Holds } else { ProbeFinding::Blind });
        assert_eq!(found.verdict(), Verdict::Generator);
        assert!(found.found.is_some_and(|rate| rate < 300.0) && found.text().contains("at least this"));
        let found = search("100", |_, _| ProbeFinding::Blind);
        assert_eq!((found.found, found.verdict()), (None, Verdict::Generator));
        let found = search("100", |_, _| ProbeFinding::Fails);
        assert_eq!((found.found, found.verdict()), (None, Verdict::Server));
        assert!(found.text().contains("Not even"), "{}", found.text());
    }

    #[test]
    fn search_without_a_rate_or_a_level_is_refused() {
        let slo = || Threshold::read_all(&["p99<20ms".into()]).expect("conditions");
        for line in ["loadgen fanout", "loadgen idle", "loadgen storm", "loadgen presence"] {
            assert!(SearchPlan::new(plan(line), slo()).is_err(), "{line}");
        }
        assert!(SearchPlan::new(plan("loadgen fanout -r 5"), Vec::new()).is_err());
    }
}

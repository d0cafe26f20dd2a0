//! The highest load that holds a service level, a rate or a number of connections: steps up until one does
//! not hold, bisects, and measures the last one that held again before it is believed.
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
    /// The plan, with the load to begin with.
    pub plan: Plan,
    /// What is searched for.
    pub quantity: Quantity,
    /// What a load must hold: all of it.
    pub slo: Vec<Threshold>,
}

/// What a search changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Messages, cycles or operations a second of an open loop.
    Rate,
    /// Connections, at the plan's rate.
    Connections,
}

impl Quantity {
    /// A load in words.
    pub fn show(self, load: f64) -> String {
        match self {
            Self::Rate => format!("{load:.1} a second"),
            Self::Connections => format!("{load:.0} connections"),
        }
    }
}

/// One run of a search.
#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    /// The rate, or the number of connections.
    pub load: f64,
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
    /// What was searched for.
    pub quantity: Quantity,
    /// The conditions.
    pub slo: Vec<String>,
    /// All runs, in their order.
    pub probes: Vec<Probe>,
    /// The highest load that held, twice.
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
    /// A search for the rate of an open loop, or for a number of connections.
    pub(crate) fn new(plan: Plan, quantity: Quantity, slo: Vec<Threshold>) -> Result<Self, PlanError> {
        let wrong = |sentence: &str| Err(PlanError(sentence.into()));
        if slo.is_empty() {
            return wrong("A search needs --slo: what is to hold, as in p99<20ms,lost=0.");
        }
        match quantity {
            Quantity::Rate if rate_of(&plan.work).is_none() => {
                wrong("A search needs an open loop: --rate, to begin with, in a scenario that has one.")
            }
            Quantity::Connections if connections_of(&plan.work).is_none() => {
                wrong("A search for connections needs fanout, slow, broadcast, send, idle or storm.")
            }
            _ => Ok(Self { plan, quantity, slo }),
        }
    }

    /// The plan with another load.
    pub fn at(&self, load: f64) -> Plan {
        match self.quantity {
            Quantity::Rate => self.at_rate(load),
            Quantity::Connections => self.with_connections(load as u32),
        }
    }

    fn with_connections(&self, connections: u32) -> Plan {
        let mut plan = self.plan.clone();
        match &mut plan.work {
            Work::Fanout(work) | Work::Broadcast(work) => work.members = connections,
            Work::Slow(work) => {
                let slow = u64::from(work.slow) * u64::from(connections) / u64::from(work.members.max(1));
                (work.members, work.slow) = (connections, slow as u32);
            }
            Work::Send(work) => work.channels = connections / work.members.max(1),
            Work::Idle(work) => work.connections = connections,
            Work::Storm(work) => work.connections = connections,
            Work::Connect(_) | Work::Presence(_) => {}
        }
        plan
    }

    fn at_rate(&self, rate: f64) -> Plan {
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
        let start = match self.quantity {
            Quantity::Rate => rate_of(&self.plan.work),
            Quantity::Connections => connections_of(&self.plan.work).map(f64::from),
        };
        Search {
            quantity: self.quantity,
            slo: self.slo.iter().map(ToString::to_string).collect(),
            probes: Vec::new(),
            found: None,
            remark: None,
            low: None,
            high: None,
            start: start.unwrap_or(1.0),
            is_verifying: false,
            is_blind: false,
        }
    }

    /// What a run with a load comes to.
    pub fn judge(&self, load: f64, report: &Report) -> Probe {
        let conditions: Vec<_> = self.slo.iter().map(|condition| condition.measure(report)).collect();
        let holds = conditions.iter().all(|condition| condition.is_true == Some(true));
        let blamed = |blame| report.reasons.iter().any(|reason| reason.blame == blame);
        let behind = report.behind_sentence();
        let finding = match () {
            () if blamed(Blame::Generator) || blamed(Blame::Interrupted) => ProbeFinding::Blind,
            () if holds && !blamed(Blame::Server) && behind.is_none() => ProbeFinding::Holds,
            () => ProbeFinding::Fails,
        };
        let row = &report.summary;
        Probe {
            load,
            finding,
            p99_ms: row.latency.p99_us / 1e3,
            max_ms: row.latency.max_us / 1e3,
            values: row.latency.count,
            per_second: row.deliveries_per_second + row.operations_per_second,
            server_cores: row.server_cores,
            conditions,
            problems: report.problems.iter().cloned().chain(behind).collect(),
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

/// The connections whose number a search can change, without those that only publish.
fn connections_of(work: &Work) -> Option<u32> {
    match work {
        Work::Fanout(work) | Work::Broadcast(work) | Work::Slow(work) => Some(work.members),
        Work::Send(work) => Some(work.channels.saturating_mul(work.members)),
        Work::Idle(work) => Some(work.connections),
        Work::Storm(work) => Some(work.connections),
        Work::Connect(_) | Work::Presence(_) => None,
    }
}

impl Search {
    /// The load to measure next; none if the search is over.
    pub fn next_load(&mut self) -> Option<f64> {
        if self.found.is_some() || self.remark.is_some() {
            return None;
        }
        if self.probes.len() >= MAX_PROBES {
            self.remark = Some(format!("Nothing was found in {MAX_PROBES} runs."));
            return None;
        }
        let load = match (self.low, self.high) {
            (None, None) => self.start,
            (Some(low), None) => low * 2.0,
            (None, Some(high)) => {
                if self.probes.len() > MAX_HALVINGS {
                    self.remark = Some(format!("Not even {} hold.", self.quantity.show(high)));
                    return None;
                }
                high / 2.0
            }
            (Some(low), Some(high)) if high / low <= CLOSE || self.is_next_to(low, high) => {
                self.is_verifying = true;
                low
            }
            (Some(low), Some(high)) => f64::midpoint(low, high),
        };
        Some(if self.quantity == Quantity::Connections { load.round().max(1.0) } else { load })
    }

    /// Whether nothing lies between two numbers of connections.
    fn is_next_to(&self, low: f64, high: f64) -> bool {
        self.quantity == Quantity::Connections && high - low <= 1.0
    }

    /// Ends the search for want of a plan for a load: what it has found is a lower bound.
    pub fn give_up(&mut self, sentence: String) {
        (self.is_blind, self.remark) = (true, Some(sentence));
        self.found = self.low;
    }

    /// Takes what a run came to.
    pub fn take(&mut self, probe: Probe) {
        let (load, finding) = (probe.load, probe.finding);
        self.probes.push(probe);
        match finding {
            ProbeFinding::Holds if self.is_verifying => {
                self.found = Some(load);
                if self.is_blind {
                    let sentence = "The generator was the limit above it: the server can do at least this.";
                    self.remark = Some(sentence.into());
                }
            }
            ProbeFinding::Holds => self.low = Some(load),
            ProbeFinding::Blind if self.low.is_none() => {
                let load = self.quantity.show(load);
                self.remark = Some(format!("The generator was the limit at {load} already."));
            }
            // What the generator cannot do it cannot say of the server.
            ProbeFinding::Fails | ProbeFinding::Blind => {
                self.is_blind = finding == ProbeFinding::Blind;
                self.high = Some(load);
                if self.is_verifying {
                    // It held by chance: what is below it is searched again.
                    self.is_verifying = false;
                    self.low = self.lower_that_held(load);
                }
            }
        }
    }

    /// The highest load below this one that held.
    fn lower_that_held(&self, load: f64) -> Option<f64> {
        let held =
            self.probes.iter().filter(|probe| probe.finding == ProbeFinding::Holds && probe.load < load);
        held.map(|probe| probe.load).reduce(f64::max)
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
        put(format!(
            "{:>9} {:>9} {:>8} {:>9} {:>9} {:>6}  ",
            "load", "done/s", "values", "p99 ms", "max ms", "server"
        ));
        for probe in &self.probes {
            let word = match probe.finding {
                ProbeFinding::Holds => "holds".into(),
                ProbeFinding::Blind => "blind: the generator".into(),
                ProbeFinding::Fails => probe.why(),
            };
            let server = probe.server_cores.map_or("–".into(), |cores| format!("{:.0} %", cores * 100.0));
            put(format!(
                "{:>9.1} {:>9.0} {:>8} {:>9.3} {:>9.3} {server:>6}  {word}",
                probe.load, probe.per_second, probe.values, probe.p99_ms, probe.max_ms
            ));
        }
        self.curve().into_iter().for_each(&mut put);
        if let Some(load) = self.found {
            put(format!("highest load that holds, measured twice: {}", self.quantity.show(load)));
        }
        if let Some(remark) = &self.remark {
            put(remark.clone());
        }
        out
    }

    /// The 99th percentile by load, as bars; of loads that were measured twice, the longer one.
    fn curve(&self) -> Vec<String> {
        const BAR: f64 = 50.0;
        let mut points: Vec<_> = self.probes.iter().filter(|probe| probe.values > 0).collect();
        points
            .sort_by(|one, other| one.load.total_cmp(&other.load).then(other.p99_ms.total_cmp(&one.p99_ms)));
        points.dedup_by_key(|probe| probe.load.to_bits());
        let longest = points.iter().map(|probe| probe.p99_ms).fold(f64::MIN_POSITIVE, f64::max);
        let bar = |probe: &&Probe| {
            let bar = "█".repeat((probe.p99_ms / longest * BAR).ceil() as usize);
            format!("{:>9.1} {bar} {:.3} ms", probe.load, probe.p99_ms)
        };
        points.iter().map(bar).collect()
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

    /// One page: load against latency.
    pub fn html(&self) -> String {
        let mut out = html::begin("Search");
        let points = |of: ProbeFinding| -> Vec<(f64, f64)> {
            let mut points: Vec<_> = self
                .probes
                .iter()
                .filter(|probe| probe.finding == of)
                .map(|probe| (probe.load, probe.p99_ms))
                .collect();
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            points
        };
        let text = html::escape(&self.text());
        out += "<h3>p99 by load, ms: <span class=a>holds</span>, <span class=b>does not</span></h3>";
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

    fn probe(load: f64, finding: ProbeFinding) -> Probe {
        Probe {
            load,
            finding,
            p99_ms: 1.0,
            max_ms: 2.0,
            values: 3,
            per_second: load,
            server_cores: None,
            conditions: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn search(start: &str, of: impl Fn(f64, usize) -> ProbeFinding) -> Search {
        search_for(Quantity::Rate, &format!("loadgen fanout --rate {start}"), of)
    }

    fn search_for(quantity: Quantity, line: &str, of: impl Fn(f64, usize) -> ProbeFinding) -> Search {
        let slo = Threshold::read_all(&["p99<20ms".into(), "lost=0".into()]).expect("conditions");
        let plan = SearchPlan::new(plan(line), quantity, slo).expect("something to search");
        let mut search = plan.begin();
        while let Some(load) = search.next_load() {
            let finding = of(load, search.probes.len());
            search.take(probe(load, finding));
        }
        search
    }

    #[test]
    fn highest_number_of_connections_is_a_whole_one_and_the_plan_has_it() {
        for (line, of_plan) in [
            ("loadgen fanout -n 8 --rate 5", 13),
            ("loadgen broadcast -n 50 --rate 5", 13),
            ("loadgen slow -n 100 --slow 25 --rate 5", 13),
            ("loadgen send --channels 40 --members 2 --rate 5", 12),
            ("loadgen idle -n 2000", 13),
            ("loadgen storm -n 2000", 13),
        ] {
            let found = search_for(Quantity::Connections, line, |load, _| {
                assert_eq!(load.fract(), 0.0, "{line}");
                if load <= 13.0 { ProbeFinding::Holds } else { ProbeFinding::Fails }
            });
            assert_eq!(found.found, Some(13.0), "{line}: {}", found.text());
            assert!(found.text().contains("measured twice: 13 connections"), "{}", found.text());
            let slo = Threshold::read_all(&["lost=0".into()]).expect("conditions");
            let search = SearchPlan::new(plan(line), Quantity::Connections, slo).expect("connections");
            assert_eq!(connections_of(&search.at(13.0).work), Some(of_plan), "{line}");
        }
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
            let held = found.probes.iter().filter(|probe| probe.load == rate);
            assert_eq!((held.count(), found.verdict()), (2, Verdict::Clean), "{}", found.text());
            assert!(found.probes.len() < 25 && found.text().contains("measured twice"), "{}", found.text());
            assert!(found.text().contains("██ 1.000 ms"), "{}", found.text());
            assert!(found.text().lines().all(|line| line.chars().count() <= 80), "{}", found.text());
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
            assert!(SearchPlan::new(plan(line), Quantity::Rate, slo()).is_err(), "{line}");
        }
        assert!(SearchPlan::new(plan("loadgen fanout -r 5"), Quantity::Rate, Vec::new()).is_err());
        for line in ["loadgen connect", "loadgen presence"] {
            assert!(SearchPlan::new(plan(line), Quantity::Connections, slo()).is_err(), "{line}");
        }
    }
}

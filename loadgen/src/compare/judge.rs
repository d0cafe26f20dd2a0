//! How one number of two sets of runs differs, and whether that is worse than allowed. Pure functions of
//! samples.
//!
//! The difference is that of the means of logarithms (a ratio, then), in the direction that is worse:
//!
//! ```text
//!  worse         difference > tolerance, and beyond chance: 5 % for all numbers that are judged together
//!  same          the upper end of the interval (95 %) <= tolerance; better is as good
//!  inconclusive  neither: the runs vary too much, or are too few
//! ```

use serde::Serialize;

use crate::statistics::{normal_quantile, student_quantile};

/// Chance that anything is called worse that is not, over all numbers that are judged.
const FALSE_ALARM: f64 = 0.05;
/// Chance that what is called the same is worse than the tolerance.
const FALSE_PASS: f64 = 0.05;
/// Chance with which a difference is to be found that is there.
const POWER: f64 = 0.9;
/// Runs of each side beyond which nobody goes.
const MAX_RUNS: u32 = 1000;

/// What one number of two sides comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It has no tolerance.
    NotJudged,
    /// Better, or the same within the tolerance.
    Same,
    /// The runs cannot say.
    Inconclusive,
    /// Worse by more than the tolerance, beyond chance.
    Worse,
}

/// The samples of both sides; a run in which the number was not measured has none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sides<'a> {
    pub(super) before: &'a [Option<f64>],
    pub(super) after: &'a [Option<f64>],
}

/// How strictly a number is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strictness {
    pub(super) more_is_better: bool,
    /// By how many percent it may be worse.
    pub(super) tolerance: Option<f64>,
    /// How many numbers are judged together.
    pub(super) family: usize,
}

/// What the samples of two sides say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Difference {
    /// Geometric means.
    pub(super) before: Option<f64>,
    pub(super) after: Option<f64>,
    pub(super) change_percent: Option<f64>,
    /// The 95 % interval of the change.
    pub(super) interval_percent: Option<(f64, f64)>,
    /// Runs in which it was measured.
    pub(super) samples: (usize, usize),
    pub(super) tolerance_percent: Option<f64>,
    pub(super) finding: Finding,
    /// Whether it is better beyond chance.
    pub(super) is_better: bool,
    /// Runs of each side that would do, if these will not.
    pub(super) runs_needed: Option<u32>,
    /// The smallest change for the worse that these runs would have shown.
    pub(super) smallest_percent: Option<f64>,
    /// What is missing.
    pub(super) why: Option<String>,
}

/// Mean and variance of logarithms.
struct Moments {
    mean: f64,
    /// None of a single one.
    variance: Option<f64>,
    count: f64,
}

/// The difference of two means, as a distribution.
struct Spread {
    log_ratio: f64,
    error: f64,
    freedom: f64,
    /// Standard deviation of one run, of both sides together.
    deviation: f64,
}

/// Compares both sides. None if neither has such a number.
pub(super) fn compare(sides: Sides<'_>, strictness: Strictness) -> Option<Difference> {
    let measured = |samples: &[Option<f64>]| -> Vec<f64> {
        samples.iter().flatten().copied().filter(|sample| *sample > 0.0).collect()
    };
    let (before, after) = (measured(sides.before), measured(sides.after));
    if before.is_empty() && after.is_empty() {
        return None;
    }
    let (before_moments, after_moments) = (Moments::of(&before), Moments::of(&after));
    let mut difference = Difference {
        before: before_moments.as_ref().map(|moments| moments.mean.exp()),
        after: after_moments.as_ref().map(|moments| moments.mean.exp()),
        change_percent: None,
        interval_percent: None,
        samples: (before.len(), after.len()),
        tolerance_percent: strictness.tolerance,
        finding: Finding::NotJudged,
        is_better: false,
        runs_needed: None,
        smallest_percent: None,
        why: None,
    };
    if let Some(spread) = before_moments.zip(after_moments).map(|(a, b)| Spread::of(&a, &b)) {
        spread.describe(&mut difference, strictness);
    }
    let is_everywhere = before.len() == sides.before.len() && after.len() == sides.after.len();
    if !is_everywhere {
        let (of_before, of_after) = (sides.before.len(), sides.after.len());
        difference.why = Some(format!(
            "measured in {} of {of_before} and {} of {of_after} runs",
            before.len(),
            after.len()
        ));
        difference.finding = strictness.tolerance.map_or(Finding::NotJudged, |_| Finding::Inconclusive);
    }
    Some(difference)
}

/// Runs of each side, when one varies by this standard deviation of logarithms, with which a number that is
/// the same is called so, and one that is worse by twice the tolerance is found, nine times of ten.
pub(super) fn runs_needed(deviation: f64, tolerance: f64, family: usize) -> Option<u32> {
    let power = normal_quantile(POWER);
    (2..=MAX_RUNS).find(|runs| {
        let error = deviation * (2.0 / f64::from(*runs)).sqrt();
        let freedom = f64::from(2 * runs - 2);
        let same = student_quantile(1.0 - FALSE_PASS, freedom);
        let worse = student_quantile(alarm_chance(family), freedom);
        let (bound, twice) = (log_of(tolerance), log_of(2.0 * tolerance));
        (same + power) * error <= bound && (worse + power) * error <= twice && power * error <= twice - bound
    })
}

fn alarm_chance(family: usize) -> f64 {
    1.0 - FALSE_ALARM / family.max(1) as f64
}

fn log_of(percent: f64) -> f64 {
    (percent / 100.0).ln_1p()
}

fn percent_of(log: f64) -> f64 {
    (log.exp() - 1.0) * 100.0
}

impl Moments {
    fn of(samples: &[f64]) -> Option<Self> {
        let count = samples.len() as f64;
        let mean = samples.iter().map(|sample| sample.ln()).sum::<f64>() / count;
        let squares: f64 = samples.iter().map(|sample| (sample.ln() - mean).powi(2)).sum();
        let variance = (samples.len() > 1).then(|| squares / (count - 1.0));
        (!samples.is_empty()).then_some(Self { mean, variance, count })
    }
}

impl Spread {
    /// Welch's. Without an error if a side has one sample.
    fn of(before: &Moments, after: &Moments) -> Self {
        let log_ratio = after.mean - before.mean;
        let unknown = Self { log_ratio, error: f64::INFINITY, freedom: 0.0, deviation: f64::INFINITY };
        let (Some(one), Some(other)) = (before.variance, after.variance) else { return unknown };
        let (a, b) = (one / before.count, other / after.count);
        let squares = a * a / (before.count - 1.0) + b * b / (after.count - 1.0);
        let freedom =
            if squares > 0.0 { (a + b).powi(2) / squares } else { before.count + after.count - 2.0 };
        Self { log_ratio, error: (a + b).sqrt(), freedom, deviation: f64::midpoint(one, other).sqrt() }
    }

    fn describe(&self, difference: &mut Difference, strictness: Strictness) {
        difference.change_percent = Some(percent_of(self.log_ratio));
        let worse = if strictness.more_is_better { -self.log_ratio } else { self.log_ratio };
        if self.error.is_infinite() {
            difference.why = Some("one run of a side says nothing about chance".into());
            difference.runs_needed = strictness.tolerance.map(|_| 5);
            difference.finding = strictness.tolerance.map_or(Finding::NotJudged, |_| Finding::Inconclusive);
            return;
        }
        let half_width = student_quantile(0.975, self.freedom) * self.error;
        difference.interval_percent =
            Some((percent_of(self.log_ratio - half_width), percent_of(self.log_ratio + half_width)));
        difference.is_better = -worse > half_width;
        let alarm = student_quantile(alarm_chance(strictness.family), self.freedom) * self.error;
        difference.smallest_percent = Some(percent_of(alarm + normal_quantile(POWER) * self.error));
        let Some(tolerance) = strictness.tolerance else { return };
        let bound = log_of(tolerance);
        let upper = worse + student_quantile(1.0 - FALSE_PASS, self.freedom) * self.error;
        difference.finding = if worse > bound && worse > alarm {
            Finding::Worse
        } else if upper <= bound {
            Finding::Same
        } else {
            Finding::Inconclusive
        };
        if difference.finding == Finding::Inconclusive {
            difference.runs_needed = runs_needed(self.deviation, tolerance, strictness.family);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: f64 = 5.0;

    fn judge(before: &[f64], after: &[f64], tolerance: f64) -> Difference {
        let (before, after): (Vec<_>, Vec<_>) =
            (before.iter().copied().map(Some).collect(), after.iter().copied().map(Some).collect());
        let strictness = Strictness { more_is_better: false, tolerance: Some(tolerance), family: 1 };
        compare(Sides { before: &before, after: &after }, strictness).expect("samples")
    }

    #[test]
    fn difference_is_a_ratio_with_an_interval_around_it() {
        let difference = judge(&[100.0, 101.0, 99.0], &[200.0, 202.0, 198.0], GATE);
        assert!((difference.change_percent.expect("a change") - 100.0).abs() < 1e-3);
        // Standard deviation 1 % each: sqrt(2/3) % times t of 4 degrees of freedom.
        let half_width = 0.01 * (2.0_f64 / 3.0).sqrt() * 2.776;
        let (low, high) = difference.interval_percent.expect("an interval");
        assert!((low - percent_of(2.0_f64.ln() - half_width)).abs() < 0.1, "{low}");
        assert!((high - percent_of(2.0_f64.ln() + half_width)).abs() < 0.1, "{high}");
        assert_eq!(difference.finding, Finding::Worse);
    }

    #[test]
    fn gate_fails_when_it_cannot_see() {
        // Five runs a side that vary by half: anything could be the case.
        let (before, after) = ([60.0, 100.0, 150.0, 80.0, 120.0], [70.0, 160.0, 90.0, 130.0, 85.0]);
        let difference = judge(&before, &after, GATE);
        assert_eq!(difference.finding, Finding::Inconclusive);
        assert!(difference.runs_needed > Some(100), "{difference:?}");
        assert!(difference.smallest_percent > Some(50.0), "{difference:?}");
        // One run of a side, whatever it says.
        for after in [[418.9], [100.0]] {
            assert_eq!(judge(&[100.0], &after, GATE).finding, Finding::Inconclusive);
        }
        // A run in which it was not measured.
        let sides = Sides { before: &[Some(1.0), Some(1.0)], after: &[Some(1.0), None] };
        let strictness = Strictness { more_is_better: false, tolerance: Some(GATE), family: 1 };
        let difference = compare(sides, strictness).expect("samples");
        assert_eq!(difference.finding, Finding::Inconclusive);
        assert!(difference.why.is_some_and(|why| why.contains("1 of 2")));
        // On one side only.
        let sides = Sides { before: &[None, None], after: &[Some(1.0), Some(1.0)] };
        assert_eq!(compare(sides, strictness).map(|found| found.finding), Some(Finding::Inconclusive));
        assert_eq!(compare(Sides { before: &[None], after: &[None] }, strictness), None);
    }

    #[test]
    fn worse_is_more_than_the_tolerance_and_beyond_chance() {
        let (fast, slow) = ([100.0, 101.0, 99.0], [125.0, 126.0, 124.0]);
        assert_eq!(judge(&fast, &slow, GATE).finding, Finding::Worse);
        assert_eq!(judge(&fast, &slow, 30.0).finding, Finding::Same);
        assert_eq!(judge(&slow, &fast, GATE).finding, Finding::Same, "better is as good");
        assert_eq!(judge(&fast, &fast, GATE).finding, Finding::Same);
        assert_eq!(judge(&[7.0, 7.0], &[7.0, 7.0], 0.0).finding, Finding::Same, "without any spread");
        let more = Strictness { more_is_better: true, tolerance: Some(GATE), family: 1 };
        let some = |all: &[f64]| all.iter().copied().map(Some).collect::<Vec<_>>();
        let (fast, slow) = (some(&fast), some(&slow));
        let finding = |before, after| compare(Sides { before, after }, more).expect("samples").finding;
        assert_eq!((finding(&fast, &slow), finding(&slow, &fast)), (Finding::Same, Finding::Worse));
    }

    /// Normal numbers from a generator with a seed.
    struct Noise(u64);

    impl Noise {
        fn uniform(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// Runs of a server whose figure varies by this standard deviation of logarithms.
        fn runs(&mut self, count: usize, mean: f64, deviation: f64) -> Vec<Option<f64>> {
            let mut run =
                || mean * (deviation * normal_quantile(self.uniform().clamp(1e-9, 1.0 - 1e-9))).exp();
            (0..count).map(|_| Some(run())).collect()
        }
    }

    /// What docs/BENCHMARKING.md recommends: eight runs a side, for processes that vary by 3 %, and a gate of
    /// 5 %.
    #[test]
    fn recommended_runs_find_what_is_there_and_nothing_else() {
        const RUNS: usize = 8;
        const DEVIATION: f64 = 0.03;
        const NUMBERS: usize = 6;
        assert!(runs_needed(DEVIATION, GATE, NUMBERS).is_some_and(|runs| runs as usize <= RUNS));
        let mut noise = Noise(0x1234_5678_9ABC_DEF1);
        let mut findings = |change: f64| -> Vec<Finding> {
            let strictness = Strictness { more_is_better: false, tolerance: Some(GATE), family: NUMBERS };
            let number = |change: f64, noise: &mut Noise| {
                let (before, after) =
                    (noise.runs(RUNS, 100.0, DEVIATION), noise.runs(RUNS, 100.0 * change, DEVIATION));
                compare(Sides { before: &before, after: &after }, strictness).expect("samples").finding
            };
            // Of six numbers one changes; the worst of all is the comparison's.
            let comparison = |noise: &mut Noise| {
                let others = (1..NUMBERS).map(|_| number(1.0, noise)).max();
                number(change, noise).max(others.unwrap_or(Finding::NotJudged))
            };
            (0..200).map(|_| comparison(&mut noise)).collect()
        };
        let share = |all: &[Finding], what| all.iter().filter(|found| **found == what).count() as f64 / 200.0;
        let same = findings(1.0);
        assert!(share(&same, Finding::Worse) <= 0.05, "{} false alarms", share(&same, Finding::Worse));
        let worse = findings(1.1);
        assert!(share(&worse, Finding::Worse) >= 0.9, "{} found", share(&worse, Finding::Worse));
    }
}

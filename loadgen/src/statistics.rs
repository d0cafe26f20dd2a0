//! What chance allows: Student's distribution, and the binomial one. Pure functions of numbers.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// The chance that a standard normal number is at most `z`.
pub(crate) fn normal(z: f64) -> f64 {
    0.5 * erfc(-z * FRAC_1_SQRT_2)
}

/// The number that a standard normal one is at most, with this chance.
pub(crate) fn normal_quantile(chance: f64) -> f64 {
    bisect(normal, chance, 40.0)
}

/// The number that Student's t of so many degrees of freedom is at most, with this chance.
pub(crate) fn student_quantile(chance: f64, freedom: f64) -> f64 {
    bisect(|t| student(t, freedom), chance, 1e6)
}

/// The chance that Student's t of so many degrees of freedom is at most `t`.
pub(crate) fn student(t: f64, freedom: f64) -> f64 {
    let tail = 0.5 * incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t));
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The chance that of `count` trials, each of this chance, `least` or more succeed.
pub(crate) fn binomial_tail(count: f64, chance: f64, least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    if least > count {
        return 0.0;
    }
    incomplete_beta(least, count - least + 1.0, chance)
}

/// Where an ascending function has this value, between −`bound` and `bound`.
fn bisect(of: impl Fn(f64) -> f64, value: f64, bound: f64) -> f64 {
    let (mut low, mut high) = (-bound, bound);
    for _ in 0..120 {
        let middle = f64::midpoint(low, high);
        if of(middle) < value { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The complementary error function, which is an incomplete gamma function: by its series for small numbers,
/// by its continued fraction for large ones (Abramowitz and Stegun, 7.1.6 and 7.1.14).
fn erfc(x: f64) -> f64 {
    let z = x.abs();
    let tail = if z < 2.5 {
        let (mut term, mut sum, mut n) = (z, z, 0.0);
        while term > 1e-17 * sum {
            n += 1.0;
            term *= 2.0 * z * z / (2.0 * n + 1.0);
            sum += term;
        }
        1.0 - 2.0 / PI.sqrt() * (-z * z).exp() * sum
    } else {
        let fraction = (1..=60).rev().fold(0.0, |below, step| f64::from(step) / 2.0 / (z + below));
        (-z * z).exp() / PI.sqrt() / (z + fraction)
    };
    if x >= 0.0 { tail } else { 2.0 - tail }
}

/// The regularised incomplete beta function, by its continued fraction (Lentz's method).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast below the mean only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    const TINY: f64 = 1e-300;
    let guard = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..10_000 {
        let m = f64::from(step);
        for numerator in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / guard(1.0 + numerator * d);
            c = guard(1.0 + numerator / c);
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-12 {
            break;
        }
    }
    (front * fraction).clamp(0.0, 1.0)
}

/// The logarithm of the gamma function of a positive number (Lanczos, g = 7, n = 9).
fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (PI / (PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let terms = COEFFICIENTS.iter().enumerate().skip(1);
    let sum = COEFFICIENTS[0] + terms.map(|(at, term)| term / (x + at as f64)).sum::<f64>();
    let t = x + 7.5;
    0.5 * (2.0 * PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, by: f64) {
        assert!((a - b).abs() < by, "{a} is not {b}");
    }

    #[test]
    fn quantiles_are_those_of_printed_tables() {
        for (chance, z) in [(0.5, 0.0), (0.95, 1.6449), (0.975, 1.9600), (0.999, 3.0902), (0.025, -1.9600)] {
            close(normal_quantile(chance), z, 1e-4);
        }
        for (chance, freedom, t) in [
            (0.975, 1.0, 12.706),
            (0.975, 4.0, 2.776),
            (0.975, 10.0, 2.228),
            (0.95, 8.0, 1.860),
            (0.995, 5.0, 4.032),
            (0.999, 3.0, 10.215),
            (0.975, 1e6, 1.960),
        ] {
            close(student_quantile(chance, freedom), t, 2e-3);
        }
    }

    #[test]
    fn binomial_tails_are_sums_of_terms() {
        let exact = |count: u32, chance: f64, least: u32| -> f64 {
            let mut term = (1.0 - chance).powi(count as i32);
            let mut below = 0.0;
            for k in 0..least {
                below += term;
                term *= f64::from(count - k) / f64::from(k + 1) * chance / (1.0 - chance);
            }
            1.0 - below
        };
        for (count, chance, least) in
            [(10, 0.5, 7), (100, 0.01, 3), (1000, 0.01, 20), (5, 0.2, 0), (3, 0.1, 4)]
        {
            close(
                binomial_tail(f64::from(count), chance, f64::from(least)),
                exact(count, chance, least).max(0.0),
                1e-9,
            );
        }
    }
}

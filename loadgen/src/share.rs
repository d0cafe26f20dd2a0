//! Some of a number of things: how many, or which percentage.

use std::str::FromStr;

/// Some of a number of things.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(crate) enum Share {
    Number(u32),
    Percent(f64),
}

impl Share {
    /// How many that is of `all`, to the nearest.
    pub(crate) fn of(self, all: u32) -> u32 {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => (f64::from(all) * percent / 100.0).round() as u32,
        }
    }
}

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let share = match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|part| (0.0..=100.0).contains(part)).map(Self::Percent)
            }
            None => text.parse().ok().map(Self::Number),
        };
        share.ok_or("a number, or a percentage as in 5%, is needed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_or_a_percentage() {
        assert_eq!("50".parse(), Ok(Share::Number(50)));
        assert_eq!("2.5%".parse::<Share>().map(|share| share.of(1000)), Ok(25));
        assert_eq!((Share::Percent(100.0).of(u32::MAX), Share::Number(7).of(3)), (u32::MAX, 7));
        for wrong in ["", "%", "-1", "-1%", "101%", "NaN%", "x", "1.5"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}

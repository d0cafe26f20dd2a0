//! Times as the original writes them: ISO 8601 in UTC, without a zone where the server made them, and with
//! the zone that a back end gave.

use std::fmt::{self, Write};

/// Microseconds since 1970, as this dialect shows them.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Default, Debug)]
pub struct Moment(pub u64);

impl Moment {
    /// So many microseconds later.
    pub(super) fn after(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if micros > 0 { write!(f, ".{micros:06}") } else { Ok(()) }
    }
}

/// Year, month and day of a day since 1970 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The moment of a time in the form of [`normalise`], in Unix milliseconds; a time before 1970 is 1970.
pub(super) fn unix_ms(time: &str) -> u64 {
    let mut reader = Reader(time.as_bytes());
    let mut next = |len| {
        let number = reader.number(len, len).unwrap_or_default();
        reader.0 = reader.0.get(1..).unwrap_or_default();
        i64::from(number)
    };
    let (year, month, day) = (next(4), next(2), next(2));
    let (hour, minute, second) = (next(2), next(2), next(2));
    // The time of day ends with the first character of what follows, if anything does.
    let rest = time.get(19..).unwrap_or_default();
    let fraction = rest.strip_prefix('.').and_then(|rest| rest.get(..3)?.parse::<i64>().ok()).unwrap_or(0);
    let zone = rest.find(['+', '-']).and_then(|at| rest.get(at..)).and_then(zone_minutes).unwrap_or(0);
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - zone;
    u64::try_from((minutes * 60 + second) * 1000 + fraction).unwrap_or_default()
}

/// `+hh:mm` in minutes.
fn zone_minutes(zone: &str) -> Option<i64> {
    let number = |text: Option<&str>| text?.parse::<i64>().ok();
    let minutes = number(zone.get(1..3))? * 60 + number(zone.get(4..6))?;
    Some(if zone.starts_with('-') { -minutes } else { minutes })
}

/// Days from 1970 to a date; see [`date`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A time as a back end gave it, in the one form that is kept; `None`: it is none. A date and a time are
/// needed; seconds, their fraction and the zone may be missing.
pub(super) fn normalise(text: &str) -> Option<String> {
    let mut reader = Reader(text.as_bytes());
    let year = reader.number(4, 4)?;
    reader.byte(b"-")?;
    let month = reader.number(1, 2)?;
    reader.byte(b"-")?;
    let day = reader.number(1, 2)?;
    reader.byte(b"T ")?;
    let hour = reader.number(1, 2)?;
    reader.byte(b":")?;
    let minute = reader.number(1, 2)?;
    let (mut second, mut micros) = (0, 0);
    if reader.byte(b":").is_some() {
        second = reader.number(1, 2)?;
        if reader.byte(b".").is_some() {
            micros = reader.fraction()?;
        }
    }
    let zone = reader.zone()?;
    let is_date = year > 0 && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut out = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if micros > 0 {
        write!(out, ".{micros:06}").ok()?;
    }
    out.push_str(&zone);
    Some(out)
}

/// A time as frames show it: `Z` for UTC.
pub(super) fn in_frames(time: &str) -> String {
    match time.strip_suffix("+00:00") {
        Some(time) => format!("{time}Z"),
        None => time.into(),
    }
}

fn days_of(year: u32, month: u32) -> u32 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn digits(&self, most: usize) -> usize {
        self.0.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count()
    }

    fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let len = self.digits(most);
        (len >= least).then_some(())?;
        let (digits, rest) = self.0.split_at(len);
        self.0 = rest;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    fn byte(&mut self, of: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        of.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    /// Up to twelve digits, of which six count.
    fn fraction(&mut self) -> Option<u32> {
        let shown = self.digits(6);
        let number = self.number(1, 6)?;
        self.0 = &self.0[self.digits(6)..];
        Some((shown..6).fold(number, |micros, _| micros * 10))
    }

    /// The zone, which is the rest.
    fn zone(&mut self) -> Option<String> {
        if self.0.is_empty() {
            return Some(String::new());
        }
        if self.byte(b"Z").is_some() {
            return self.0.is_empty().then(|| "+00:00".into());
        }
        let sign = char::from(self.byte(b"+-")?);
        let hours = self.number(2, 2)?;
        let colon = self.byte(b":");
        let minutes = self.number(2, 2).or_else(|| colon.is_none().then_some(0))?;
        let is_zone = self.0.is_empty() && hours < 24 && minutes < 60;
        let sign = if hours + minutes == 0 { '+' } else { sign };
        is_zone.then(|| format!("{sign}{hours:02}:{minutes:02}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_as_the_original_shows_them() {
        assert_eq!(Moment(1_700_000_000_000_001).to_string(), "2023-11-14T22:13:20.000001");
        assert_eq!(Moment(951_782_400_000_000).to_string(), "2000-02-29T00:00:00");
        assert_eq!(Moment(0).to_string(), "1970-01-01T00:00:00");
    }

    #[test]
    fn moments_are_read_from_the_form_that_is_kept() {
        let moments = [
            ("2023-11-14T22:13:20.000001", 1_700_000_000_000),
            ("2023-11-14T22:13:20.250000+00:00", 1_700_000_000_250),
            ("2023-11-15T03:43:20+05:30", 1_700_000_000_000),
            ("2023-11-14T14:13:20-08:00", 1_700_000_000_000),
            ("1970-01-01T00:00:00", 0),
            ("0001-01-01T00:00:00", 0),
            ("2000-02-29T00:00:00", 951_782_400_000),
        ];
        for (time, moment) in moments {
            assert_eq!(unix_ms(time), moment, "{time}");
        }
    }

    #[test]
    fn times_are_read_leniently() {
        let forms = [
            ("2020-01-02T03:04:05Z", "2020-01-02T03:04:05+00:00"),
            ("2020-1-2 3:4", "2020-01-02T03:04:00"),
            ("2020-01-02T03:04:05.12", "2020-01-02T03:04:05.120000"),
            ("2020-01-02T03:04:05.123456789", "2020-01-02T03:04:05.123456"),
            ("2020-02-29T23:59:59+0530", "2020-02-29T23:59:59+05:30"),
            ("2020-01-02T03:04-08", "2020-01-02T03:04:00-08:00"),
        ];
        for (given, kept) in forms {
            assert_eq!(normalise(given).as_deref(), Some(kept), "{given}");
        }
        assert_eq!(in_frames("2020-01-02T03:04:05+00:00"), "2020-01-02T03:04:05Z");
        assert_eq!(in_frames("2020-01-02T03:04:05+05:30"), "2020-01-02T03:04:05+05:30");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let wrong = [
            "",
            "2020-01-02",
            "03:04:05",
            "2021-02-29T00:00",
            "2020-13-01T00:00",
            "2020-01-01T24:00",
            "2020-01-01T00:00:60",
            "2020-01-01T00:00:00.",
            "2020-01-01T00:00:00 Z",
            "2020-01-01T00:00:00+5",
            "2020-01-01T00:00:00+05:",
            "0000-01-01T00:00:00",
            "1700000000",
        ];
        for text in wrong {
            assert_eq!(normalise(text), None, "{text:?}");
        }
    }
}

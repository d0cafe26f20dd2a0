//! The text of metrics, in the format that the reader asks for: Prometheus's text format 0.0.4, or
//! OpenMetrics 1.0.

use std::fmt::{self, Write as _};

use axum::http::{HeaderMap, header::ACCEPT};

use super::histogram::{BOUNDS_NS, Observations};

/// A text format of metrics.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum TextFormat {
    Prometheus,
    OpenMetrics,
}

impl TextFormat {
    /// The format that a request prefers.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let mut best = (0.0, Self::Prometheus);
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for range in values.flat_map(|text| text.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next().unwrap_or_default() {
                "application/openmetrics-text" => Self::OpenMetrics,
                "text/plain" => Self::Prometheus,
                _ => continue,
            };
            let parameters = || parts.clone().filter_map(|part| part.split_once('='));
            let value = |wanted: &str| parameters().find(|(name, _)| *name == wanted).map(|(_, value)| value);
            let is_known = match format {
                Self::OpenMetrics => matches!(value("version"), None | Some("0.0.1" | "1.0.0")),
                Self::Prometheus => true,
            };
            let quality = value("q").map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
            if is_known && quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }

    /// The media type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The kind of a metric.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The name of a label and its value, which has no character that would have to be escaped.
pub(crate) type Label<'a> = (&'a str, &'a dyn fmt::Display);

/// Writes metrics, family by family.
pub(crate) struct Exposition {
    format: TextFormat,
    text: String,
    /// The name of the family that is written.
    name: String,
}

impl Exposition {
    pub(crate) fn new(format: TextFormat) -> Self {
        Self { format, text: String::with_capacity(32 << 10), name: String::new() }
    }

    /// Begins a metric. `name` is the name of its samples. OpenMetrics names a counter without `_total`.
    pub(crate) fn begin(&mut self, name: &str, kind: Kind, help: &str) {
        name.clone_into(&mut self.name);
        let (family, kind) = match self.format {
            TextFormat::Prometheus => (name, kind.name()),
            TextFormat::OpenMetrics => match name.strip_suffix("_info") {
                Some(family) => (family, "info"),
                None => (name.strip_suffix("_total").unwrap_or(name), kind.name()),
            },
        };
        let unit = ["seconds", "bytes"].into_iter().find(|unit| family.ends_with(&format!("_{unit}")));
        self.line(format_args!("# HELP {family} {help}"));
        self.line(format_args!("# TYPE {family} {kind}"));
        if let Some(unit) = unit.filter(|_| self.format == TextFormat::OpenMetrics) {
            self.line(format_args!("# UNIT {family} {unit}"));
        }
    }

    /// A value of the metric that was begun.
    pub(crate) fn sample(&mut self, labels: &[Label<'_>], value: impl fmt::Display) {
        self.put_sample("", labels, value);
    }

    /// The buckets, the sum and the count of a histogram.
    pub(crate) fn histogram(&mut self, labels: &[Label<'_>], observations: &Observations) {
        let bounds = BOUNDS_NS.map(seconds);
        let mut count = 0;
        let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
        for (bound, more) in bounds.zip(observations.counts) {
            count += more;
            self.put_sample("_bucket", &[labels, &[("le", &bound)]].concat(), count);
        }
        self.put_sample("_sum", labels, seconds(observations.sum_ns));
        self.put_sample("_count", labels, count);
    }

    /// The whole text.
    pub(crate) fn finish(mut self) -> String {
        if self.format == TextFormat::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn put_sample(&mut self, suffix: &str, labels: &[Label<'_>], value: impl fmt::Display) {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        for (at, (name, label)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            write!(self.text, "{before}{name}=\"{label}\"").expect("a string grows");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.line(format_args!("{end} {value}"));
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a string grows");
        self.text.push('\n');
    }
}

/// Nanoseconds as seconds, in the form that OpenMetrics calls canonical.
pub(crate) fn seconds(ns: u64) -> String {
    let s = ns as f64 / 1e9;
    match ns {
        1..100_000 => format!("{s:e}").replace("e-", "e-0"),
        _ => format!("{s:?}"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_format_is_the_one_that_the_reader_prefers() {
        let wanted = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).expect("a value"));
            TextFormat::wanted(&headers)
        };
        let open = "application/openmetrics-text";
        assert_eq!(TextFormat::wanted(&HeaderMap::new()), TextFormat::Prometheus);
        for accept in [
            open,
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.3,\
             */*;q=0.2",
            "text/plain; q=0.1, application/openmetrics-text; version=0.0.1; q=0.2",
        ] {
            assert_eq!(wanted(accept), TextFormat::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            ";;;,q=,;q",
            "text/plain, application/openmetrics-text;q=0.9",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=x",
            "application/openmetrics-text;version=2.0.0",
        ] {
            assert_eq!(wanted(accept), TextFormat::Prometheus, "{accept}");
        }
    }

    #[test]
    fn seconds_are_canonical() {
        let texts = [0, 1, 1_000, 2_500, 99_999, 100_000, 250_000_000, 1_000_000_000, 90_000_000_000];
        let expected = ["0.0", "1e-09", "1e-06", "2.5e-06", "9.9999e-05", "0.0001", "0.25", "1.0", "90.0"];
        assert_eq!(texts.map(seconds), expected);
    }

    #[test]
    fn a_family_has_the_form_of_its_format() {
        let write = |format| {
            let mut text = Exposition::new(format);
            text.begin("a_seconds_total", Kind::Counter, "Help.");
            text.sample(&[("b", &1), ("c", &"d")], 7);
            text.begin("a_info", Kind::Gauge, "Help.");
            text.sample(&[], 1);
            text.finish()
        };
        assert_eq!(
            write(TextFormat::Prometheus),
            "# HELP a_seconds_total Help.\n# TYPE a_seconds_total counter\n\
             a_seconds_total{b=\"1\",c=\"d\"} 7\n# HELP a_info Help.\n# TYPE a_info gauge\na_info 1\n"
        );
        assert_eq!(
            write(TextFormat::OpenMetrics),
            "# HELP a_seconds Help.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
             a_seconds_total{b=\"1\",c=\"d\"} 7\n# HELP a Help.\n# TYPE a info\na_info 1\n# EOF\n"
        );
    }
}

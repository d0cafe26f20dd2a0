//! A comparison as text, Markdown, JSON and HTML.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use super::{Finding, Judgement, Number, Section};
use crate::report::html;

impl Judgement {
    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for section in &self.sections {
            section.write_text(&mut out).expect("a string takes everything");
        }
        if self.finding != Finding::NotJudged {
            writeln!(out, "gate: {}", verdict(self.finding)).expect("a string takes everything");
        }
        out
    }

    /// For a pull request, or the summary of a job.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        if self.finding != Finding::NotJudged {
            writeln!(out, "**Gate: {}**\n", verdict(self.finding)).expect("a string takes everything");
        }
        for section in &self.sections {
            section.write_markdown(&mut out).expect("a string takes everything");
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("numbers and strings");
        json.push('\n');
        json
    }

    /// One page.
    pub fn html(&self) -> String {
        let mut out = html::begin("Comparison");
        if self.finding != Finding::NotJudged {
            let class = if self.finding == Finding::Same { "good" } else { "bad" };
            out += &format!("<p class={class}>Gate: {}</p>", verdict(self.finding));
        }
        for section in &self.sections {
            section.write_html(&mut out).expect("a string takes everything");
        }
        out + "</html>\n"
    }
}

impl Section {
    fn title(&self) -> String {
        let name = format!("{} {}", self.scenario, self.phase);
        if !self.is_one_of_several {
            return name.trim_end().to_owned();
        }
        format!("{}: {} against {}", name.trim_end(), list(&self.after), list(&self.before))
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}", self.title())?;
        let (before, after) = (self.before.len(), self.after.len());
        writeln!(
            out,
            "{:>24} {:>13} {:>13} {:>9}  ({before} and {after} runs)",
            "", "before", "after", "change"
        )?;
        for number in &self.numbers {
            let [before, after, change] = number.cells();
            write!(out, "{:>24} {before:>13} {after:>13} {change:>9}  {}", number.name, number.word())?;
            writeln!(out)?;
            for line in number.details() {
                writeln!(out, "{:>24} {line}", "")?;
            }
        }
        Ok(())
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "### {}\n", self.title())?;
        writeln!(
            out,
            "| number | before ({}) | after ({}) | change | |",
            self.before.len(),
            self.after.len()
        )?;
        writeln!(out, "|---|--:|--:|--:|---|")?;
        for number in &self.numbers {
            let [before, after, change] = number.cells();
            let details = number.details().join("; ");
            let word = if details.is_empty() {
                number.word().into()
            } else {
                format!("{}: {details}", number.word())
            };
            writeln!(out, "| {} | {before} | {after} | {change} | {word} |", number.name)?;
        }
        writeln!(out)
    }

    fn write_html(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "<h2>{}</h2>", html::escape(&self.title()))?;
        write!(out, "<p class=soft>before: {}<br>after: {}</p>", shown(&self.before), shown(&self.after))?;
        write!(
            out,
            "<div class=wide><table><tr><th>number<th>before ({})<th>after ({})<th>change<th>95 %<th>",
            self.before.len(),
            self.after.len()
        )?;
        for number in &self.numbers {
            let [before, after, change] = number.cells();
            let class = match number.difference.finding {
                Finding::Worse => "bad",
                Finding::Same => "good",
                _ => "soft",
            };
            write!(out, "<tr><td>{}<td>{before}<td>{after}<td>{change}", number.name)?;
            write!(out, "<td>{}<td class={class}>{}", number.interval(), number.word())?;
            if let Some(why) = number.needs() {
                write!(out, "<span class=soft>: {}</span>", html::escape(&why))?;
            }
        }
        write!(out, "</table></div>")?;
        html::write_curves(out, &self.curves, ["before", "after"])
    }
}

impl Number {
    /// Before, after and the change.
    fn cells(&self) -> [String; 3] {
        let shown = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.3}"));
        let change = self.difference.change_percent;
        [
            shown(self.difference.before),
            shown(self.difference.after),
            change.map_or("–".into(), |change| format!("{change:+.1} %")),
        ]
    }

    fn interval(&self) -> String {
        let interval = self.difference.interval_percent;
        interval.map_or("–".into(), |(low, high)| format!("{low:+.1} to {high:+.1} %"))
    }

    fn word(&self) -> &'static str {
        let difference = &self.difference;
        match (difference.finding, difference.interval_percent) {
            (Finding::Worse, _) => "FAILED",
            (Finding::Inconclusive, _) => "INCONCLUSIVE",
            (Finding::Same, _) if difference.is_better => "better",
            (Finding::Same, _) => "same",
            (Finding::NotJudged, None) => "not judged",
            (Finding::NotJudged, Some((low, high))) if low <= 0.0 && high >= 0.0 => "no difference seen",
            (Finding::NotJudged, Some(_)) if difference.is_better => "better",
            (Finding::NotJudged, Some(_)) => "worse",
        }
    }

    /// What would be needed to say more.
    fn needs(&self) -> Option<String> {
        let difference = &self.difference;
        let mut parts: Vec<String> = difference.why.iter().cloned().collect();
        if let (Finding::Inconclusive | Finding::NotJudged, Some(percent)) =
            (difference.finding, difference.smallest_percent)
        {
            parts.push(format!("these runs show {percent:.1} % or more"));
        }
        if difference.finding == Finding::Inconclusive {
            parts.push(match difference.runs_needed {
                Some(runs) => format!("{runs} runs a side would do"),
                None => "no number of runs would do".into(),
            });
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn details(&self) -> Vec<String> {
        let interval = self.difference.interval_percent.map(|_| format!("95 %: {}", self.interval()));
        let tolerance = self.difference.tolerance_percent.map(|percent| format!("allowed {percent} %"));
        let first: Vec<_> = interval.into_iter().chain(tolerance).collect();
        let first = (!first.is_empty()).then(|| first.join(", "));
        first.into_iter().chain(self.needs()).collect()
    }
}

fn verdict(finding: Finding) -> &'static str {
    match finding {
        Finding::Worse => "worse",
        Finding::Inconclusive => "inconclusive: these runs cannot say whether anything is worse",
        Finding::Same => "passed: better, or the same within the tolerance",
        Finding::NotJudged => "nothing was judged",
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(",")
}

fn shown(paths: &[PathBuf]) -> String {
    let name = |path: &Path| html::escape(&path.display().to_string());
    paths.iter().map(|path| name(path)).collect::<Vec<_>>().join(", ")
}

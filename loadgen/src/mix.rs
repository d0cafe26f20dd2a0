//! A TOML plan: phases one after the other, each with one or several parts at the same time.
//!
//! ```toml
//! # Options of the command line, for all parts.
//! duration = 10
//! key = "…"
//!
//! [[phase]]
//! name = "quiet"
//! part = [{ scenario = "fanout", rate = 20 }]
//!
//! [[phase]]
//! name = "busy"
//! part = [
//!     { scenario = "fanout", subscribers = 5000, rate = 100 },
//!     { scenario = "connect", cycles = 8 },
//! ]
//! ```
//!
//! A part is a command line in other words: its keys are the scenario's options, so they need no second
//! explanation and no second parser. Parts of a phase use channels of their own.

use std::{fs, path::Path};

use clap::Parser;
use serde::Deserialize;
use toml::{Table, Value};

use crate::{
    args::{Args, Job, sentence},
    plan::{Plan, PlanError},
};

/// What goes on at the same time.
#[derive(Debug, Clone)]
pub struct Phase {
    /// Its name; empty for a command line's one phase.
    pub name: String,
    /// Its parts.
    pub plans: Vec<Plan>,
}

#[derive(Deserialize)]
struct File {
    phase: Vec<RawPhase>,
    #[serde(flatten)]
    common: Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPhase {
    name: String,
    part: Vec<Table>,
}

/// Reads the plan of `path`; the command line's own options are `given`, and go last.
pub(crate) fn read(path: &Path, given: &[String]) -> Result<Vec<Phase>, PlanError> {
    let wrong = |why: &str| PlanError(format!("The plan {}: {why}.", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(&format!("it cannot be read ({error})")))?;
    let file: File = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
        wrong(&format!("line {line}: {}", error.message().replace('\n', ", ")))
    })?;
    if file.phase.is_empty() || file.phase.iter().any(|phase| phase.part.is_empty()) {
        return Err(wrong("there is nothing to do in it"));
    }
    let mut phases = Vec::new();
    for RawPhase { name, part } in file.phase {
        let mut plans = Vec::new();
        let is_shared = part.len() > 1;
        for (number, part) in part.iter().enumerate() {
            let mut plan = read_part(part, &file.common, given)
                .map_err(|why| wrong(&format!("phase {name:?}, part {}: {why}", number + 1)))?;
            plan.prefix = format!("{}{number}-", plan.prefix);
            plan.run = plan.run.wrapping_add(number as u32);
            plan.shared = is_shared;
            plans.push(plan);
        }
        let rivals: Vec<_> = (0..plans.len()).map(|part| rivals_of(&plans, part)).collect();
        plans.iter_mut().zip(rivals).for_each(|(plan, rivals)| plan.rivals = rivals);
        phases.push(Phase { name, plans });
    }
    Ok(phases)
}

/// Workers of a phase's other parts that spin where this part's may run.
fn rivals_of(plans: &[Plan], part: usize) -> u32 {
    let own = &plans[part].pin;
    let is_near =
        |plan: &Plan| own.is_empty() || plan.pin.is_empty() || plan.pin.iter().any(|cpu| own.contains(cpu));
    let others =
        plans.iter().enumerate().filter(|(number, plan)| *number != part && plan.spin && is_near(plan));
    others.map(|(_, plan)| plan.workers()).sum()
}

fn read_part(part: &Table, common: &Table, given: &[String]) -> Result<Plan, String> {
    let scenario = part.get("scenario").and_then(Value::as_str).ok_or("it names no scenario")?;
    if ["mix", "ab", "compare", "child"].contains(&scenario) {
        return Err(format!("{scenario} is no scenario"));
    }
    let mut words = vec!["fanfare-loadgen".to_owned(), scenario.to_owned()];
    let own = part.iter().filter(|(name, _)| *name != "scenario");
    let inherited = common.iter().filter(|(name, _)| !part.contains_key(*name));
    for (name, value) in inherited.chain(own) {
        put_option(&mut words, name, value)?;
    }
    words.extend_from_slice(given);
    let job = Args::try_parse_from(words).map_err(|error| sentence(&error));
    match job?.into_job().map_err(|error| error.0.trim_end_matches('.').to_owned())? {
        (Job::Run(mut phases), _) => Ok(phases.remove(0).plans.remove(0)),
        _ => Err("it is no scenario".into()),
    }
}

/// `name = value` as `--name=value`; a flag is there or not.
fn put_option(words: &mut Vec<String>, name: &str, value: &Value) -> Result<(), String> {
    let flag = format!("--{}", name.replace('_', "-"));
    match value {
        Value::Boolean(true) => words.push(flag),
        Value::Boolean(false) => {}
        Value::String(text) => words.push(format!("{flag}={text}")),
        Value::Integer(number) => words.push(format!("{flag}={number}")),
        Value::Float(number) => words.push(format!("{flag}={number}")),
        Value::Array(values) => {
            let list: Vec<_> = values
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect();
            words.push(format!("{flag}={}", list.join(",")));
        }
        _ => return Err(format!("{name} has a value that no option has")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Phase>, PlanError> {
        read_with(text, "")
    }

    /// With these options on the command line.
    fn read_with(text: &str, options: &str) -> Result<Vec<Phase>, PlanError> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fanfare-mix-{}-{number}.toml", std::process::id()));
        fs::write(&path, text).expect("written");
        let line = format!("loadgen mix {} {options}", path.display());
        let job = Args::read(line.split_whitespace()).expect("well-formed").into_job();
        fs::remove_file(&path).expect("removed");
        job.map(|(job, _)| match job {
            Job::Run(phases) => phases,
            other => panic!("{other:?} is no run"),
        })
    }

    #[test]
    fn parts_are_command_lines_in_other_words() {
        let phases = read_text(
            "duration = 2\npin = [0, 1]\n\
             [[phase]]\nname = \"a\"\npart = [{ scenario = \"fanout\", rate = 20, duration = 3.5 }]\n\
             [[phase]]\nname = \"b\"\n\
             part = [{ scenario = \"connect\", no_join = true }, { scenario = \"idle\" }]\n",
        )
        .expect("a good plan");
        assert_eq!(phases.len(), 2);
        assert!((phases[0].plans[0].window_seconds - 3.5).abs() < 1e-9);
        let [connect, idle] = &phases[1].plans[..] else { panic!("two parts") };
        assert_eq!((connect.work.name(), connect.pin.as_slice()), ("connect", [0, 1].as_slice()));
        assert!((connect.window_seconds - 2.0).abs() < 1e-9);
        assert_ne!(connect.prefix, idle.prefix);
        assert!(connect.shared && !phases[0].plans[0].shared);
    }

    #[test]
    fn parts_that_spin_on_the_same_cpus_are_warned() {
        let warned = |pins: [&str; 2], sleep: &str| {
            let part = |pin: &str| format!("{{ scenario = \"fanout\", rate = 5, pin = [{pin}]{sleep} }}");
            let text = format!("[[phase]]\nname = \"a\"\npart = [{}, {}]\n", part(pins[0]), part(pins[1]));
            let phases = read_text(&text).expect("a good plan");
            let warnings = phases[0].plans.iter().map(|plan| plan.spin_warning().is_some());
            warnings.collect::<Vec<_>>()
        };
        assert_eq!(warned(["0", "0"], ""), [true, true]);
        assert_eq!(warned(["0", "1"], ""), [false, false]);
        assert_eq!(warned(["0", "0"], ", sleep = true"), [false, false]);
    }

    #[test]
    fn parts_have_thresholds_of_their_own() {
        let phases = read_with(
            "fail_if = \"lost>0\"\n[[phase]]\nname = \"a\"\n\
             part = [{ scenario = \"fanout\", fail-if = [\"p99>5ms\", \"max>1s\"] },\n\
             { scenario = \"idle\" }]\n",
            "",
        )
        .expect("a good plan");
        let texts = |part: usize| {
            phases[0].plans[part].fail_if.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((texts(0).as_str(), texts(1).as_str()), ("lost>0 p99>5ms max>1s", "lost>0"));
        let refusal =
            read_text("[[phase]]\nname = \"a\"\npart = [{ scenario = \"idle\", fail_if = \"p98>1\" }]");
        assert!(refusal.expect_err("no such number").0.contains("p98"));
    }

    #[test]
    fn command_line_has_the_last_word_in_all_parts() {
        let text = "duration = 2\nurl = \"ws://127.0.0.1:1\"\n[[phase]]\nname = \"a\"\n\
                    part = [{ scenario = \"fanout\", threads = 3 }, { scenario = \"idle\", seed = 4 }]\n";
        let phases = read_with(text, "-d 5 --threads 2 --pin 0,1 --sleep --json x").expect("a good plan");
        for plan in &phases[0].plans {
            assert_eq!((plan.window_seconds, plan.threads), (5.0, 2));
            assert_eq!((plan.pin.as_slice(), plan.address.port()), ([0, 1].as_slice(), 1));
        }
        assert_eq!(phases[0].plans[1].seed, 4);
        let refusal =
            read_with("spin = true\n[[phase]]\nname = \"a\"\npart = [{ scenario = \"idle\" }]", "--sleep");
        assert!(refusal.expect_err("a contradiction").0.contains("cannot be used with"));
    }

    #[test]
    fn plans_that_make_no_sense_are_refused_with_a_sentence() {
        for text in [
            "",
            "phase = []",
            "phase = 3",
            "[[phase]]\nname = \"a\"\npart = []",
            "[[phase]]\nname = \"a\"\npart = [{}]",
            "[[phase]]\nname = \"a\"\npart = [{ scenario = \"mix\" }]",
            "[[phase]]\nname = \"a\"\npart = [{ scenario = \"nothing\" }]",
            "[[phase]]\nname = \"a\"\npart = [{ scenario = \"fanout\", colour = \"red\" }]",
            "[[phase]]\nname = \"a\"\npart = [{ scenario = \"fanout\", window = {} }]",
        ] {
            let error = read_text(text).expect_err(text);
            assert!(error.0.ends_with('.') && !error.0.contains('\n'), "{error}");
        }
    }
}

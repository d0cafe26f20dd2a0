//! The command line: what was typed becomes a job. [`options`] declares what can be typed, [`planning`] makes
//! a plan of it.

mod options;
mod planning;

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use clap::{
    ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, error::ErrorKind, parser::ValueSource,
};
use clap_complete::Shell;
use fanfare_doctor::Needs;
use options::{Ab, Common, Compare, Doctor, Mix, Run, Scenario};

use crate::{
    compare::{Comparison, Tolerances},
    mix::{self, Phase},
    plan::PlanError,
    preflight,
    search::{Quantity, SearchPlan},
    thresholds::Threshold,
};

/// What `--version` says.
const VERSION_AND_COMMIT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("FANFARE_COMMIT"), ")");

/// Load for realtime channel servers: every delivery verified, every latency counted from when it was due.
#[derive(Parser, Debug)]
#[command(name = "fanfare-loadgen", version = VERSION_AND_COMMIT)]
#[command(max_term_width = 100, args_override_self = true)]
pub struct Args {
    #[command(subcommand)]
    scenario: Scenario,
    /// The common options of the plan that are on the command line, word for word.
    #[arg(skip)]
    given: Vec<String>,
}

/// Where the report goes.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// As JSON into this file; `-` is standard output.
    pub json: Option<PathBuf>,
    /// As an interval log into this file.
    pub hlog: Option<PathBuf>,
    /// As a page into this file.
    pub html: Option<PathBuf>,
    /// Of a comparison: as Markdown into this file; `-` is standard output.
    pub markdown: Option<PathBuf>,
    /// The first faults as JSON lines into this file.
    pub faults: Option<PathBuf>,
    /// Neither table nor progress.
    pub quiet: bool,
}

/// Two servers, and how they are compared.
#[derive(Debug, Clone)]
pub struct AbPlan {
    /// What is done at each.
    pub phases: Vec<Phase>,
    /// What starts them.
    pub commands: [String; 2],
    /// What answers when they are ready.
    pub ready: String,
    /// Rounds of four runs.
    pub rounds: u32,
    /// CPUs that they run on; anywhere if there are none.
    pub server_cpu: Vec<u32>,
    /// By how much the second may be worse.
    pub gate: Tolerances,
    /// Where the reports go.
    pub out: PathBuf,
}

/// What the command line asks for.
#[derive(Debug, Clone)]
pub enum Job {
    /// These phases, one after the other. Their plans are not checked yet.
    Run(Vec<Phase>),
    /// A search for a rate or a number of connections. Its plan is not checked yet.
    Search(Box<SearchPlan>),
    /// Two servers in turns. Its plans are not checked yet.
    Ab(Box<AbPlan>),
    /// A comparison.
    Compare(Comparison),
    /// An examination of this machine for these needs, as text or as JSON.
    Doctor {
        /// What is needed.
        needs: Needs,
        /// Whether the answer is JSON.
        is_json: bool,
    },
    /// What a coordinator in another process says.
    Child,
    /// The completions of the command line for a shell.
    Completions(Shell),
    /// The manual pages, into this directory.
    Manual(PathBuf),
}

/// The completions of the command line for a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "fanfare-loadgen", &mut text);
    text
}

/// Writes the manual pages, one for each command.
///
/// # Errors
/// A file cannot be written.
pub fn write_manual(directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Args::command(), directory)
}

/// What is wrong with a command line, in one sentence without its full stop.
pub fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut paragraphs =
        text.split("\n\n").map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut sentence = paragraphs.next().unwrap_or_default();
    sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence).to_owned();
    // The list that follows has what is not for people.
    sentence.truncate(sentence.find(" [subcommands: ").unwrap_or(sentence.len()));
    for tip in paragraphs.filter_map(|paragraph| Some(paragraph.strip_prefix("tip: ")?.to_owned())) {
        sentence = format!("{sentence}; {tip}");
    }
    sentence
}

impl Args {
    /// Reads a command line, the program's name first.
    pub fn read<T: Into<OsString> + Clone>(words: impl IntoIterator<Item = T>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(words)?;
        refuse_hidden(&matches)?;
        let mut args = Self::from_arg_matches(&matches)?;
        args.given = given(&matches);
        Ok(args)
    }

    /// The job, and where its report goes.
    pub fn into_job(self) -> Result<(Job, Output), PlanError> {
        Ok(match self.scenario {
            Scenario::Compare(compare) => compare.into_job()?,
            Scenario::Ab(Run { own, common }) => {
                let output = Output { markdown: own.markdown.clone(), ..common.output() };
                (Job::Ab(Box::new(own.into_plan(&self.given)?)), output)
            }
            Scenario::Doctor(Doctor { connections, sources, json }) => {
                let needs = preflight::needs(connections.into(), sources.into());
                (Job::Doctor { needs, is_json: json }, Output::default())
            }
            Scenario::Child => (Job::Child, Output::default()),
            Scenario::Completions { shell } => (Job::Completions(shell), Output::default()),
            Scenario::Man { directory } => (Job::Manual(directory), Output::default()),
            Scenario::Mix(Run { own: Mix { plan }, common }) => {
                (Job::Run(mix::read(&plan, &self.given)?), common.output())
            }
            scenario => {
                let output = scenario.common().map(Common::output).unwrap_or_default();
                if let Some((quantity, slo)) = scenario.common().and_then(Common::search) {
                    let slo = Threshold::read_all(&slo).map_err(|why| PlanError(format!("{why}.")))?;
                    let search = SearchPlan::new(scenario.into_plan()?, quantity, slo)?;
                    return Ok((Job::Search(Box::new(search)), output));
                }
                (Job::Run(vec![Phase { name: String::new(), plans: vec![scenario.into_plan()?] }]), output)
            }
        })
    }
}

impl Common {
    /// What is searched for, and the conditions; none if nothing is.
    fn search(&self) -> Option<(Quantity, Vec<String>)> {
        let quantity = match (self.find_rate, self.find_connections) {
            (true, _) => Quantity::Rate,
            (_, true) => Quantity::Connections,
            _ => return None,
        };
        Some((quantity, self.slo.clone()))
    }

    fn output(&self) -> Output {
        Output {
            json: self.json.clone(),
            hlog: self.hlog.clone(),
            html: self.html.clone(),
            markdown: None,
            faults: self.faults.clone(),
            quiet: self.quiet,
        }
    }
}

impl Ab {
    fn into_plan(self, given: &[String]) -> Result<AbPlan, PlanError> {
        let Self { plan, a, b, ready, rounds, server_cpu, gate, out, markdown: _ } = self;
        if rounds == 0 || rounds > 1000 {
            return Err(PlanError(format!("{rounds} rounds are none: 1 to 1000 are.")));
        }
        let (phases, gate) = (mix::read(&plan, given)?, Tolerances::read(&gate)?);
        Ok(AbPlan { phases, commands: [a, b], ready, rounds, server_cpu, gate, out })
    }
}

impl Compare {
    fn into_job(self) -> Result<(Job, Output), PlanError> {
        let Self { sides, gate, force, json, html, markdown, quiet } = self;
        let sides = sides.iter().map(|side| side.split(',').map(PathBuf::from).collect()).collect();
        let comparison = Comparison { sides, gate: Tolerances::read(&gate)?, force };
        Ok((Job::Compare(comparison), Output { json, html, markdown, quiet, ..Output::default() }))
    }
}

/// Refuses an option that is on the command line, and that its command has no use for: it would be believed
/// to be in effect.
fn refuse_hidden(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let mut command = Args::command();
    let Some(command) = command.find_subcommand_mut(name) else { return Ok(()) };
    let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    // A lower bound will do where none is measured, too: scripts say so of all scenarios.
    let hidden =
        command.get_arguments().filter(|option| option.is_hide_set() && option.get_id() != "lower_bound");
    let useless =
        hidden.filter(|option| is_given(option.get_id().as_str())).find_map(|option| option.get_long());
    match useless.map(|option| format!("{name} has no use for '--{option}'")) {
        Some(sentence) => Err(command.error(ErrorKind::ArgumentConflict, sentence)),
        None => Ok(()),
    }
}

/// Options of the plan that are on a command line, and not in the environment or left out: what goes before a
/// mix's file.
fn given(matches: &ArgMatches) -> Vec<String> {
    const NOT_OF_PLANS: [&str; 14] = [
        "json",
        "hlog",
        "html",
        "faults",
        "quiet",
        "plan",
        "a",
        "b",
        "ready",
        "rounds",
        "server_cpu",
        "gate",
        "out",
        "markdown",
    ];
    let Some((name, matches)) = matches.subcommand() else { return Vec::new() };
    let command = Args::command();
    let Some(command) = command.find_subcommand(name) else { return Vec::new() };
    let options = command.get_arguments().filter(|option| !NOT_OF_PLANS.contains(&option.get_id().as_str()));
    let given = options.filter_map(|option| {
        let (id, long) = (option.get_id().as_str(), option.get_long()?);
        if matches.value_source(id)? != ValueSource::CommandLine {
            return None;
        }
        if matches!(option.get_action(), ArgAction::SetTrue) {
            return Some(format!("--{long}"));
        }
        let values: Vec<_> = matches.get_raw(id)?.map(|value| value.to_string_lossy()).collect();
        Some(format!("--{long}={}", values.join(",")))
    });
    given.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_what_a_command_uses_and_nothing_else_is_taken() {
        for (line, option) in [
            ("idle", "--find-rate --slo lost=0"),
            ("idle", "--batch 7"),
            ("connect", "--find-connections --slo failed=0"),
            ("connect", "--parallel 5"),
            ("presence", "--publish-http"),
            ("storm", "--triggers"),
            ("send", "--publish-path /x"),
            ("mix plan.toml", "--find-rate --slo lost=0"),
            ("ab plan.toml --a x --b y --ready ws://127.0.0.1:1", "--faults x"),
        ] {
            let words = format!("loadgen {line} {option}");
            let name = option.split(' ').next().expect("a word");
            let error = Args::read(words.split(' ')).expect_err(&words);
            assert!(sentence(&error).contains(&format!("has no use for '{name}'")), "{error}");
            let mut command = Args::command();
            let subcommand = command.find_subcommand_mut(line.split(' ').next().expect("a word"));
            let help = subcommand.expect("it exists").render_long_help().to_string();
            assert!(!help.contains(&format!("{name} ")) && help.contains("--warmup "), "{help}");
        }
        for line in [
            "fanout -r 5 --find-rate --slo lost=0",
            "idle --lower-bound",
            "idle --find-connections --slo bytes<9",
        ] {
            assert!(Args::read(format!("loadgen {line}").split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn command_lines_that_are_wrong_are_refused_with_a_sentence() {
        for (line, what) in [
            (
                "loadgen broadcats",
                "unrecognized subcommand 'broadcats'; a similar subcommand exists: 'broadcast'",
            ),
            (
                "loadgen fanout -n many",
                "invalid value 'many' for '--subscribers <N>': invalid digit found in string",
            ),
            (
                "loadgen connect --to 5",
                "the following required arguments were not provided: --rate <PER_SECOND>",
            ),
            (
                "loadgen fanout --slo lost=0",
                "the following required arguments were not provided: <--find-rate|--find-connections>",
            ),
            ("loadgen fanout --colour red", "unexpected argument '--colour' found"),
            (
                "loadgen compare a b --pin 1",
                "unexpected argument '--pin' found; to pass '--pin' as a value, use '-- --pin'",
            ),
            ("loadgen --threads 2", "unexpected argument '--threads' found"),
        ] {
            let error = Args::try_parse_from(line.split_whitespace()).expect_err(line);
            assert_eq!(sentence(&error), what);
        }
    }
}

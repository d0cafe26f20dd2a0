//! `fanfare-loadgen`: arguments → phases → runs → reports; nothing else.
//!
//! Exits with 0 if everything arrived as it should, 1 if the server was at fault, 2 if it never began, 3 if
//! the generator was the limit or a comparison inconclusive, 4 if a threshold was passed. An interrupt
//! (SIGINT, SIGTERM) ends the run early with what it has got, and with 130; a second one ends the program at
//! once.

mod ab;
mod view;

use std::{
    env, fs, io,
    io::Write,
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use clap::error::ErrorKind;
use fanfare_doctor::{Examination, Machine, Needs};
use fanfare_loadgen::{
    AbPlan, Args, Comparison, Gate, Job, Output, Phase, Plan, PlanError, Progress, Report, SearchPlan,
    Verdict, completions, part_name, run, run_child, sentence, to_faults, to_hlog, to_html, to_json,
    write_manual,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use view::View;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a shell says of a program that an interrupt has ended.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let args = match Args::read(env::args_os()) {
        // Help, or what version this is.
        Err(asked_for) if !asked_for.use_stderr() || is_nothing_asked(&asked_for) => asked_for.exit(),
        Err(error) => Err(PlanError(format!("{}; --help says more.", sentence(&error)))),
        Ok(args) => Ok(args),
    };
    let outcome = args.and_then(Args::into_job).and_then(|(job, output)| match job {
        Job::Run(phases) => run_phases(phases, &output).map(Verdict::exit_status),
        Job::Search(search) => run_search(&search, &output).map(Verdict::exit_status),
        Job::Ab(plan) => run_ab(&plan, &output),
        Job::Compare(comparison) => compare(&comparison, &output),
        Job::Doctor { needs, is_json } => doctor(&needs, is_json),
        Job::Completions(shell) => print(&String::from_utf8_lossy(&completions(shell))).map(|()| 0),
        Job::Manual(directory) => write_manual(&directory).map(|()| 0).map_err(|error| {
            PlanError(format!("The pages cannot be written to `{}`: {error}.", directory.display()))
        }),
        Job::Child => {
            let outcome = run_child();
            outcome.map(|()| 0).map_err(|error| PlanError(format!("This process cannot go on: {error}.")))
        }
    });
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("fanfare-loadgen: {error}");
            ExitCode::from(2)
        }
    }
}

/// Examines this machine; says with which status to exit.
fn doctor(needs: &Needs, is_json: bool) -> Result<u8, PlanError> {
    let examination = Examination::new(&Machine::own(), needs);
    let text = if is_json { format!("{}\n", examination.to_json()) } else { examination.to_string() };
    print(&text).map(|()| examination.exit_status())
}

/// Compares saved reports, and writes the comparison; says with which status to exit.
fn compare(comparison: &Comparison, output: &Output) -> Result<u8, PlanError> {
    let judgement = comparison.judge()?;
    let is_on_stdout =
        [&output.json, &output.markdown].into_iter().flatten().any(|path| path == Path::new("-"));
    if !output.quiet && !is_on_stdout {
        print(&judgement.text())?;
    }
    let texts = [
        (&output.json, judgement.json()),
        (&output.markdown, judgement.markdown()),
        (&output.html, judgement.html()),
    ];
    for (path, text) in texts.iter().filter_map(|(path, text)| Some((path.as_deref()?, text))) {
        put(path, text)?;
    }
    Ok(judgement.exit_status())
}

/// Whether the command line is empty: help is what follows.
fn is_nothing_asked(error: &clap::Error) -> bool {
    error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// Runs one phase after the other and reports; says what all of them come to.
fn run_phases(mut phases: Vec<Phase>, output: &Output) -> Result<Verdict, PlanError> {
    check(&mut phases)?;
    open_outputs(output)?;
    let interrupted = notice_interrupts()?;
    let runs = measure(&phases, output, &interrupted)?;
    save(&runs, output)?;
    Ok(runs.iter().map(|(_, report)| report.verdict).max().unwrap_or(Verdict::Interrupted))
}

/// Sees whether all parts of all phases can be done, before any is.
fn check(phases: &mut [Phase]) -> Result<(), PlanError> {
    for Phase { name, plans } in phases {
        for (number, plan) in plans.iter_mut().enumerate() {
            plan.check().map_err(|error| match name.as_str() {
                "" => error,
                name => PlanError(format!("Phase {name:?}, part {}: {error}", number + 1)),
            })?;
        }
    }
    Ok(())
}

/// Runs one phase after the other, and shows what came of each part.
fn measure(
    phases: &[Phase],
    output: &Output,
    interrupted: &Arc<AtomicBool>,
) -> Result<Vec<(String, Report)>, PlanError> {
    let json_on_stdout = output.json.as_deref() == Some(Path::new("-"));
    let mut runs: Vec<(String, Report)> = Vec::new();
    for phase in phases {
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        if !output.quiet && !phase.name.is_empty() {
            eprintln!("phase {}", phase.name);
        }
        if !output.quiet {
            phase.plans.iter().for_each(|plan| eprint!("{}", plan.describe_wrapped()));
        }
        for report in run_parts(&phase.plans, output, interrupted) {
            runs.push((phase.name.clone(), report));
            let (number, last) = (runs.len() - 1, &runs[runs.len() - 1].1);
            if output.quiet || json_on_stdout {
                last.problems.iter().for_each(|problem| eprintln!("{problem}"));
            } else {
                print(&last.results(&part_name(&runs, number)))?;
            }
        }
    }
    Ok(runs)
}

/// Runs two servers in turns and compares them; says with which status to exit.
fn run_ab(plan: &AbPlan, output: &Output) -> Result<u8, PlanError> {
    let interrupted = notice_interrupts()?;
    let quiet = Output { quiet: true, ..Output::default() };
    let outcome = ab::run(plan, || {
        let mut phases = plan.phases.clone();
        check(&mut phases)?;
        measure(&phases, &quiet, &interrupted)
    })?;
    match outcome {
        Ok(comparison) => compare(&comparison, output),
        Err(verdict) => Ok(verdict.exit_status()),
    }
}

/// Searches for a load: one run after the other, until the search knows enough.
fn run_search(plan: &SearchPlan, output: &Output) -> Result<Verdict, PlanError> {
    plan.plan.clone().check()?;
    open_outputs(output)?;
    let interrupted = notice_interrupts()?;
    if !output.quiet {
        eprint!("{}", plan.plan.describe_wrapped());
    }
    let mut search = plan.begin();
    while let Some(load) = search.next_load() {
        let mut at = plan.at(load);
        if let Err(error) = at.check() {
            search.give_up(error.0);
            break;
        }
        if !output.quiet {
            eprintln!("{}", plan.quantity.show(load));
        }
        let report = run_parts(&[at], output, &interrupted).remove(0);
        search.take(plan.judge(load, &report));
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    let is_on_stdout = output.json.as_deref() == Some(Path::new("-"));
    if !output.quiet && !is_on_stdout {
        print(&search.text())?;
    }
    output.json.as_deref().map_or(Ok(()), |path| put(path, &search.json()))?;
    output.html.as_deref().map_or(Ok(()), |path| put(path, &search.html()))?;
    Ok(if interrupted.load(Ordering::Relaxed) { Verdict::Interrupted } else { search.verdict() })
}

/// What becomes true with the first interrupt. The second one ends the program.
fn notice_interrupts() -> Result<Arc<AtomicBool>, PlanError> {
    let wrong = |error: io::Error| PlanError(format!("Interrupts cannot be noticed: {error}."));
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&interrupted)).map_err(wrong)?;
        flag::register(signal, Arc::clone(&interrupted)).map_err(wrong)?;
    }
    Ok(interrupted)
}

/// Runs the parts of a phase at the same time.
fn run_parts(plans: &[Plan], output: &Output, interrupted: &Arc<AtomicBool>) -> Vec<Report> {
    let gate = Gate::interrupted_by(plans.len(), Arc::clone(interrupted));
    let scenarios: Vec<_> = plans.iter().map(|plan| plan.work.name()).collect();
    let view = (!output.quiet).then(|| Mutex::new(View::new(&scenarios)));
    let show = |number, progress: Progress<'_>| {
        if let Some(view) = &view {
            view.lock().unwrap_or_else(PoisonError::into_inner).show(number, progress);
        }
    };
    thread::scope(|scope| {
        let run_part = |(number, plan)| {
            let (gate, show) = (&gate, &show);
            scope.spawn(move || run(plan, gate, &mut |progress| show(number, progress)))
        };
        let parts: Vec<_> = plans.iter().enumerate().map(run_part).collect();
        parts.into_iter().map(|part| part.join().expect("a run does not panic")).collect()
    })
}

/// Sees whether reports can be written before there is something to write.
fn open_outputs(output: &Output) -> Result<(), PlanError> {
    for path in [&output.json, &output.hlog, &output.html, &output.faults].into_iter().flatten() {
        if path != Path::new("-") {
            let file = fs::OpenOptions::new().create(true).append(true).open(path);
            file.map_err(|error| cannot_write(path, &error))?;
        }
    }
    Ok(())
}

/// Writes all the reports that can be written, and says which one could not.
fn save(runs: &[(String, Report)], output: &Output) -> Result<(), PlanError> {
    let json = output.json.as_deref().map(|path| put(path, &to_json(runs)));
    let hlog = output.hlog.as_deref().map(|path| write(path, &to_hlog(runs)));
    let html = output.html.as_deref().map(|path| put(path, &to_html(runs)));
    let faults = output.faults.as_deref().map(|path| put(path, &to_faults(runs)));
    [json, hlog, html, faults].into_iter().flatten().collect()
}

/// Writes a text to a file; to standard output if that is `-`.
fn put(path: &Path, text: &str) -> Result<(), PlanError> {
    if path == Path::new("-") { print(text) } else { write(path, text.as_bytes()) }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), PlanError> {
    fs::write(path, bytes).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> PlanError {
    PlanError(format!("The report cannot be written to {}: {error}.", path.display()))
}

fn print(text: &str) -> Result<(), PlanError> {
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| PlanError(format!("The report cannot be printed: {error}.")))
}

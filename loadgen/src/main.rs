//! `fanfare-loadgen`: arguments → phases → runs → reports; nothing else.
//!
//! Exits with 0 if everything arrived as it should, 1 if not or if a run ended early, 2 if it never began.

use std::{
    fs,
    io::{IsTerminal, Write},
    path::Path,
    process::ExitCode,
    thread,
};

use clap::Parser;
use fanfare_loadgen::{
    Args, Gate, Job, Output, Phase, Plan, PlanError, Progress, Report, run, to_hlog, to_html, to_json,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = Args::parse().into_job().and_then(|(job, output)| match job {
        Job::Run(phases) => run_phases(phases, &output),
        Job::Compare(comparison) => {
            let verdict = comparison.judge()?;
            print(&verdict.text).map(|()| verdict.is_passed)
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fanfare-loadgen: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs one phase after the other and reports; says whether all was well.
fn run_phases(mut phases: Vec<Phase>, output: &Output) -> Result<bool, PlanError> {
    for plan in phases.iter_mut().flat_map(|phase| &mut phase.plans) {
        plan.check()?;
    }
    let json_on_stdout = output.json.as_deref() == Some(Path::new("-"));
    let mut runs: Vec<(String, Report)> = Vec::new();
    for phase in &phases {
        if !output.quiet && !phase.name.is_empty() {
            eprintln!("phase {}", phase.name);
        }
        for report in run_parts(&phase.plans, output) {
            if output.quiet || json_on_stdout {
                report.problems.iter().for_each(|problem| eprintln!("{problem}"));
            } else {
                print(&report.table())?;
            }
            runs.push((phase.name.clone(), report));
        }
    }
    save(&runs, output)?;
    Ok(runs.iter().all(|(_, report)| report.is_clean()))
}

/// Runs the parts of a phase at the same time.
fn run_parts(plans: &[Plan], output: &Output) -> Vec<Report> {
    let gate = Gate::new(plans.len());
    thread::scope(|scope| {
        let run_part = |(number, plan)| {
            let gate = &gate;
            let is_silent = output.quiet || number > 0;
            scope.spawn(move || run(plan, gate, &mut |progress| show(is_silent, progress)))
        };
        let parts: Vec<_> = plans.iter().enumerate().map(run_part).collect();
        parts.into_iter().map(|part| part.join().expect("a run does not panic")).collect()
    })
}

/// Says on a terminal's last line, or line by line elsewhere, what a run is at.
fn show(is_silent: bool, progress: Progress<'_>) {
    let is_terminal = std::io::stderr().is_terminal();
    match progress {
        _ if is_silent => {}
        Progress::Stage(stage) if is_terminal => eprint!("\r\x1b[K{stage}"),
        Progress::Connected(connected, total) if is_terminal => {
            eprint!("\r\x1b[Kconnecting: {connected} of {total}\r");
        }
        Progress::Rate(rate) if is_terminal => eprint!("\x1b[40G\x1b[K{rate:.0}/s\r"),
        Progress::Stage(stage) => eprintln!("{stage}"),
        Progress::Connected(..) | Progress::Rate(_) => {}
    }
}

fn save(runs: &[(String, Report)], output: &Output) -> Result<(), PlanError> {
    match &output.json {
        Some(path) if path == Path::new("-") => print(&to_json(runs))?,
        Some(path) => write(path, to_json(runs).as_bytes())?,
        None => {}
    }
    if let Some(path) = &output.hlog {
        write(path, &to_hlog(runs))?;
    }
    if let Some(path) = &output.html {
        write(path, to_html(runs).as_bytes())?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), PlanError> {
    fs::write(path, bytes)
        .map_err(|error| PlanError(format!("The report cannot be written to {}: {error}.", path.display())))
}

fn print(text: &str) -> Result<(), PlanError> {
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| PlanError(format!("The report cannot be printed: {error}.")))
}

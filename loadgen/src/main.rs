//! `fanfare-loadgen`: arguments → plan → run → report; nothing else.
//!
//! Exits with 0 if everything arrived as it should, 1 if not or if the run ended early, 2 if it never began.

use std::{fs, io::Write, path::Path, process::ExitCode};

use clap::Parser;
use fanfare_loadgen::{Args, Output, Plan, PlanError, Report, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let planned =
        Args::parse().into_plan().and_then(|(mut plan, output)| plan.check().map(|()| (plan, output)));
    let (plan, output) = match planned {
        Ok(planned) => planned,
        Err(error) => return complain(&error),
    };
    let report = run(&plan, &mut |what| {
        if !output.quiet {
            eprintln!("{what}…");
        }
    });
    match deliver(&plan, &report, &output) {
        Err(error) => complain(&error),
        Ok(()) if report.is_clean() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
    }
}

fn deliver(plan: &Plan, report: &Report, output: &Output) -> Result<(), PlanError> {
    let json_on_stdout = output.json.as_deref() == Some(Path::new("-"));
    if !output.quiet && !json_on_stdout {
        print(&report.table())?;
    }
    if output.quiet || json_on_stdout {
        for problem in &report.problems {
            eprintln!("{problem}");
        }
    }
    let Some(path) = &output.json else { return Ok(()) };
    let json = report.json(plan);
    if json_on_stdout {
        return print(&json);
    }
    fs::write(path, json)
        .map_err(|error| PlanError(format!("The report cannot be written to {}: {error}.", path.display())))
}

fn print(text: &str) -> Result<(), PlanError> {
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| PlanError(format!("The report cannot be printed: {error}.")))
}

fn complain(error: &PlanError) -> ExitCode {
    eprintln!("fanfare-loadgen: {error}");
    ExitCode::from(2)
}

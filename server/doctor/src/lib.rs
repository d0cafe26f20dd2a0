//! What a machine gives to a process with very many connections, what the process would need, and the lines
//! that change it.
//!
//! ```text
//!   Machine: /proc, /sys, /run, the kernel's clock ─▶ checks ─▶ Examination ─▶ text, JSON, exit status
//!   Needs: connections, role ───────────────────────────┘
//! ```
//!
//! The server and the load generator share this crate. It reads files below a root, which a test replaces,
//! and changes nothing. What cannot be read is unknown, and no error.

mod cgroup;
mod checks;
mod machine;

use std::fmt;

use serde::Serialize;

pub use machine::{ClockSync, Machine};

/// What a process has to be able to do.
#[derive(Copy, Clone, Debug)]
pub struct Needs {
    /// Connections at one time.
    pub connections: u64,
    /// Files open besides connections.
    pub other_files: u64,
    /// Whether the process accepts the connections or opens them.
    pub role: Role,
}

/// Which end of the connections a process is.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Role {
    /// The process accepts connections.
    Server {
        /// Connections that wait to be accepted, for each listening socket.
        backlog: u64,
        /// Threads that serve connections.
        workers: u64,
    },
    /// The process opens connections.
    Generator {
        /// Addresses that connections are opened from.
        sources: u64,
    },
}

/// The state of one thing.
#[derive(Copy, Clone, Eq, PartialEq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The thing is as it should be.
    Ok,
    /// The thing could not be read.
    Unknown,
    /// The connections are possible, at a price.
    Warning,
    /// The connections are not possible.
    Problem,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What was found out about one thing.
#[derive(Clone, Eq, PartialEq, Debug, Serialize)]
pub struct Finding {
    /// The thing.
    pub name: &'static str,
    /// Its state.
    pub state: State,
    /// What is.
    pub found: String,
    /// What the connections need.
    pub needed: String,
    /// The lines that change what is, or a sentence.
    pub change: Vec<String>,
}

/// All findings.
#[derive(Clone, Eq, PartialEq, Debug, Serialize)]
pub struct Examination {
    /// The connections that were asked for.
    pub connections: u64,
    /// The findings, always the same things in the same order.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// Examines a machine.
    pub fn new(machine: &Machine, needs: &Needs) -> Self {
        Self { connections: needs.connections, findings: checks::all(machine, needs) }
    }

    /// The worst state.
    pub fn state(&self) -> State {
        self.findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok)
    }

    /// The exit status: 1 if the connections are not possible, and 0 otherwise.
    pub fn exit_status(&self) -> u8 {
        u8::from(self.state() == State::Problem)
    }

    /// The findings as one JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("words and numbers are JSON")
    }
}

impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "for {} connections:", self.connections)?;
        for finding in &self.findings {
            let Finding { name, state, found, needed, change } = finding;
            writeln!(f, "{:8} {name}: {found}; needed: {needed}", state.word())?;
            for line in change {
                writeln!(f, "           {line}")?;
            }
        }
        Ok(())
    }
}

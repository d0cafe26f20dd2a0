//! The load generator: puts a server under a known load, verifies every delivery, and says who was saturated.
//!
//! ```text
//!  args, mix ─▶ plan ─▶ coordinator ─────────────────────────▶ report ─▶ table, JSON, hlog, HTML
//!                    │ stage, quota        ▲ tally               ▲
//!                    ▼ (control)           │                     │ /proc at the edges of windows
//!            worker, one per thread: net ⇄ dialogue ⇄ scenario           procfs
//!                                    │      │          │ stamp, ledger, flights or pacer, histogram
//!                                 sockets   └─ driver ─┘ (the server's protocol)
//! ```
//!
//! | layer | modules | knows |
//! |---|---|---|
//! | pure | `stamp`, `ledger`, `order`, `faults`, `pacer`, `timeline` | bytes and time |
//! | pure | `histogram`, `statistics` | numbers |
//! | network | `net`, `timer`, `clock` | sockets, TLS, frames and HTTP, not what they mean |
//! | protocol | `dialogue`, `drivers` | what the server says and wants to hear |
//! | scenarios | `scenario`, `tally` | what is sent and what must come back |
//! | run | `plan`, `preflight`, `control`, `coordinator` | what is done, and its stages |
//! | processes | `worker`, `peer_signal`, `processes`, `child`, `procfs` | threads and processes |
//! | result | `report`, `verdict`, `thresholds`, `search`, `compare` | numbers and words |

mod args;
mod child;
mod clock;
mod compare;
mod control;
mod coordinator;
mod dialogue;
mod doubt;
mod drivers;
mod faults;
mod histogram;
mod ledger;
mod mix;
mod net;
mod order;
mod pacer;
mod peer_signal;
mod plan;
mod preflight;
mod processes;
mod procfs;
mod report;
mod scenario;
mod search;
mod share;
mod stamp;
mod statistics;
mod tally;
mod thresholds;
mod timeline;
mod timer;
mod verdict;
mod worker;

pub use args::{AbPlan, Args, Job, Output, completions, sentence, write_manual};
pub use child::run_child;
pub use compare::{Comparison, Finding, Judgement, Tolerances};
pub use coordinator::{Gate, LastSecond, Live, Progress, Usage, run};
pub use histogram::Percentiles;
pub use ledger::Faults;
pub use mix::Phase;
pub use net::Handshakes;
pub use plan::{
    ConnectPlan, DriverPlan, IdlePlan, Notices, Pace, Plan, PlanError, PresencePlan, PublishPlan, Rate,
    Scope, StormPlan, TlsPlan, Work,
};
pub use procfs::{Memory, ProcessInfo};
pub use report::{
    AllParts, Idling, Limit, Load, Machine, Report, Row, StageRow, TickRow, part_name, to_faults, to_hlog,
    to_html, to_json,
};
pub use search::{Probe, ProbeFinding, Quantity, Search, SearchPlan};
pub use tally::{Returns, Slow, Verdicts};
pub use thresholds::{Measured, Threshold};
pub use verdict::{Blame, Reason, Verdict};

/// The generator's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from.
pub const COMMIT: &str = env!("FANFARE_COMMIT");

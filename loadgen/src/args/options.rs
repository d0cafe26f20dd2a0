//! The options as they are declared: what each is called, means, and is if left out.

use std::path::PathBuf;

use clap::{Arg, Args, Subcommand, value_parser};
use clap_complete::Shell;

use crate::{plan::Notices, share::Share};

const DEFAULT_URL: &str = "ws://127.0.0.1:8080";

#[derive(Subcommand, Debug)]
pub(super) enum Scenario {
    /// One channel with many subscribers; publishers on connections of their own
    Fanout(Run<Fanout>),
    /// Many channels whose members send to each other
    #[command(mut_args(|arg| without(arg, OF_PUBLISHERS)))]
    Send(Run<Send>),
    /// Messages to everyone
    #[command(mut_args(|arg| without(arg, OF_PUBLISHERS)))]
    Broadcast(Run<Broadcast>),
    /// One channel, and some of its subscribers stop reading
    Slow(Run<Slow>),
    /// All connections drop and come back, at the beginning of each window
    #[command(mut_args(|arg| without(arg, &["lower_bound", "triggers"])))]
    Storm(Run<Storm>),
    /// Connections at rest: what does one cost?
    #[command(mut_args(|arg| without(without(arg, OF_MESSAGES), &["lower_bound", "find_rate", "hlog"])))]
    Idle(Run<Idle>),
    /// Handshake, join and close, again and again
    #[command(mut_args(|arg| without(without(arg, OF_MESSAGES), &["parallel", "find_connections"])))]
    Connect(Run<Connect>),
    /// Members join and leave, the others are told
    #[command(mut_args(|arg| without(without(arg, OF_MESSAGES), &["find_connections"])))]
    Presence(Run<Presence>),
    /// Phases one after the other, each with scenarios at the same time, as a file says
    #[command(mut_args(|arg| without(arg, OF_SEARCHES)))]
    Mix(Run<Mix>),
    /// Two servers in turns, each started anew for every run of a plan; then compared
    #[command(mut_args(|arg| without(without(arg, OF_SEARCHES), &["server_pid", "hlog", "faults"])))]
    Ab(Run<Ab>),
    /// Compare saved reports
    Compare(Compare),
    /// Say what this machine gives to connections and what they need; exits with 1 if that is too little
    Doctor(Doctor),
    /// Print the completions of the command line for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages, one for each command
    Man {
        /// The directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// One of several processes; another one, which starts it, says what to do
    #[command(hide = true)]
    Child,
}

/// Options of publishers that have connections of their own.
const OF_PUBLISHERS: &[&str] = &["publish_path", "publish_http", "batch"];
/// Options of messages.
const OF_MESSAGES: &[&str] = &["publish_path", "publish_http", "batch", "send", "triggers"];
/// Options of searches.
const OF_SEARCHES: &[&str] = &["find_rate", "find_connections", "slo"];

/// Hides an option if it is one of these, which its command has no use for. A hidden option on a command line
/// is refused.
fn without(arg: Arg, useless: &[&str]) -> Arg {
    let is_useless = useless.contains(&arg.get_id().as_str());
    if is_useless { arg.hide(true) } else { arg }
}

#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// Connections of this machine at one time
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub(super) connections: u32,
    /// Source addresses
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) sources: u32,
    /// Answer with a JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What is done, and what every scenario has.
#[derive(Args, Debug)]
pub(super) struct Run<T: Args> {
    #[command(flatten)]
    pub(super) own: T,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Args, Debug)]
pub(super) struct Fanout {
    /// Subscribers of the channel
    #[arg(long, short = 'n', default_value_t = 1000, value_name = "N")]
    pub(super) subscribers: u32,
    /// Publishers
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(super) publishers: u32,
    #[command(flatten)]
    pub(super) pace: PaceArgs,
}

#[derive(Args, Debug)]
pub(super) struct Send {
    /// Channels
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub(super) channels: u32,
    /// Members of each; the first one sends to the others
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(super) members: u32,
    /// Who sends receives its own messages, too
    #[arg(long)]
    pub(super) echo: bool,
    #[command(flatten)]
    pub(super) pace: PaceArgs,
}

#[derive(Args, Debug)]
pub(super) struct Broadcast {
    /// Connections; the first ones publish, to the others and to each other
    #[arg(long, short = 'n', default_value_t = 1000, value_name = "N")]
    pub(super) connections: u32,
    /// Publishers
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(super) publishers: u32,
    #[command(flatten)]
    pub(super) pace: PaceArgs,
}

#[derive(Args, Debug)]
pub(super) struct Slow {
    /// Subscribers of the channel
    #[arg(long, short = 'n', default_value_t = 1000, value_name = "N")]
    pub(super) subscribers: u32,
    /// How many of them stop reading: a number, or a percentage as in 5%
    #[arg(long, default_value = "5%", value_name = "SHARE")]
    pub(super) slow: Share,
    /// Publishers
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(super) publishers: u32,
    #[command(flatten)]
    pub(super) pace: PaceArgs,
}

#[derive(Args, Debug)]
pub(super) struct Storm {
    /// Connections
    #[arg(long, short = 'n', default_value_t = 5_000, value_name = "N")]
    pub(super) connections: u32,
    /// Members of each channel
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(super) members: u32,
    /// Messages a second to these channels, all together; who comes back recovers them
    #[arg(long, short = 'r', default_value_t = 0.0, value_name = "PER_SECOND")]
    pub(super) rate: f64,
    /// Connections come back to their sessions by the tickets of their welcomes (native; the app needs
    /// resume_ms)
    #[arg(long)]
    pub(super) resume: bool,
    /// Subscribers of another channel, who stay
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) bystanders: u32,
    /// Messages a second to that channel
    #[arg(long, default_value_t = 100.0, value_name = "PER_SECOND")]
    pub(super) bystander_rate: f64,
    /// Bytes of a payload, as JSON: 62 or more
    #[arg(long, default_value_t = 64, value_name = "BYTES")]
    pub(super) payload: u32,
}

#[derive(Args, Debug)]
pub(super) struct PaceArgs {
    /// Bytes of a payload, as JSON: 62 or more
    #[arg(long, default_value_t = 64, value_name = "BYTES")]
    pub(super) payload: u32,
    /// Closed loop: messages in flight in each channel, until all of its subscribers have them
    #[arg(long, short = 'w', default_value_t = 32, value_name = "N", conflicts_with = "rate")]
    pub(super) window: u32,
    /// Closed loop: seconds after which a message counts as lost and the next one is sent
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub(super) expiry: f64,
    /// Open loop: messages a second, all publishers together
    #[arg(long, short = 'r', value_name = "PER_SECOND")]
    pub(super) rate: Option<f64>,
}

#[derive(Args, Debug)]
pub(super) struct Idle {
    /// Connections at the end
    #[arg(long, short = 'n', default_value_t = 15_000, value_name = "N")]
    pub(super) connections: u32,
    /// Connections when the server's memory is read for the first time
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub(super) base: u32,
    /// Members of each channel
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(super) members: u32,
    /// Rest before memory is read
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub(super) settle: f64,
}

#[derive(Args, Debug)]
pub(super) struct Connect {
    /// Cycles under way at one time, 32 if left out; with --rate at most, and if left out as many as are due
    /// in a second
    #[arg(long, value_name = "N")]
    pub(super) cycles: Option<u32>,
    /// Open loop: connections a second
    #[arg(long, short = 'r', value_name = "PER_SECOND")]
    pub(super) rate: Option<f64>,
    /// Open loop: what the rate is to grow to, evenly, from the first window to the end of the last
    #[arg(long, requires = "rate", value_name = "PER_SECOND")]
    pub(super) to: Option<f64>,
    /// Do not join a channel: handshake and close only
    #[arg(long)]
    pub(super) no_join: bool,
}

#[derive(Args, Debug)]
pub(super) struct Presence {
    /// Channels
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(super) channels: u32,
    /// Members of each, those that come and go included
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(super) members: u32,
    /// How many of them come and go, each with one operation under way
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) movers: u32,
    /// Each of them updates its profile between joining and leaving, and the others are told
    #[arg(long)]
    pub(super) updates: bool,
    /// Each of them asks for a page of 100 members between joining and leaving
    #[arg(long)]
    pub(super) queries: bool,
    /// Open loop: operations a second, all movers together, and none by the same one twice within 50 ms
    #[arg(long, short = 'r', value_name = "PER_SECOND")]
    pub(super) rate: Option<f64>,
    /// What the watchers are to be told
    #[arg(long, value_enum, default_value = "every", value_name = "WHICH")]
    pub(super) notices: Notices,
}

#[derive(Args, Debug)]
pub(super) struct Mix {
    /// The plan (TOML); docs/BENCHMARKING.md explains it
    pub(super) plan: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct Ab {
    /// The plan (TOML); docs/BENCHMARKING.md explains it
    pub(super) plan: PathBuf,
    /// The command line that starts one server, in the foreground
    #[arg(long, value_name = "COMMAND")]
    pub(super) a: String,
    /// The command line that starts the other one
    #[arg(long, value_name = "COMMAND")]
    pub(super) b: String,
    /// What answers when either is ready: an http:// URL, or a ws:// one that takes connections
    #[arg(long, value_name = "URL")]
    pub(super) ready: String,
    /// Rounds of four runs: a, b, b, a
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(super) rounds: u32,
    /// CPUs for the servers, with commas between
    #[arg(long, value_delimiter = ',', value_name = "CPU")]
    pub(super) server_cpu: Vec<u32>,
    /// As in compare
    #[arg(long, value_delimiter = ',', value_name = "PERCENT")]
    pub(super) gate: Vec<String>,
    /// Where the reports of all runs go
    #[arg(long, default_value = "fanfare-ab", value_name = "FOLDER")]
    pub(super) out: PathBuf,
    /// Write the comparison as Markdown to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE")]
    pub(super) markdown: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Compare {
    /// Two or more sides: reports of one run, or of several with commas between. The others are compared with
    /// the first
    #[arg(required = true, num_args = 2.., value_name = "REPORT,…")]
    pub(super) sides: Vec<String>,
    /// Exit with 1 if a number is worse by more than this, beyond chance, and with 3 if these runs cannot
    /// say: 5 for all of them but p99.9 and max, p99=20 for one, or both with a comma between
    #[arg(long, value_delimiter = ',', value_name = "PERCENT")]
    pub(super) gate: Vec<String>,
    /// Compare runs of different machines or plans
    #[arg(long)]
    pub(super) force: bool,
    /// Write the comparison as JSON to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the comparison as an HTML page
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Write the comparison as Markdown to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE")]
    pub(super) markdown: Option<PathBuf>,
    /// No table
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
}

#[derive(Args, Debug)]
pub(super) struct Common {
    /// The server
    #[arg(
        long,
        default_value = DEFAULT_URL,
        value_name = "URL",
        env = "FANFARE_URL"
    )]
    pub(super) url: String,
    /// Certificates of authorities to trust (PEM) with a wss:// URL; the system's if left out
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// With a wss:// URL: take any certificate
    #[arg(long)]
    pub(super) insecure: bool,
    /// With a wss:// URL: connections resume the TLS sessions of earlier ones, as clients that come back do.
    /// Without this each makes a whole handshake
    #[arg(long)]
    pub(super) resumption: bool,
    #[command(flatten)]
    pub(super) driver: DriverArgs,
    /// Processes of the server, with commas between; found by the port if left out
    #[arg(long, value_delimiter = ',', value_name = "PID")]
    pub(super) server_pid: Vec<u32>,
    /// Processes, each with its share of the work
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) processes: u32,
    /// Worker threads of each process
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) threads: u32,
    /// CPUs for the workers, with commas between
    #[arg(long, value_delimiter = ',', value_name = "CPU")]
    pub(super) pin: Vec<u32>,
    /// Never sleep: exact latencies for all of a core. The default in an open loop
    #[arg(long, conflicts_with = "sleep")]
    pub(super) spin: bool,
    /// Sleep when there is nothing to do. The default in a closed loop
    #[arg(long)]
    pub(super) sleep: bool,
    /// Closed loop: a generator that is the limit is no failure. Its rates are lower bounds: the server can
    /// do at least this. The server's CPU time for each delivery holds all the same
    #[arg(long)]
    pub(super) lower_bound: bool,
    /// Warm-up, not counted
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    pub(super) warmup: f64,
    /// Length of a window
    #[arg(long, short = 'd', default_value_t = 3.0, value_name = "SECONDS")]
    pub(super) duration: f64,
    /// Windows that are measured, one after the other
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(super) windows: u32,
    /// Time after the last window for what is on the way to arrive
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub(super) drain: f64,
    /// Exit with 4 if this is true: p99>5ms, lost>0, deliveries<100000/s; several with commas between or one
    /// by one
    #[arg(long, value_delimiter = ',', action = clap::ArgAction::Append, value_name = "CONDITION")]
    pub(super) fail_if: Vec<String>,
    /// Open loop: search for the highest rate that holds --slo, beginning with --rate
    #[arg(long, requires = "slo", group = "search")]
    pub(super) find_rate: bool,
    /// Search for the highest number of connections that holds --slo, beginning with that of the scenario
    #[arg(long, requires = "slo", group = "search")]
    pub(super) find_connections: bool,
    /// What a rate, or a number of connections, must hold: p99<20ms,lost=0
    #[arg(long, value_delimiter = ',', requires = "search", value_name = "CONDITION")]
    pub(super) slo: Vec<String>,
    /// Source addresses from 127.0.0.1 up; as many as needed if 0
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) sources: u32,
    /// Handshakes under way at one time while connecting
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub(super) parallel: u32,
    /// What channels' names begin with
    #[arg(long, default_value = "c", value_name = "TEXT")]
    pub(super) prefix: String,
    /// Where randomness comes from; the clock if left out
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Write the report as JSON to a file, or to standard output with `-`
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the latencies of each window as an HDR interval log
    #[arg(long, value_name = "FILE")]
    pub(super) hlog: Option<PathBuf>,
    /// Write the report as an HTML page
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Write the first thousand faults as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(super) faults: Option<PathBuf>,
    /// No table and no progress
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
}

#[derive(Args, Debug)]
pub(super) struct DriverArgs {
    /// The protocol: native, agnost, channelstream, xano, socketio, nchan, nats, plain, centrifugo or pusher
    #[arg(long, default_value = "native", value_name = "NAME")]
    pub(super) driver: String,
    /// The app (native), its environment (agnost, socketio) or canonical (xano)
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(super) app: String,
    /// The app's key, or a token (all but channelstream, xano, nchan and plain)
    #[arg(long, default_value = "", value_name = "KEY", env = "FANFARE_KEY", hide_env_values = true)]
    pub(super) key: String,
    /// The app's secret (pusher, channelstream), or its server key (native with --publish-http)
    #[arg(long, default_value = "", value_name = "SECRET", env = "FANFARE_SECRET", hide_env_values = true)]
    pub(super) secret: String,
    /// Path of the WebSocket (all but native, channelstream and pusher); {channel} in it is the channel
    /// (nchan, plain)
    #[arg(long, value_name = "PATH")]
    pub(super) path: Option<String>,
    /// Path for connections that only publish (nchan, plain)
    #[arg(long, value_name = "PATH")]
    pub(super) publish_path: Option<String>,
    /// Part of the text that says a connection is ready (plain); it is when it is open if left out
    #[arg(long, value_name = "TEXT")]
    pub(super) welcome: Option<String>,
    /// Text that joins {channel} (plain); connecting is joining if left out
    #[arg(long, value_name = "TEXT")]
    pub(super) join: Option<String>,
    /// Part of the answer to it (plain)
    #[arg(long, value_name = "TEXT")]
    pub(super) joined: Option<String>,
    /// Text that publishes {payload}, which is a JSON string, to {channel} (plain); the payload if left out
    #[arg(long, value_name = "TEXT")]
    pub(super) send: Option<String>,
    /// Members poll over HTTP (agnost, socketio, channelstream)
    #[arg(long)]
    pub(super) polling: bool,
    /// Publishers send over HTTP, each on one connection (native)
    #[arg(long)]
    pub(super) publish_http: bool,
    /// The app has triggers, which refuse, replace and answer messages: all of that is counted (native)
    #[arg(long)]
    pub(super) triggers: bool,
    /// Messages of one HTTP request at most, 1 to 256: those that wait when the last one was answered
    /// (native, channelstream)
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = value_parser!(u32).range(1..=256))]
    pub(super) batch: u32,
}

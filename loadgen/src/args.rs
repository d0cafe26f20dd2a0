//! The command line: what was typed becomes a plan; whether the plan makes sense is the plan's business.

use std::{
    ffi::OsString,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
};

use clap::{
    ArgAction, ArgMatches, Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand,
    parser::ValueSource,
};

use crate::{
    clock::now_ns,
    compare::{Comparison, Thresholds},
    mix::{self, Phase},
    plan::{
        ConnectPlan, DriverPlan, IdlePlan, Pace, Plan, PlanError, PresencePlan, PublishPlan, Rate, Scope,
        StormPlan, Work,
    },
    share::Share,
};

/// Cycles under way at one time if the command line does not say how many.
const MIN_CYCLES: u32 = 32;
const MAX_CYCLES: u32 = 16_384;
const DEFAULT_URL: &str = "ws://127.0.0.1:8080";

/// Load for realtime channel servers: every delivery verified, every latency counted from when it was due.
#[derive(Parser, Debug)]
#[command(name = "fanfare-loadgen", version, max_term_width = 100, args_override_self = true)]
pub struct Args {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    common: Common,
    /// The common options of the plan that are on the command line, word for word.
    #[arg(skip)]
    given: Vec<String>,
}

#[derive(Subcommand, Debug)]
enum Scenario {
    /// One channel with many subscribers; publishers on connections of their own
    Fanout(Fanout),
    /// Many channels whose members send to each other
    Send(Send),
    /// Messages to everyone
    Broadcast(Broadcast),
    /// One channel, and some of its subscribers stop reading
    Slow(Slow),
    /// All connections drop and come back, at the beginning of each window
    Storm(Storm),
    /// Connections at rest: what does one cost?
    Idle(Idle),
    /// Handshake, join and close, again and again
    Connect(Connect),
    /// Members join and leave, the others are told
    Presence(Presence),
    /// Phases one after the other, each with scenarios at the same time, as a file says
    Mix(Mix),
    /// Compare saved reports
    Compare(Compare),
    /// One of several processes; another one, which starts it, says what to do
    #[command(hide = true)]
    Part,
}

#[derive(ClapArgs, Debug)]
struct Fanout {
    /// Subscribers of the channel
    #[arg(long, short = 'n', default_value_t = 1000, value_name = "N")]
    subscribers: u32,
    /// Publishers
    #[arg(long, default_value_t = 4, value_name = "N")]
    publishers: u32,
    #[command(flatten)]
    pace: PaceArgs,
}

#[derive(ClapArgs, Debug)]
struct Send {
    /// Channels
    #[arg(long, default_value_t = 500, value_name = "N")]
    channels: u32,
    /// Members of each; the first one sends to the others
    #[arg(long, default_value_t = 2, value_name = "N")]
    members: u32,
    /// Who sends receives its own messages, too
    #[arg(long)]
    echo: bool,
    #[command(flatten)]
    pace: PaceArgs,
}

#[derive(ClapArgs, Debug)]
struct Broadcast {
    /// Connections; the first ones publish, to the others and to each other
    #[arg(long, short = 'n', default_value_t = 1000, value_name = "N")]
    connections: u32,
    /// Publishers
    #[arg(long, default_value_t = 4, value_name = "N")]
    publishers: u32,
    #[command(flatten)]
    pace: PaceArgs,
}

#[derive(ClapArgs, Debug)]
struct Slow {
    /// Subscribers of the channel
    #[arg(long, short = 'n', default_value_t = 1000, value_name = "N")]
    subscribers: u32,
    /// How many of them stop reading: a number, or a percentage as in 5%
    #[arg(long, default_value = "5%", value_name = "SHARE")]
    slow: Share,
    /// Publishers
    #[arg(long, default_value_t = 4, value_name = "N")]
    publishers: u32,
    #[command(flatten)]
    pace: PaceArgs,
}

#[derive(ClapArgs, Debug)]
struct Storm {
    /// Connections
    #[arg(long, short = 'n', default_value_t = 5_000, value_name = "N")]
    connections: u32,
    /// Members of each channel
    #[arg(long, default_value_t = 10, value_name = "N")]
    members: u32,
    /// Messages a second to these channels, all together; who comes back recovers them
    #[arg(long, short = 'r', default_value_t = 0.0, value_name = "PER_SECOND")]
    rate: f64,
    /// Subscribers of another channel, who stay
    #[arg(long, default_value_t = 0, value_name = "N")]
    bystanders: u32,
    /// Messages a second to that channel
    #[arg(long, default_value_t = 100.0, value_name = "PER_SECOND")]
    bystander_rate: f64,
    /// Bytes of a payload, as JSON: 62 or more
    #[arg(long, default_value_t = 64, value_name = "BYTES")]
    payload: u32,
}

#[derive(ClapArgs, Debug)]
struct PaceArgs {
    /// Bytes of a payload, as JSON: 62 or more
    #[arg(long, default_value_t = 64, value_name = "BYTES")]
    payload: u32,
    /// Closed loop: messages in flight in each channel, until all of its subscribers have them
    #[arg(long, short = 'w', default_value_t = 32, value_name = "N", conflicts_with = "rate")]
    window: u32,
    /// Closed loop: seconds after which a message counts as lost and the next one is sent
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    expiry: f64,
    /// Open loop: messages a second, all publishers together
    #[arg(long, short = 'r', value_name = "PER_SECOND")]
    rate: Option<f64>,
}

#[derive(ClapArgs, Debug)]
struct Idle {
    /// Connections at the end
    #[arg(long, short = 'n', default_value_t = 15_000, value_name = "N")]
    connections: u32,
    /// Connections when the server's memory is read for the first time
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    base: u32,
    /// Members of each channel
    #[arg(long, default_value_t = 10, value_name = "N")]
    members: u32,
    /// Rest before memory is read
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    settle: f64,
}

#[derive(ClapArgs, Debug)]
struct Connect {
    /// Cycles under way at one time, 32 if left out; with --rate at most, and if left out as many as are due in
    /// a second
    #[arg(long, value_name = "N")]
    cycles: Option<u32>,
    /// Open loop: connections a second
    #[arg(long, short = 'r', value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Open loop: what the rate is to grow to, evenly, from the first window to the end of the last
    #[arg(long, requires = "rate", value_name = "PER_SECOND")]
    to: Option<f64>,
    /// Do not join a channel: handshake and close only
    #[arg(long)]
    no_join: bool,
}

#[derive(ClapArgs, Debug)]
struct Presence {
    /// Channels
    #[arg(long, default_value_t = 20, value_name = "N")]
    channels: u32,
    /// Members of each, those that come and go included
    #[arg(long, default_value_t = 20, value_name = "N")]
    members: u32,
    /// How many of them come and go, each with one operation under way
    #[arg(long, default_value_t = 1, value_name = "N")]
    movers: u32,
    /// Each of them updates its profile between joining and leaving, and the others are told
    #[arg(long)]
    updates: bool,
    /// Each of them asks for a page of 100 members between joining and leaving
    #[arg(long)]
    queries: bool,
}

#[derive(ClapArgs, Debug)]
struct Mix {
    /// The plan (TOML); docs/BENCHMARKING.md explains it
    plan: PathBuf,
}

#[derive(ClapArgs, Debug)]
struct Compare {
    /// Two or more sides: reports of one run, or of several with commas between. The others are compared with the
    /// first
    #[arg(required = true, num_args = 2.., value_name = "REPORT,…")]
    sides: Vec<String>,
    /// Exit with 1 if a number is worse by more than this, beyond chance: 5 for all of them, p99=20 for one, or both
    /// with a comma between
    #[arg(long, value_delimiter = ',', value_name = "PERCENT")]
    gate: Vec<String>,
    /// Compare runs of different machines or plans
    #[arg(long)]
    force: bool,
}

#[derive(ClapArgs, Debug)]
struct Common {
    /// The server
    #[arg(
        long,
        global = true,
        default_value = DEFAULT_URL,
        value_name = "URL",
        env = "FANFARE_URL"
    )]
    url: String,
    #[command(flatten)]
    driver: DriverArgs,
    /// Processes of the server, with commas between; found by the port if left out
    #[arg(long, global = true, value_delimiter = ',', value_name = "PID")]
    server_pid: Vec<u32>,
    /// Processes, each with its share of the work
    #[arg(long, global = true, default_value_t = 1, value_name = "N")]
    processes: u32,
    /// Worker threads of each process
    #[arg(long, global = true, default_value_t = 1, value_name = "N")]
    threads: u32,
    /// CPUs for the workers, with commas between
    #[arg(long, global = true, value_delimiter = ',', value_name = "CPU")]
    pin: Vec<u32>,
    /// Never sleep: exact latencies for all of a core. The default in an open loop
    #[arg(long, global = true, conflicts_with = "sleep")]
    spin: bool,
    /// Sleep when there is nothing to do. The default in a closed loop
    #[arg(long, global = true)]
    sleep: bool,
    /// Closed loop: a generator that is the limit is no failure. Its rates are lower bounds: the server can do at least
    /// this. The server's CPU time for each delivery holds all the same
    #[arg(long, global = true)]
    lower_bound: bool,
    /// Warm-up, not counted
    #[arg(long, global = true, default_value_t = 1.0, value_name = "SECONDS")]
    warmup: f64,
    /// Length of a window
    #[arg(long, short = 'd', global = true, default_value_t = 3.0, value_name = "SECONDS")]
    duration: f64,
    /// Windows that are measured, one after the other
    #[arg(long, global = true, default_value_t = 3, value_name = "N")]
    windows: u32,
    /// Time after the last window for what is on the way to arrive
    #[arg(long, global = true, default_value_t = 5.0, value_name = "SECONDS")]
    drain: f64,
    /// Source addresses from 127.0.0.1 up; as many as needed if 0
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    sources: u32,
    /// Handshakes under way at one time while connecting
    #[arg(long, global = true, default_value_t = 128, value_name = "N")]
    parallel: u32,
    /// What channels' names begin with
    #[arg(long, global = true, default_value = "c", value_name = "TEXT")]
    prefix: String,
    /// Where randomness comes from; the clock if left out
    #[arg(long, global = true, value_name = "N")]
    seed: Option<u64>,
    /// Write the report as JSON to a file, or to standard output with `-`
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the latencies of each window as an HDR interval log
    #[arg(long, global = true, value_name = "FILE")]
    hlog: Option<PathBuf>,
    /// Write the report as an HTML page
    #[arg(long, global = true, value_name = "FILE")]
    html: Option<PathBuf>,
    /// No table and no progress
    #[arg(long, short = 'q', global = true)]
    quiet: bool,
}

#[derive(ClapArgs, Debug)]
struct DriverArgs {
    /// The protocol: native, socketio, nchan, nats, plain, centrifugo or pusher
    #[arg(long, global = true, default_value = "native", value_name = "NAME")]
    driver: String,
    /// The app (native, socketio)
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    app: String,
    /// The app's key, or a token (all but nchan and plain)
    #[arg(
        long,
        global = true,
        default_value = "",
        value_name = "KEY",
        env = "FANFARE_KEY",
        hide_env_values = true
    )]
    key: String,
    /// The app's secret (pusher)
    #[arg(
        long,
        global = true,
        default_value = "",
        value_name = "SECRET",
        env = "FANFARE_SECRET",
        hide_env_values = true
    )]
    secret: String,
    /// Path of the WebSocket (all but native and pusher); {channel} in it is the channel (nchan, plain)
    #[arg(long, global = true, value_name = "PATH")]
    path: Option<String>,
    /// Path for connections that only publish (nchan, plain)
    #[arg(long, global = true, value_name = "PATH")]
    publish_path: Option<String>,
    /// Part of the text that says a connection is ready (plain); it is when it is open if left out
    #[arg(long, global = true, value_name = "TEXT")]
    welcome: Option<String>,
    /// Text that joins {channel} (plain); connecting is joining if left out
    #[arg(long, global = true, value_name = "TEXT")]
    join: Option<String>,
    /// Part of the answer to it (plain)
    #[arg(long, global = true, value_name = "TEXT")]
    joined: Option<String>,
    /// Text that publishes {payload}, which is a JSON string, to {channel} (plain); the payload if left out
    #[arg(long, global = true, value_name = "TEXT")]
    send: Option<String>,
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
    /// Neither table nor progress.
    pub quiet: bool,
}

/// What the command line asks for.
#[derive(Debug, Clone)]
pub enum Job {
    /// These phases, one after the other. Their plans are not checked yet.
    Run(Vec<Phase>),
    /// A comparison.
    Compare(Comparison),
    /// What a coordinator in another process says.
    Part,
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
        let mut args = Self::from_arg_matches(&matches)?;
        args.given = given(&matches);
        Ok(args)
    }

    /// The job, and where its report goes.
    pub fn into_job(self) -> Result<(Job, Output), PlanError> {
        let common = &self.common;
        let output = Output {
            json: common.json.clone(),
            hlog: common.hlog.clone(),
            html: common.html.clone(),
            quiet: common.quiet,
        };
        let job = match self.scenario {
            Scenario::Compare(Compare { sides, gate, force }) => {
                let sides = sides.iter().map(|side| side.split(',').map(PathBuf::from).collect()).collect();
                Job::Compare(Comparison { sides, gate: Thresholds::read(&gate)?, force })
            }
            Scenario::Part => Job::Part,
            Scenario::Mix(Mix { plan }) => Job::Run(mix::read(&plan, &self.given)?),
            _ => Job::Run(vec![Phase { name: String::new(), plans: vec![self.into_plan()?] }]),
        };
        Ok((job, output))
    }

    fn into_plan(self) -> Result<Plan, PlanError> {
        let common = self.common;
        let Some(work) = self.scenario.into_work() else {
            return Err(PlanError("A mix is made of scenarios.".into()));
        };
        let (address, host) = resolve(&common.url)?;
        if common.prefix.bytes().any(|byte| !byte.is_ascii_alphanumeric() && !b"-._:/".contains(&byte)) {
            let sentence = "A prefix of channels has letters, digits and - . _ : / only.";
            return Err(PlanError(sentence.into()));
        }
        let seed = common.seed.unwrap_or_else(|| now_ns() ^ u64::from(std::process::id()) << 40);
        let mixed = (seed ^ seed >> 33).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        Ok(Plan {
            spin: common.spin || (work.is_open_loop() && !common.sleep),
            lower_bound: common.lower_bound,
            work,
            address,
            host,
            driver: common.driver.into_plan(),
            server_pids: common.server_pid,
            processes: common.processes,
            threads: common.threads,
            pin: common.pin,
            warmup_seconds: common.warmup,
            window_seconds: common.duration,
            windows: common.windows,
            drain_seconds: common.drain,
            sources: common.sources,
            parallel: common.parallel,
            prefix: common.prefix,
            seed,
            run: (mixed >> 32) as u32,
        })
    }
}

/// Options of the plan that are on a command line, and not in the environment or left out: what goes before a mix's file.
fn given(matches: &ArgMatches) -> Vec<String> {
    const OF_REPORTS: [&str; 4] = ["json", "hlog", "html", "quiet"];
    let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
    let command = Args::command();
    let options = command.get_arguments().filter(|option| !OF_REPORTS.contains(&option.get_id().as_str()));
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

impl DriverArgs {
    fn into_plan(self) -> DriverPlan {
        DriverPlan {
            name: self.driver,
            app: self.app,
            key: self.key,
            secret: self.secret,
            path: self.path,
            publish_path: self.publish_path,
            welcome: self.welcome,
            join: self.join,
            joined: self.joined,
            send: self.send,
        }
    }
}

impl Scenario {
    /// None for what is no scenario.
    fn into_work(self) -> Option<Work> {
        Some(match self {
            Self::Mix(_) | Self::Compare(_) | Self::Part => return None,
            Self::Fanout(args) => Work::Fanout(args.pace.into_publish(1, args.subscribers, args.publishers)),
            Self::Send(args) => Work::Send(PublishPlan {
                publishers_join: true,
                echo: args.echo,
                ..args.pace.into_publish(args.channels, args.members, 1)
            }),
            Self::Broadcast(args) => Work::Broadcast(PublishPlan {
                publishers_join: true,
                scope: Scope::Everyone,
                ..args.pace.into_publish(1, args.connections, args.publishers)
            }),
            Self::Slow(args) => Work::Slow(PublishPlan {
                slow: args.slow.of(args.subscribers),
                ..args.pace.into_publish(1, args.subscribers, args.publishers)
            }),
            Self::Storm(args) => Work::Storm(StormPlan {
                connections: args.connections,
                members: args.members,
                rate: args.rate,
                bystanders: args.bystanders,
                bystander_rate: args.bystander_rate,
                payload: args.payload,
            }),
            Self::Idle(args) => Work::Idle(IdlePlan {
                base: args.base,
                connections: args.connections,
                members: args.members,
                settle_seconds: args.settle,
            }),
            Self::Connect(args) => Work::Connect(args.into_connect()),
            Self::Presence(args) => Work::Presence(PresencePlan {
                channels: args.channels,
                watchers: args.members.saturating_sub(args.movers),
                movers: args.movers,
                updates: args.updates,
                queries: args.queries,
            }),
        })
    }
}

impl Connect {
    fn into_connect(self) -> ConnectPlan {
        let rate = self.rate.map(|from| Rate { from, to: self.to.unwrap_or(from) });
        let of_a_second = rate.map_or(0.0, |rate| rate.from.max(rate.to)) as u32;
        let parallel = self.cycles.unwrap_or(of_a_second.clamp(MIN_CYCLES, MAX_CYCLES));
        ConnectPlan { parallel, join: !self.no_join, rate }
    }
}

impl PaceArgs {
    /// A plan in which publishers have connections of their own, and everyone reads.
    fn into_publish(self, channels: u32, members: u32, publishers: u32) -> PublishPlan {
        let pace = match self.rate {
            Some(rate) => Pace::Open { rate },
            None => Pace::Closed { window: self.window },
        };
        PublishPlan {
            channels,
            members,
            publishers,
            publishers_join: false,
            echo: false,
            payload: self.payload,
            pace,
            scope: Scope::Channel,
            slow: 0,
            expiry_seconds: self.expiry,
        }
    }
}

/// Host and port of a `ws://` URL, resolved.
fn resolve(url: &str) -> Result<(SocketAddr, String), PlanError> {
    let wrong = |why: &str| PlanError(format!("The URL {url:?} {why}."));
    let host = url.strip_prefix("ws://").ok_or_else(|| wrong("does not begin with ws://"))?;
    let host = host.trim_end_matches('/');
    if host.contains(['/', '?', '#', '@']) {
        return Err(wrong("has more than a host and a port"));
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
    let address = with_port.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    Ok((address.ok_or_else(|| wrong("names no host that can be found"))?, host.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &str) -> Result<Plan, PlanError> {
        let args = Args::try_parse_from(args.split_whitespace()).expect("well-formed");
        args.into_plan()
    }

    #[test]
    fn open_loop_spins_and_closed_loop_sleeps_unless_told_otherwise() {
        for (args, spin) in [
            ("loadgen fanout", false),
            ("loadgen fanout --spin", true),
            ("loadgen fanout --rate 20", true),
            ("loadgen fanout --rate 20 --sleep", false),
        ] {
            assert_eq!(plan(args).expect("valid").spin, spin, "{args}");
        }
    }

    #[test]
    fn last_one_of_a_repeated_option_counts() {
        let plan = plan("loadgen fanout -d 1 --threads 3 -d 2 --threads 4").expect("valid");
        assert_eq!((plan.window_seconds, plan.threads), (2.0, 4));
    }

    #[test]
    fn plans_that_contradict_themselves_are_refused_with_a_sentence() {
        for args in [
            "loadgen fanout --payload 61",
            "loadgen fanout --window 0",
            "loadgen fanout --rate 0",
            "loadgen fanout --expiry 0",
            "loadgen fanout -n 0",
            "loadgen send --members 1",
            "loadgen slow -n 10 --slow 10",
            "loadgen slow -n 10 --slow 95%",
            "loadgen broadcast -n 5 --publishers 6",
            "loadgen storm -n 0",
            "loadgen storm --rate=-1",
            "loadgen storm --bystanders 5 --bystander-rate 0",
            "loadgen storm --rate 5 --payload 10",
            "loadgen fanout --drain=-1",
            "loadgen idle -n 1000",
            "loadgen presence --movers 20",
            "loadgen fanout -d 0",
            "loadgen idle -n 50000 --sources 1",
            "loadgen idle -n 4000000000",
            "loadgen idle --processes 0",
            "loadgen idle --processes 1025",
            "loadgen idle --processes 3 --sources 2",
            "loadgen fanout --driver smoke-signals",
            "loadgen fanout --driver pusher --publishers 1",
            "loadgen fanout --driver pusher --key k --secret s",
            "loadgen send --driver pusher --key k --secret s --echo",
            "loadgen send --driver nchan",
            "loadgen send --driver centrifugo",
            "loadgen broadcast --driver nats",
            "loadgen presence --driver plain",
            "loadgen presence --driver socketio --updates",
            "loadgen connect --driver nchan --no-join",
            "loadgen connect --rate 0",
            "loadgen fanout --server-pid 4194305",
            "loadgen fanout -n 4294967295",
            "loadgen fanout --publishers 4294967295",
            "loadgen broadcast -n 4294967295 --publishers 4294967295",
            "loadgen send --channels 100000 --members 100000",
            "loadgen send --channels 4294967295 --members 4294967295",
            "loadgen slow --slow 4294967295",
            "loadgen storm -n 4294967295",
            "loadgen storm --members 4294967295",
            "loadgen storm --bystanders 4294967295 --bystander-rate 1",
            "loadgen presence --channels 65536 --members 65537",
            "loadgen presence --members 4294967295",
            "loadgen connect --cycles 4294967295",
            "loadgen idle -n 4294967295 --base 4294967294",
            "loadgen idle --settle inf",
            "loadgen idle --settle=-1",
            "loadgen idle --sources 4294967295",
            "loadgen idle -n 5000 --base 10 --threads 4294967295",
            "loadgen connect --rate nan",
            "loadgen storm --rate nan",
            "loadgen fanout -d nan",
            "loadgen connect --rate 10 --to 0",
            "loadgen connect --rate 10 --cycles 1 --threads 2",
            "loadgen fanout --driver plain --send {channel}",
        ] {
            let error = plan(args).expect("parses").check().expect_err(args);
            assert!(error.0.ends_with('.') && !error.0.contains('\n'), "{error}");
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
            ("loadgen fanout --colour red", "unexpected argument '--colour' found"),
            ("loadgen --threads 2", "'loadgen' requires a subcommand but one was not provided"),
        ] {
            let error = Args::try_parse_from(line.split_whitespace()).expect_err(line);
            assert_eq!(sentence(&error), what);
        }
    }

    #[test]
    fn urls_that_name_no_server_are_refused() {
        for url in ["http://127.0.0.1", "ws://127.0.0.1/path", "ws://:", "ws://"] {
            assert!(resolve(url).is_err(), "{url}");
        }
        let (address, host) = resolve("ws://127.0.0.1:9/").expect("valid");
        assert_eq!((address.port(), host.as_str()), (9, "127.0.0.1:9"));
    }
}

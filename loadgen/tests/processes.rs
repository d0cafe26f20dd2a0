//! The program as it is used: several processes under one coordinator, interrupts, ends that come too early.

mod stub;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stub::{Mischief, Stub};

const SHORT: &str = "-d 0.15 --warmup 0.05 --drain 1 --json -";
/// One window that no pause of a busy machine empties, and as long a drain as what is on the way may take.
/// The drain ends when everything has come.
const PATIENT: &str = "-d 0.6 --windows 1 --warmup 0.05 --drain 30 --expiry 30 --json -";
/// Of the end of everything that is waited for.
const DEADLINE: Duration = Duration::from_secs(30);

fn command(stub: &Stub, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"));
    command.args(line.split_whitespace()).arg(format!("--url=ws://{}", stub.address()));
    // A stub is no server to find the ceiling of.
    command.arg("--lower-bound");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end; the report of its one part.
fn run(stub: &Stub, line: &str) -> Value {
    report(&command(stub, line).output().expect("it runs"))
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut file: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
    file["runs"][0]["report"].take()
}

/// A program that measures its first window.
struct Running {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(stub: &Stub, line: &str) -> Self {
        let mut child = command(stub, line).spawn().expect("it starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        while !line.starts_with("window 1") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).expect("readable"), 0, "it ended early");
        }
        Self { child, stderr }
    }

    fn parts(&self) -> Vec<u32> {
        let pid = self.child.id();
        // Each thread has started some of them, or none.
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
        let children = tasks.map(|task| fs::read_to_string(task.expect("an entry").path().join("children")));
        let children = children.map(|pids| pids.expect("readable")).collect::<String>();
        children.split_whitespace().map(|pid| pid.parse().expect("a number")).collect()
    }

    fn kill(pid: u32, signal: Signal) {
        kill_process(Pid::from_raw(pid as i32).expect("a process"), signal).expect("it lives");
    }

    fn finish(mut self) -> (Option<i32>, Value) {
        let mut text = String::new();
        self.stderr.read_to_string(&mut text).expect("readable");
        let output = self.child.wait_with_output().expect("it ends");
        (output.status.code(), report(&output))
    }
}

fn is_alive(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    state.is_some_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

fn problems(report: &Value) -> Vec<&str> {
    let problems = report["problems"].as_array().expect("a list").iter();
    // The generator shares its cores with other tests here.
    problems.filter_map(Value::as_str).filter(|problem| !problem.contains("late")).collect()
}

#[test]
fn work_is_divided_and_results_are_merged_exactly() {
    let stub = Stub::start(Mischief::None);
    for (scenario, what) in [
        ("fanout -n 50 --rate 400", "deliveries_per_second"),
        ("fanout -n 50 -w 8", "deliveries_per_second"),
        ("fanout -n 50 -w 8 --threads 2 --spin", "deliveries_per_second"),
        ("broadcast -n 20 -w 8", "deliveries_per_second"),
        ("slow -n 20 --slow 3 -w 8", "deliveries_per_second"),
        ("send --channels 2 --members 5 -w 4", "deliveries_per_second"),
        ("broadcast -n 20 --rate 400", "deliveries_per_second"),
        ("slow -n 20 --slow 3 --rate 400 --payload 20000", "deliveries_per_second"),
        ("send --channels 8 --members 3 -w 4", "deliveries_per_second"),
        ("send --channels 8 --members 3 -w 4 --threads 2", "deliveries_per_second"),
        ("presence --channels 7 --members 4", "operations_per_second"),
        ("presence --channels 7 --members 6 --movers 3 --rate 200", "deliveries_per_second"),
        ("connect --cycles 6", "operations_per_second"),
        ("connect --rate 300", "operations_per_second"),
        ("storm -n 60 --members 5", "operations_per_second"),
        ("storm -n 60 --members 5 --rate 300 --bystanders 6", "operations_per_second"),
    ] {
        let sleep = if scenario.contains("--spin") { "" } else { "--sleep" };
        // Only what publishes in a closed loop knows when a message is taken to be lost.
        let has_expiry = ["fanout", "send", "slow", "broadcast"].iter().any(|of| scenario.starts_with(of));
        let patient = if has_expiry { PATIENT.to_owned() } else { PATIENT.replace("--expiry 30 ", "") };
        // The stub recovers nothing: what a storm has missed never comes.
        let patient = if scenario.contains("bystanders") { SHORT } else { &patient };
        let report = run(&stub, &format!("{scenario} {sleep} --processes 3 {patient}"));
        assert_eq!(problems(&report), [""; 0], "{scenario}");
        let windows = report["windows"].as_array().expect("a list");
        let done: f64 = windows
            .iter()
            .map(|row| row[what].as_f64().expect("a rate") * row["seconds"].as_f64().expect("a length"))
            .sum();
        // Every delivery and every cycle has a latency; of presence, each notice has one.
        let counted = report["summary"]["latency"]["count"].as_u64().expect("a count");
        assert!(counted > 20, "{scenario}: {report}");
        if !scenario.starts_with("presence") && !scenario.starts_with("connect") {
            assert_eq!(done.round() as u64, counted, "{scenario}");
        }
    }
}

#[test]
fn idle_connections_of_several_processes_are_weighed_together() {
    let stub = Stub::start(Mischief::None);
    let report = run(&stub, &format!("idle -n 120 --base 20 --settle 0.1 --processes 3 {SHORT}"));
    assert_eq!(problems(&report), [""; 0]);
    let generator = |at: &str| report["idling"][at]["rss_bytes"].as_u64().expect("read");
    // Three parts and the coordinator: more than one process could be.
    assert!(generator("generator_full") >= generator("generator_base"));
    assert!(report["idling"]["full"]["pss_bytes"].is_u64());
}

#[test]
fn faults_of_all_processes_are_added_up() {
    let stub = Stub::start(Mischief::Lose { every: 50 });
    let report = run(&stub, &format!("fanout -n 30 --rate 400 --sleep --processes 3 {SHORT}"));
    let lost = report["faults"]["lost"].as_f64().expect("a count");
    let delivered = report["summary"]["latency"]["count"].as_f64().expect("a count") * 0.5 / 0.45;
    assert!((0.01..0.03).contains(&(lost / delivered)), "{report}");
    assert_eq!(report["faults"]["repeated"], 0);
    assert_eq!(report["partial"], false);
}

#[test]
fn message_is_in_flight_until_receivers_in_all_processes_have_it() {
    // The server gives each message to the last receiver, who is not in the publisher's process, when all is
    // quiet.
    let stub = Stub::start(Mischief::LastOneLater);
    let report = run(&stub, &format!("fanout -n 12 --publishers 1 -w 1 --processes 3 {PATIENT}"));
    assert_eq!(problems(&report), [""; 0]);
    // More than one message was sent to each: the next one when all had the first.
    assert!(report["summary"]["latency"]["count"].as_u64() > Some(24), "{report}");
    // One that a receiver never gets, in whichever process, is given up: with it the run goes on.
    let stub = Stub::start(Mischief::Lose { every: 1000 });
    let line = format!("fanout -n 12 -w 4 --expiry 0.1 --processes 3 {SHORT}");
    let report = run(&stub, &line.replace("-d 0.15", "-d 0.6"));
    assert!(report["faults"]["lost"].as_u64() > Some(1), "{report}");
    let windows = report["windows"].as_array().expect("a list");
    assert!(windows.iter().all(|row| row["deliveries_per_second"].as_f64() > Some(0.0)), "{report}");
}

#[test]
fn process_that_dies_makes_the_run_partial() {
    let stub = Stub::start(Mischief::None);
    let running =
        Running::start(&stub, "fanout -n 30 --rate 400 --processes 3 -d 60 --warmup 0.1 --sleep --json -");
    let parts = running.parts();
    assert_eq!(parts.len(), 3);
    Running::kill(parts[1], Signal::KILL);
    let (status, report) = running.finish();
    assert_eq!((status, &report["verdict"]), (Some(3), &Value::from("generator")));
    assert_eq!(report["partial"], true);
    let [problem] = problems(&report)[..] else { panic!("one sentence: {report}") };
    assert!(problem.contains("of 3 of the generator ended") && problem.contains("signal 9"), "{problem}");
    assert_eq!(report["faults"]["lost"], 0, "what was on the way is nobody's loss");
    assert!(parts.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn processes_end_with_their_coordinator() {
    let stub = Stub::start(Mischief::None);
    let mut running = Running::start(&stub, "send --channels 9 --processes 3 -d 60 --warmup 0.1 --json -");
    let parts = running.parts();
    assert_eq!(parts.len(), 3);
    running.child.kill().expect("it lives");
    running.child.wait().expect("it ends");
    let begun = Instant::now();
    while parts.iter().any(|pid| is_alive(*pid)) {
        assert!(begun.elapsed() < DEADLINE, "a part goes on");
        std::thread::yield_now();
    }
}

#[test]
fn interrupted_run_keeps_what_it_has_got() {
    let stub = Stub::start(Mischief::None);
    for (processes, signal) in [(1, Signal::INT), (3, Signal::TERM)] {
        let line = format!("send --channels 9 --processes {processes} -d 60 --warmup 0.1 --json -");
        let running = Running::start(&stub, &line);
        Running::kill(running.child.id(), signal);
        let (status, report) = running.finish();
        assert_eq!(status, Some(130));
        assert_eq!(problems(&report), ["The run was interrupted."]);
        assert_eq!(
            (&report["verdict"], &report["reasons"][0]["blame"]),
            (&"interrupted".into(), &"interrupted".into())
        );
        assert_eq!(report["partial"], true);
        assert_eq!(report["windows"].as_array().expect("a list").len(), 1);
        assert_eq!(report["faults"]["lost"], 0, "what was on the way has arrived");
    }
}

#[test]
fn run_that_is_interrupted_while_it_connects_says_so() {
    // A server that never answers: listening, and no more.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound");
    let mut child = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
        .args(["idle", "-n", "20", "--base", "10", "--json", "-", &format!("--url=ws://{address}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("readable");
    assert!(line.starts_with("idle · 127.0.0.1:"), "the plan comes first: {line}");
    while line != "connecting\n" {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).expect("readable"), 0, "it ended early");
    }
    Running::kill(child.id(), Signal::INT);
    let (status, report) = Running { child, stderr }.finish();
    assert_eq!(status, Some(130));
    assert_eq!(problems(&report), ["The run was interrupted."]);
}

#[test]
fn server_that_goes_away_half_way_leaves_partial_results() {
    for processes in [1, 2] {
        let stub = Stub::start(Mischief::None);
        let line =
            format!("fanout -n 20 --rate 500 --processes {processes} -d 60 --warmup 0.1 --sleep --json -");
        let running = Running::start(&stub, &line);
        stub.wait_for_deliveries(500);
        drop(stub);
        let (status, report) = running.finish();
        assert_eq!(status, Some(1));
        assert_eq!(report["partial"], true);
        let [problem] = problems(&report)[..] else { panic!("one sentence: {report}") };
        assert!(problem.contains("The server closed a connection") || problem.contains("broke"), "{problem}");
        assert!(report["summary"]["latency"]["count"].as_u64().expect("a count") > 0, "{report}");
        assert_eq!(report["faults"]["lost"], 0);
    }
}

#[test]
fn server_that_goes_away_while_connections_are_made_leaves_partial_results() {
    for loop_options in ["--cycles 4", "--rate 300"] {
        let stub = Stub::start(Mischief::None);
        let line = format!("connect {loop_options} -d 60 --warmup 0.5 --sleep --json -");
        let running = Running::start(&stub, &line);
        drop(stub);
        let (status, report) = running.finish();
        assert_eq!((status, &report["partial"]), (Some(1), &Value::Bool(true)), "{report}");
        assert!(!problems(&report).is_empty(), "{report}");
        assert_eq!(report["unfinished"], 0, "what was under way is nobody's fault");
    }
}

#[test]
fn processes_together_have_more_files_open_than_one_may() {
    let stub = Stub::start(Mischief::None);
    let program = env!("CARGO_BIN_EXE_fanfare-loadgen");
    let line =
        format!("idle -n 400 --base 10 --settle 0.1 --processes 4 --url=ws://{} {SHORT}", stub.address());
    let mut shell = Command::new("bash");
    let output =
        shell.args(["-c", &format!("ulimit -n 200; exec {program} {line}")]).output().expect("it runs");
    assert_eq!(problems(&report(&output)), [""; 0]);
}

#[test]
fn report_that_could_not_be_written_is_refused_before_the_run() {
    let stub = Stub::start(Mischief::None);
    let output = command(&stub, "fanout -n 5 --html /nowhere/at/all.html").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("fanfare-loadgen: The report cannot be written to /nowhere/at/all.html"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "nothing was begun: {said}");
}

#[test]
fn unknown_scenario_is_refused_with_one_sentence() {
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen")).arg("bogus").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "fanfare-loadgen: unrecognized subcommand 'bogus'; --help says more.\n");
}

#[test]
fn part_of_a_mix_that_cannot_be_done_is_named_before_anything_is() {
    let stub = Stub::start(Mischief::None);
    let path = std::env::temp_dir().join(format!("fanfare-loadgen-{}-mix.toml", std::process::id()));
    let good = "[[phase]]\nname = \"a\"\npart = [{ scenario = \"idle\" }]\n";
    let bad =
        "[[phase]]\nname = \"b\"\npart = [{ scenario = \"idle\" }, { scenario = \"fanout\", payload = 1 }]\n";
    fs::write(&path, format!("{good}{bad}")).expect("written");
    let output = command(&stub, &format!("mix {}", path.display())).output().expect("it runs");
    fs::remove_file(&path).expect("removed");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("fanfare-loadgen: Phase \"b\", part 2: A payload has"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

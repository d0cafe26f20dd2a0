//! What a generator must not hide: a server that stops, dies, or loses one message among very many. Text,
//! JSON, page and exit status of the program must say so.

mod stub;

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    thread,
};

use serde_json::Value;
use stub::{Mischief, Stub};

/// What a run left behind.
struct Outcome {
    status: Option<i32>,
    text: String,
    page: String,
    report: Value,
    faults: Vec<Value>,
}

impl Outcome {
    fn count(&self, kind: &str) -> u64 {
        self.report["faults"][kind].as_u64().expect("a count")
    }

    fn ms(&self, percentile: &str) -> f64 {
        self.report["summary"]["latency"][percentile].as_f64().expect("a latency") / 1e3
    }

    /// The problems; this machine has other things to do, so that the generator may be late.
    fn problems(&self) -> Vec<&str> {
        let problems = self.report["problems"].as_array().expect("a list").iter();
        problems.filter_map(Value::as_str).filter(|problem| !problem.contains("generator was late")).collect()
    }

    /// The exit status is the verdict's, and every report has it.
    fn assert_verdict(&self, verdict: &str, status: i32) {
        let is_busy = self.report["problems"].to_string().contains("generator was late");
        if is_busy && verdict == "clean" {
            assert_eq!((self.status, self.report["verdict"].as_str()), (Some(3), Some("generator")));
            return;
        }
        assert_eq!(
            (self.status, self.report["verdict"].as_str()),
            (Some(status), Some(verdict)),
            "{}",
            self.text
        );
        let word = if verdict == "clean" { ">clean<" } else { ">failed: " };
        assert!(self.page.contains(word) || self.report["partial"] == true, "{}", self.page);
        assert_eq!(self.text.contains("FAILED: "), verdict != "clean", "{}", self.text);
    }
}

fn run(name: &str, mischief: Mischief, line: &str) -> Outcome {
    let stub = Stub::start(mischief);
    let path = |kind: &str| -> PathBuf {
        std::env::temp_dir().join(format!("fanfare-outage-{}-{name}.{kind}", std::process::id()))
    };
    let files = ["json", "html", "jsonl"].map(path);
    let [json, page, faults] = files.each_ref();
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
        .args(line.split_whitespace())
        .args(["--sleep", &format!("--url=ws://{}", stub.address())])
        .args([format!("--json={}", json.display()), format!("--html={}", page.display())])
        .arg(format!("--faults={}", faults.display()))
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let [json, page, faults] = files.map(|path| {
        let text = fs::read_to_string(&path).expect("written");
        fs::remove_file(path).expect("removed");
        text
    });
    let mut file: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(file["verdict"], file["runs"][0]["report"]["verdict"]);
    assert!(file["commit"].is_string() && file["version"].is_string() && file["command_line"].is_array());
    Outcome {
        status: output.status.code(),
        text,
        page,
        report: file["runs"][0]["report"].take(),
        faults: faults.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(),
    }
}

/// 100 messages a second to 20; the warm-up has 30 of them.
const FANOUT: &str = "fanout -n 20 -r 100 --warmup 0.3";

#[test]
fn server_that_stops_in_one_window_is_in_the_summary_and_the_window_is_named() {
    let stop = Mischief::Stop { at_send: 30 + 160, milliseconds: 900 };
    let outcome = run("window", stop, &format!("{FANOUT} -d 1 --windows 3"));
    outcome.assert_verdict("clean", 0);
    assert!(outcome.ms("max_us") > 850.0 && outcome.ms("p99_us") > 700.0, "{}", outcome.text);
    let windows = outcome.report["windows"].as_array().expect("a list");
    let most = windows.iter().map(|row| row["latency"]["max_us"].as_f64().expect("a latency") / 1e3);
    assert!((most.fold(0.0, f64::max) - outcome.ms("max_us")).abs() < 1e-9, "max is the maximum");
    for text in [&outcome.text, &outcome.page] {
        assert!(text.contains("Window 2: p99 ") && text.contains(" × the others"), "{text}");
    }
    // In the tick in which it stopped.
    let ticks = outcome.report["ticks"].as_array().expect("a list");
    let worst = ticks
        .iter()
        .max_by(|one, other| one["max_ms"].as_f64().partial_cmp(&other["max_ms"].as_f64()).expect("numbers"));
    assert!((worst.expect("a tick")["second"].as_f64().expect("a number") - 1.6).abs() < 0.11, "{ticks:?}");
    assert!(
        outcome.page.contains("Longest latency over time: 9")
            || outcome.page.contains("Longest latency over time: 8")
    );
    assert_eq!(outcome.report["summary"]["arrived_share"], 1.0);
    assert!(outcome.text.lines().all(|line| line.chars().count() <= 80), "{}", outcome.text);
}

#[test]
fn what_comes_in_the_drain_belongs_to_the_window_in_which_it_was_due() {
    // It stops 0.2 s before the end of the only window.
    let stop = Mischief::Stop { at_send: 30 + 130, milliseconds: 1400 };
    let outcome = run("drain", stop, &format!("{FANOUT} -d 1.5 --windows 1 --drain 5"));
    outcome.assert_verdict("clean", 0);
    assert!(outcome.ms("max_us") > 1300.0 && outcome.ms("p99_us") > 1200.0, "{}", outcome.text);
    let summary = &outcome.report["summary"];
    assert_eq!(
        (summary["deliveries_per_second"].as_f64(), summary["due_per_second"].as_f64()),
        (Some(2000.0), Some(2000.0))
    );
    assert_eq!(outcome.report["faults"]["lost"], 0);
}

#[test]
fn server_that_stops_past_the_drain_has_lost_nothing_that_is_proven() {
    let stop = Mischief::Stop { at_send: 30 + 60, milliseconds: 2500 };
    let outcome = run("past", stop, &format!("{FANOUT} -d 1 --windows 1 --drain 1"));
    assert_eq!(outcome.status, Some(1), "{}", outcome.text);
    assert_eq!(outcome.count("lost"), 0);
    assert!((780..=840).contains(&outcome.count("not_arrived")), "{}", outcome.text);
    let problems = outcome.problems();
    assert!(problems[0].contains("had not arrived when the drain of 1 s ended"), "{problems:?}");
    assert!(problems[1].contains("of what was due in window 1 came"), "{problems:?}");
    // Forty percent never came, and count as at least the time to the end.
    assert!(outcome.ms("p90_us") > 1000.0 && outcome.ms("p50_us") < 500.0, "{}", outcome.text);
    let censored = outcome.report["summary"]["censored"].as_u64();
    assert_eq!(censored, Some(outcome.count("not_arrived")));
    assert!(outcome.text.contains("not arrived 8"), "{}", outcome.text);
    assert!(outcome.faults.iter().all(|fault| fault["kind"] == "not_arrived"), "{:?}", outcome.faults);
    let first = &outcome.faults[0];
    assert!(
        first["subscriber"].is_string() && first["channel"] == "c0" && first["sequence"].is_u64(),
        "{first}"
    );
    assert!((first["seconds"].as_f64().expect("a time") - 0.9).abs() < 0.05, "when it was due: {first}");
}

#[test]
fn one_message_in_very_many_is_lost_and_found() {
    for (name, line) in [
        ("last", format!("{FANOUT} -d 0.5 --windows 1 --drain 2")),
        ("middle", format!("{FANOUT} -d 0.7 --windows 1 --drain 2")),
    ] {
        // The last one of all has no later one to prove it: the server's answer does.
        let outcome = run(name, Mischief::LoseMessage { number: 80 }, &line);
        outcome.assert_verdict("server", 1);
        assert_eq!((outcome.count("lost"), outcome.count("not_arrived"), outcome.count("holes")), (20, 0, 0));
        assert_eq!(outcome.faults.len(), 20);
        assert!(outcome.faults.iter().all(|fault| fault["kind"] == "lost" && fault["publisher"] == 3));
    }
    // One delivery in a million.
    let line = "fanout -n 200 -w 64 --warmup 0.1 -d 1 --windows 3 --drain 3 --lower-bound";
    let outcome = run("million", Mischief::Lose { every: 1_000_000 }, line);
    let delivered = outcome.report["summary"]["deliveries_per_second"].as_f64().expect("a rate") * 3.0;
    assert_eq!(outcome.status, Some(i32::from(delivered > 1.1e6)), "{delivered}: {}", outcome.text);
    if delivered > 1.1e6 {
        assert!(
            (1..=1 + (delivered * 1.1 / 1e6) as u64).contains(&outcome.count("lost")),
            "{}",
            outcome.text
        );
        assert_eq!((outcome.count("holes"), outcome.count("not_arrived")), (0, 0));
        assert_eq!(outcome.faults.len() as u64, outcome.count("lost"));
    }
}

#[test]
fn each_corrupt_frame_counts_once() {
    let outcome = run("corrupt", Mischief::Corrupt { every: 501 }, &format!("{FANOUT} -d 0.5 --windows 1"));
    outcome.assert_verdict("server", 1);
    let corrupt = outcome.count("corrupt");
    assert!(corrupt > 1, "{}", outcome.text);
    assert_eq!((outcome.count("lost"), outcome.count("not_arrived"), outcome.count("holes")), (0, 0, 0));
    assert_eq!(outcome.faults.iter().filter(|fault| fault["kind"] == "corrupt").count() as u64, corrupt);
}

#[test]
fn server_that_dies_is_at_fault_and_the_run_partial() {
    let outcome = run("dies", Mischief::HangUp { every: 1500 }, &format!("{FANOUT} -d 2 --windows 2"));
    outcome.assert_verdict("server", 1);
    assert_eq!(outcome.report["partial"], true);
    assert!(outcome.page.contains("numbers are partial"), "{}", outcome.page);
}

#[test]
fn closed_loop_keeps_its_marks_and_needs_a_limit() {
    let outcome = run("closed", Mischief::None, "fanout -n 3 -w 1 --warmup 0.1 -d 0.3 --windows 2");
    assert_eq!(outcome.report["closed_loop"], true);
    assert!(outcome.text.contains("p99 ms*") && outcome.text.contains("* closed loop"), "{}", outcome.text);
    assert!(outcome.page.contains("p99 ms*") && outcome.page.contains("closed loop"), "{}", outcome.page);
    let limit = outcome.report["limit"].as_str().expect("a word");
    let is_named = limit == "server" || limit == "both";
    assert_eq!(outcome.status == Some(0), is_named, "{limit}: {}", outcome.text);
}

#[test]
fn thresholds_have_an_exit_status_of_their_own() {
    let line = format!("{FANOUT} -d 0.3 --windows 1 --fail-if lost>0 --fail-if deliveries<1000000/s");
    let outcome = run("threshold", Mischief::None, &line);
    let is_late = outcome.report["problems"].to_string().contains("generator was late");
    assert_eq!(outcome.status, Some(if is_late { 3 } else { 4 }), "{}", outcome.text);
    assert!(outcome.text.contains("fail if deliveries<1000000/s"), "{}", outcome.text);
    assert!(outcome.page.contains("deliveries&lt;1000000/s"), "{}", outcome.page);
    assert_eq!(outcome.report["thresholds"][0]["is_true"], false);
    assert_eq!(outcome.report["thresholds"][1]["is_true"], true);
}

#[test]
fn pin_to_a_cpu_that_is_not_there_is_refused() {
    let stub = Stub::start(Mischief::None);
    for option in ["--pin=2000", "--server-pid=1"] {
        let output = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
            .args(["fanout", "-n", "3", option, &format!("--url=ws://{}", stub.address())])
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{option}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn presence_by_a_schedule_sees_every_notice_and_misses_what_is_lost() {
    let line =
        "presence --channels 4 --members 30 --movers 20 -r 300 --warmup 0.2 -d 1 --windows 2 --drain 2";
    let outcome = run("presence", Mischief::None, line);
    outcome.assert_verdict("clean", 0);
    let summary = &outcome.report["summary"];
    assert_eq!(summary["due_per_second"].as_f64(), Some(3000.0), "ten watchers each");
    assert_eq!(summary["deliveries_per_second"].as_f64(), Some(3000.0));
    assert!(outcome.text.contains("not checked: reordered, holes"), "{}", outcome.text);
    let outcome = run("presence-lost", Mischief::Lose { every: 997 }, line);
    outcome.assert_verdict("server", 1);
    assert!(outcome.count("lost") > 3 && outcome.count("repeated") == 0, "{}", outcome.text);
    // A stop bunches operations; every notice of them still comes, and counts from when it was due.
    let outcome = run("presence-stop", Mischief::StopAtJoin { at_join: 250, milliseconds: 500 }, line);
    assert_eq!((outcome.count("lost"), outcome.count("not_arrived")), (0, 0), "{}", outcome.text);
    assert!(outcome.ms("max_us") > 450.0, "{}", outcome.text);
}

#[test]
fn notices_that_cancel_each_other_out_are_expected_only_when_asked_for() {
    let line = "presence --channels 2 --members 12 --movers 8 -r 200 --warmup 0.2 -d 1 --windows 1 --drain 2";
    let outcome =
        run("merged", Mischief::MergeNotices { every: 10, until: 80 }, &format!("{line} --notices merged"));
    outcome.assert_verdict("clean", 0);
    assert!(outcome.report["merged"].as_u64() > Some(0), "{}", outcome.text);
    let outcome = run("unmerged", Mischief::MergeNotices { every: 10, until: 80 }, line);
    outcome.assert_verdict("server", 1);
    assert!(outcome.count("lost") + outcome.count("not_arrived") > 0, "{}", outcome.text);
}

#[test]
fn search_finds_the_rate_that_a_server_holds() {
    // Each handshake takes ten milliseconds: a hundred a second at most.
    let stub = Stub::start(Mischief::Dawdle { milliseconds: 10 });
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
        .args(
            "connect -r 10 --find-rate --slo p99<150ms,failed=0 --warmup 0.1 -d 0.5 --windows 1 --drain 2"
                .split(' '),
        )
        .args(["--sleep", "--json=-", &format!("--url=ws://{}", stub.address())])
        .output()
        .expect("it runs");
    let file: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let search = &file["search"];
    let probes = search["probes"].as_array().expect("a list");
    let is_blind = probes.iter().any(|probe| probe["finding"] == "blind");
    // On a busy machine the generator may have been the limit at a rate; lower rates may have settled it.
    match output.status.code() {
        Some(0) => assert!(search["found"].as_f64() > Some(30.0), "{search}"),
        code => assert!(code == Some(3) && is_blind, "{code:?} {search}"),
    }
    let held = probes.iter().filter(|probe| probe["finding"] == "holds");
    assert!(held.filter_map(|probe| probe["rate"].as_f64()).all(|rate| rate < 140.0), "{search}");
}

/// A proxy in front of a server; its address. It takes connections until the test's process ends.
fn proxy(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let pass = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            // However it ends, the other side is to hear of it.
            io::copy(&mut from, &mut to).ok();
            to.shutdown(std::net::Shutdown::Write).ok();
        });
    };
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) =
                (client.expect("a client"), TcpStream::connect(server).expect("the server"));
            pass(client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            pass(server, client);
        }
    });
    address
}

#[test]
fn proxy_on_the_port_is_told_from_a_server() {
    let stub = Stub::start(Mischief::None);
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
        .args("fanout -n 20 -w 4 --warmup 0.05 -d 0.2 --windows 1 --lower-bound --json -".split(' '))
        .arg(format!("--url=ws://{}", proxy(stub.address())))
        .output()
        .expect("it runs");
    let file: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let report = &file["runs"][0]["report"];
    // Proxy and server are this process.
    assert_eq!(report["server"][0]["pid"].as_u64(), Some(std::process::id().into()), "{report}");
    assert!(report["remarks"].to_string().contains("onward: if they are a proxy"), "{report}");
}

//! The binary's own answers: what `fanfare check` and a refused configuration print, and how they exit.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

const CLIENT: &str = "client-key-0123456789";

/// The page with the table of exit codes.
const DEPLOYING: &str = include_str!("../../docs/DEPLOYING.md");

/// Runs the binary, with nothing of the environment's that it would read, until it ends by itself.
fn fanfare(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary starts")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FANFARE_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// The exit code of the binary if nobody takes its answer.
fn with_full_output(arguments: &[&str]) -> Option<i32> {
    let full = File::options().write(true).open("/dev/full").expect("the system has the file");
    command(arguments).stdout(full).status().expect("the binary starts").code()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it is UTF-8")
}

/// A file with one app and these lines before it.
fn file(lines: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let contents = format!("{lines}\n[apps.chat]\nclient_key = '{CLIENT}'\n");
    std::fs::write(file.path(), contents).expect("it can be written");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("a plain path")
}

#[test]
fn a_good_configuration_is_summed_up_and_exits_with_0() {
    let file = file("[server]\nworkers = 2");
    let output = fanfare(&["--config", path(&file), "check"]);
    assert_eq!(output.status.code(), Some(0));
    let line = text(&output.stdout);
    assert!(line.starts_with("ok: ") && line.ends_with("workers 2; apps chat\n"), "{line}");
}

#[test]
fn a_refused_configuration_is_one_sentence_and_exits_with_2() {
    let file = file("[server]\nworkers = 129");
    for arguments in
        [&["--config", path(&file), "check"][..], &["--config", path(&file)], &["-c", "/nowhere", "check"]]
    {
        let output = fanfare(arguments);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{arguments:?}");
        let sentence = text(&output.stderr);
        assert!(sentence.starts_with("fanfare: ") && sentence.matches('\n').count() == 1, "{sentence}");
    }
    let output = fanfare(&["--no-such-flag"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_address_that_is_taken_is_named_and_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let file = file("[server]\nworkers = 1");
    let output = fanfare(&["--config", path(&file), "--listen", &address, "--admin-listen", "off"]);
    assert_eq!(output.status.code(), Some(1));
    let sentence = text(&output.stderr);
    assert!(sentence.lines().last().is_some_and(|line| line.contains(&address)), "{sentence}");
}

#[test]
fn secrets_are_printed_only_on_demand() {
    let file = file("");
    let hidden = fanfare(&["--config", path(&file), "--print-config"]);
    assert!(hidden.status.success() && !text(&hidden.stdout).contains(CLIENT));
    let shown = fanfare(&["--config", path(&file), "--print-config", "--show-secrets"]);
    assert!(shown.status.success() && text(&shown.stdout).contains(CLIENT));
}

#[test]
fn check_tells_the_same_warnings_as_the_server() {
    let file = file("");
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare"))
        .env_clear()
        .env("FANFARE_PORT_8080_TCP", "tcp://10.0.0.1:8080")
        .args(["--config", path(&file), "check"])
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("ok: "));
    assert!(text(&output.stderr).contains("`FANFARE_PORT_8080_TCP` is not a setting"));
}

#[test]
fn the_demo_takes_no_file_and_listens_on_loopback_alone() {
    let file = file("");
    for (arguments, named) in [
        (&["demo", "--config", path(&file)][..], "`--config`"),
        (&["demo", "--listen", "0.0.0.0:0"], "0.0.0.0:0"),
        (&["demo", "--admin-listen", "0.0.0.0:0"], "0.0.0.0:0"),
    ] {
        let output = fanfare(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(named), "{}", text(&output.stderr));
    }
}

#[test]
fn the_doctor_says_what_connections_need_and_exits_by_it() {
    let output = fanfare(&["doctor", "--connections", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).starts_with("for 1 connections:\n"));
    // No machine of a test has this many open files.
    let output = fanfare(&["doctor", "--connections", "16777216", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(answer["connections"], 16_777_216);
    assert_eq!(answer["findings"][0]["name"], "open files of the process");
    assert_eq!(fanfare(&["doctor", "--connections", "0"]).status.code(), Some(2));
    let file = file("[server.limits]\nconnections = 7");
    let output = fanfare(&["doctor", "--config", path(&file)]);
    assert!(text(&output.stdout).starts_with("for 7 connections:\n"));
}

/// A script in a file, and what the binary says when it runs.
fn trial(source: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), source).expect("it can be written");
    let output = fanfare(&[&["trigger", "run", path(&file)], arguments].concat());
    (output.status.code(), text(&output.stdout).into(), text(&output.stderr).into())
}

#[test]
fn a_trial_shows_the_verdict_and_the_output_and_exits_by_the_verdict() {
    let script = r#"
        export function message({ payload, channel, client }) {
            state.n = (state.n ?? 0) + 1;
            log('seen', payload, client.user);
            answer('told', { channel });
            publish('other', 'told', [1]);
            if (payload === 'bad') refuse('No.');
            return payload + '!';
        }
        export const join = ({ channel }) => channel !== 'closed';
    "#;
    let arguments = ["--payload", "\"good\"", "--channel", "c", "--user", "ada", "--state", "{\"n\":41}"];
    let (code, report, _) = trial(script, &arguments);
    assert_eq!(code, Some(0), "{report}");
    let (said, cost) = report.split_once("time: ").expect("it tells its cost");
    let expected = "verdict: replace: \"good!\"\nanswer: told: {\"channel\":\"c\"}\n\
         publish: other: told: [1]\nlog: seen good ada\nstate: {\"n\":42}\n";
    assert_eq!(said, expected);
    assert!(cost.contains(" µs of CPU\nmemory: ") && cost.ends_with(" KiB\n"), "{cost}");
    let (code, report, _) = trial(script, &["--payload", "\"bad\""]);
    assert!(code == Some(3) && report.starts_with("verdict: refuse: No.\n"), "{report}");
    let (code, report, _) = trial(script, &["--action", "join", "--channel", "closed"]);
    assert!(code == Some(3) && report.starts_with("verdict: refuse: "), "{report}");
    let (code, report, _) = trial(script, &["--action", "join"]);
    assert!(code == Some(0) && report.starts_with("verdict: pass\n"), "{report}");
}

#[test]
fn a_trial_that_fails_exits_with_1_and_one_that_cannot_begin_with_2() {
    let (code, report, _) = trial("export function message() { for (;;); }", &[]);
    assert_eq!(code, Some(1));
    assert!(report.starts_with("verdict: failed: the script took more CPU time"), "{report}");
    let (code, report, _) = trial("export const message = () => nothing.there", &[]);
    assert_eq!(code, Some(1));
    assert!(report.starts_with("verdict: failed: ReferenceError: nothing is not defined"), "{report}");
    let good = "export function message() {}";
    for (source, arguments, word) in [
        ("export function message() {\n  let = 1;", &[][..], "does not compile: line 2, column "),
        ("const x = 1;", &[], "exports no function `message`"),
        (
            "export function message() { [].reverse.call({length: 2 ** 53 - 1}) }",
            &[],
            "is stuck in an operation",
        ),
        (good, &["--payload", "so"], "`--payload` must be JSON"),
        (good, &["--state", "{"], "`--state` must be JSON"),
        (good, &["--action", "leave"], "invalid value 'leave'"),
    ] {
        let (code, report, sentence) = trial(source, arguments);
        assert_eq!((code, &*report), (Some(2), ""), "{word}");
        assert!(sentence.contains(word), "{sentence}");
    }
    assert_eq!(fanfare(&["trigger", "run", "/nowhere.js"]).status.code(), Some(2));
}

/// The exit code of a server that is told to end by this signal.
fn ended_by(signal: Signal) -> Option<i32> {
    let file = file("[server]\nworkers = 1\nlisten = '127.0.0.1:0'\nadmin_listen = 'off'\ndrain_ms = 0");
    let mut server =
        command(&["--config", path(&file)]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(server.stdout.take().expect("it is piped")).lines();
    let announced = lines.next().and_then(Result::ok);
    assert!(announced.is_some_and(|line| line.starts_with("listening on ")));
    kill_process(Pid::from_child(&server), signal).expect("the server runs");
    server.wait().expect("it ends").code()
}

#[test]
fn every_row_of_the_table_of_exit_codes_is_what_the_program_does() {
    let good = file("");
    let good = path(&good);
    let bad = file("[server]\nworkers = 129");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("it is bound").to_string();
    let code = |arguments: &[&str]| fanfare(arguments).status.code();
    let commands = [
        &["--config", good, "check"][..],
        &["--config", good, "--print-config"],
        &["completions", "bash"],
        &["doctor", "--connections", "1"],
        &["--version"],
        &["--help"],
    ];
    let mut rows = Vec::new();
    let mut row = |codes: &str, commands: &str| rows.push([codes.to_owned(), commands.to_owned()]);

    row("0", "all");
    commands.iter().for_each(|arguments| assert_eq!(code(arguments), Some(0), "{arguments:?}"));
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        assert_eq!(ended_by(signal), Some(0), "{signal:?}");
    }

    row("1", "all");
    assert_eq!(code(&["--config", good, "--listen", &taken, "--admin-listen", "off"]), Some(1));
    assert_eq!(code(&["man", "/nowhere"]), Some(1));
    for arguments in &commands[..4] {
        assert_eq!(with_full_output(arguments), Some(1), "{arguments:?}");
    }

    row("1", "`fanfare doctor`");
    assert_eq!(code(&["doctor", "--connections", "16777216"]), Some(1));

    row("2", "all");
    for arguments in [
        &["--config", path(&bad)][..],
        &["--config", path(&bad), "check"],
        &["--config", path(&bad), "--print-config"],
        &["--config", path(&bad), "doctor"],
        &["--config", good, "check", "--diff", path(&bad)],
        &["completions", "csh"],
        &["man"],
        &["trigger"],
        &["nothing"],
    ] {
        assert_eq!(code(arguments), Some(2), "{arguments:?}");
    }

    row("0, 1, 2, 3", "`fanfare trigger run`");
    for (source, expected) in [
        ("export function message() {}", 0),
        ("export function message() { nothing.there }", 1),
        ("export function", 2),
        ("export function message() { refuse('No.') }", 3),
    ] {
        assert_eq!(trial(source, &[]).0, Some(expected), "{source}");
    }

    let (_, table) = DEPLOYING.split_once("\n## Exit codes\n").expect("the page has the table");
    let documented: Vec<[String; 2]> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| code"))
        .map(|line| [1, 2].map(|at| line.split('|').nth(at).unwrap_or_default().trim().to_owned()))
        .collect();
    assert_eq!(documented, rows);
}

#[test]
fn the_version_names_the_commit_of_a_build_that_has_one() {
    let output = fanfare(&["--version"]);
    let commit = fanfare_server::args::COMMIT.map_or(String::new(), |commit| format!(" ({commit})"));
    assert_eq!(text(&output.stdout), format!("fanfare {}{commit}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_and_manual_pages_have_every_command() {
    let commands = ["check", "doctor", "demo", "trigger", "completions", "man"];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = fanfare(&["completions", shell]);
        let script = text(&output.stdout);
        for word in commands.iter().chain(&["--admin-listen"]) {
            assert!(script.contains(word.trim_start_matches("--")), "{shell} {word}");
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = fanfare(&["man", folder.path().to_str().expect("a plain path")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for command in commands {
        let page = folder.path().join(format!("fanfare-{command}.1"));
        let page = fs::read_to_string(page).unwrap_or_else(|error| panic!("{command}: {error}"));
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
    }
    let page = fs::read_to_string(folder.path().join("fanfare.1")).expect("the page is there");
    assert!(page.contains("\\-\\-admin\\-listen"), "{page}");
}

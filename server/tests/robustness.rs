//! What operators and strangers can do to the process: signals, closed outputs, ports that are taken, few
//! descriptors, idle sockets on the admin plane, and input that makes the server panic.

mod running;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use fanfare_core::{
    engine::Flow,
    ws::{Message, OpCode, put_frame, put_masked_frame, put_request},
};
use fanfare_server::{Greeting, MessageHandler, Server, config::Config};

use running::Running;

const DEADLINE: Duration = Duration::from_secs(20);
const CLIENT: &str = "robustness-client";

fn config_text(server: &str) -> String {
    format!(
        "[server]\nlisten = ['127.0.0.1:0']\nadmin_listen = '127.0.0.1:0'\n{server}\n\
         [apps.default]\nclient_key = '{CLIENT}'\n"
    )
}

fn config_file(server: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), config_text(server)).expect("it can be written");
    file
}

/// A running server with an admin plane.
struct Process {
    running: Running,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    /// Starts the server with these settings and this limit of open files.
    fn start(server: &str, open_files: u32) -> Self {
        let command = |path: &str| {
            let mut command = shell(open_files, "", path);
            command.stderr(Stdio::null());
            command
        };
        let running = Running::start(&config_text(server), command, &["listening", "admin"]);
        let (address, admin) = (running.addresses[0], running.addresses[1]);
        Self { running, address, admin }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.running.child.id().to_string()]).status();
        assert!(status.expect("kill is there").success());
    }

    fn wait(&mut self) -> ExitStatus {
        wait(&mut self.running.child)
    }
}

/// The server, behind a shell that sets the limit of open files and redirects its output.
fn shell(open_files: u32, redirect: &str, config: &str) -> Command {
    let mut command = Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_fanfare");
    command.args(["-c", &format!("ulimit -n {open_files}; exec {binary} --config {config} {redirect}")]);
    command.env_clear().stdin(Stdio::null());
    command
}

fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it was started here") {
            return status;
        }
        assert!(start.elapsed() < DEADLINE, "the process does not end");
        std::thread::yield_now();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("it is a socket");
    stream
}

/// Reads until the peer has said `wanted`, or ended the connection. Returns all that it said.
fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => seen.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}, after {}", String::from_utf8_lossy(&seen)),
        }
        if String::from_utf8_lossy(&seen).contains(wanted) {
            break;
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("it is read");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it is answered");
    text
}

/// A WebSocket, after the answer to its handshake and, if there is one, the welcome.
fn websocket(address: SocketAddr, greeting: &str) -> TcpStream {
    let mut stream = connect(address);
    let mut out = BytesMut::new();
    let target = format!("/v1/ws?key={CLIENT}");
    put_request(&mut out, &address.to_string(), &target, [7; 16], std::iter::empty());
    stream.write_all(&out).expect("the server reads");
    let seen = read_until(&mut stream, greeting);
    assert!(seen.contains(greeting), "{seen}");
    stream
}

fn send_text(stream: &mut TcpStream, text: &str) {
    let mut out = BytesMut::new();
    put_masked_frame(&mut out, OpCode::Text, text.as_bytes(), [1, 2, 3, 4]);
    stream.write_all(&out).expect("the server reads");
}

#[test]
fn a_second_server_on_the_same_port_is_refused_with_a_sentence() {
    for workers in [1, 2] {
        let first = Process::start(&format!("workers = {workers}"), 1024);
        let config = config_file(&format!("workers = {workers}"));
        let second = Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .env_clear()
            .args(["--listen", &first.address.to_string(), "--config"])
            .arg(config.path())
            .output()
            .expect("it starts");
        assert_eq!(second.status.code(), Some(1));
        let sentence = String::from_utf8(second.stderr).expect("it is text");
        let last = sentence.lines().last().expect("it says why");
        assert!(last.contains(&first.address.to_string()) && last.contains("`server.listen`"), "{last}");
    }
}

#[test]
fn signals_but_those_to_end_are_ignored_and_the_others_drain() {
    for last in ["-TERM", "-INT", "-QUIT"] {
        let mut process = Process::start("workers = 1", 1024);
        let mut peer = websocket(process.address, "\"welcome\"");
        for ignored in ["-HUP", "-USR1", "-USR2"] {
            process.signal(ignored);
        }
        send_text(&mut peer, "{\"type\":\"ping\",\"id\":1}");
        assert!(read_until(&mut peer, "time_ms").contains("time_ms"), "a signal ended the server");
        process.signal(last);
        assert!(read_until(&mut peer, "restarting").contains("restarting"), "{last} does not drain");
        drop(peer);
        assert_eq!(process.wait().code(), Some(0), "{last}");
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_a_sentence_and_exits_with_1() {
    let config = config_file("workers = 1");
    let path = config.path().to_str().expect("a plain path");
    for arguments in ["check > /dev/full", "--print-config > /dev/full"] {
        let output = shell(1024, arguments, path).output().expect("it starts");
        let sentence = String::from_utf8(output.stderr).expect("it is text");
        assert_eq!(output.status.code(), Some(1), "{arguments}: {sentence}");
        assert!(sentence.starts_with("fanfare: cannot write to the standard output"), "{sentence}");
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
    }
}

#[test]
fn a_server_goes_on_without_its_outputs() {
    // Nothing tells the port, so the test chooses one: it is free as long as nobody else wants it.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("it is bound");
    drop(free);
    let config = config_file("workers = 1");
    let redirect = format!("--listen {address} > /dev/full 2> /dev/full");
    let mut child = shell(1024, &redirect, config.path().to_str().expect("a plain path"))
        .spawn()
        .expect("the server starts");
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(
            start.elapsed() < DEADLINE && child.try_wait().expect("it is ours").is_none(),
            "it does not serve"
        );
        std::thread::yield_now();
    }
    drop(websocket(address, "\"welcome\""));
    child.kill().expect("it lives");
    wait(&mut child);
}

#[test]
fn too_low_a_limit_of_open_files_is_refused_at_the_start() {
    let config = config_file("workers = 2");
    let output = shell(72, "", config.path().to_str().expect("a plain path")).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let sentence = String::from_utf8(output.stderr).expect("it is text");
    assert!(sentence.contains("open files is 72") && sentence.contains("ulimit -n"), "{sentence}");
}

#[test]
fn idle_sockets_on_the_admin_plane_take_nothing_from_the_public_port() {
    let process = Process::start("workers = 1", 256);
    let idle: Vec<_> = (0..368).map(|_| connect(process.admin)).collect();
    assert!(get(process.admin, "/healthz").starts_with("HTTP/1.1 200"));
    let descriptors =
        std::fs::read_dir(format!("/proc/{}/fd", process.running.child.id())).expect("it runs").count();
    assert!(descriptors < 80, "{descriptors} descriptors are open");
    let peers: Vec<_> = (0..100).map(|_| websocket(process.address, "\"welcome\"")).collect();
    assert!(get(process.admin, "/readyz").starts_with("HTTP/1.1 200"));
    drop((idle, peers));
}

#[test]
fn a_socket_on_the_admin_plane_that_says_nothing_is_closed() {
    let process = Process::start("workers = 1", 256);
    let mut silent = connect(process.admin);
    let started = Instant::now();
    let mut nothing = Vec::new();
    silent.read_to_end(&mut nothing).expect("it is closed in time");
    assert!(started.elapsed() < DEADLINE / 2);
}

#[test]
fn a_full_server_still_answers_probes_and_refuses_in_words() {
    let process = Process::start("workers = 1", 160);
    let peers: Vec<_> = (0..200).map(|_| connect(process.address)).collect();
    let mut refused = connect(process.address);
    assert!(read_until(&mut refused, "too_many_connections").contains("HTTP/1.1 503"));
    assert!(get(process.admin, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(process.admin, "/metrics").contains("fanfare_accept_pauses_total{worker=\"0\"} 0\n"));
    drop(peers);
}

/// Echoes, but for one message.
const FRAGILE: MessageHandler = MessageHandler {
    greeting: Greeting::Silence,
    on_messages: |engine, session, messages| {
        for message in messages {
            let Message::Text(text) = message else { continue };
            assert_ne!(text, "panic", "the test asked for it");
            engine.reply(session, |out| put_frame(out, OpCode::Text, text.as_bytes()));
        }
        Flow::Continue
    },
    on_message: |_, _, _| Flow::Continue,
};

#[test]
fn a_panic_over_one_connections_input_ends_that_connection_alone() {
    let config = Config::from_toml(&format!(
        "[server]\nlisten = ['127.0.0.1:0']\nadmin_listen = '127.0.0.1:0'\nworkers = 1\n\
         [apps.default]\nclient_key = '{CLIENT}'\n"
    ))
    .expect("it is a configuration");
    let server = Server::start_with(config, FRAGILE).expect("it starts");
    let (address, admin) = (server.addresses()[0].address, server.admin_address().expect("it is on"));
    let mut bystander = websocket(address, "\r\n\r\n");
    for _ in 0..3 {
        let mut attacker = websocket(address, "\r\n\r\n");
        send_text(&mut attacker, "panic");
        assert_eq!(read_until(&mut attacker, "never"), "");
        send_text(&mut bystander, "still here");
        assert!(read_until(&mut bystander, "still here").contains("still here"));
    }
    assert!(!server.is_broken());
    assert!(get(admin, "/metrics").contains("fanfare_panics_total{worker=\"0\"} 3\n"));
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(server.shut_down().is_ok()));
    drop(bystander);
    assert_eq!(ended.recv_timeout(DEADLINE), Ok(true));
}

#[test]
fn a_check_on_a_closed_pipe_does_not_panic() {
    let config = config_file("workers = 1");
    let (reader, writer) = std::io::pipe().expect("the system has pipes");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare"))
        .env_clear()
        .args(["--print-config", "--config"])
        .arg(config.path())
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("fanfare: cannot write"));
}

//! `ab`: two servers, each started anew for every run, in turns (a, b, b, a, …), under the same plan; then
//! compared.
//!
//! A server is a command line. It is ready when its URL answers, and is told to end (SIGTERM, and SIGKILL
//! after a while) when its run is over, with everything that it has started.

use std::{
    fs, io,
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use fanfare_loadgen::{AbPlan, Comparison, PlanError, Report, Verdict, to_json};
use rustix::{
    process::{Pid, Signal, kill_process_group, test_kill_process_group},
    thread::{CpuSet, sched_setaffinity},
};

/// How long a server may take to be ready, and to end.
const START: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// How often a run that is no result is done again.
const TRIES: usize = 2;

/// Runs everything, and says what is to be compared; or with which verdict it had to end.
pub(crate) fn run(
    plan: &AbPlan,
    mut measure: impl FnMut() -> Result<Vec<(String, Report)>, PlanError>,
) -> Result<Result<Comparison, Verdict>, PlanError> {
    fs::create_dir_all(&plan.out)
        .map_err(|error| PlanError(format!("The folder {} cannot be made: {error}.", plan.out.display())))?;
    let mut sides = [Vec::new(), Vec::new()];
    for (turn, side) in turns(plan.rounds).enumerate() {
        let name = ["a", "b"][side];
        eprintln!("run {} of {}: {name}", turn + 1, 4 * plan.rounds);
        match measure_once(plan, side, &mut measure)? {
            Ok(runs) => {
                let path = plan.out.join(format!("{name}-{}.json", sides[side].len() + 1));
                fs::write(&path, to_json(&runs)).map_err(|error| {
                    PlanError(format!("The report cannot be written to {}: {error}.", path.display()))
                })?;
                sides[side].push(path);
            }
            Err(verdict) => return Ok(Err(verdict)),
        }
    }
    let sides: Vec<Vec<PathBuf>> = sides.into();
    Ok(Ok(Comparison { sides, gate: plan.gate.clone(), force: false }))
}

/// Which side has its turn: 0, 1, 1, 0, and so on, so that a machine that slows down slows both.
fn turns(rounds: u32) -> impl Iterator<Item = usize> {
    (0..rounds).flat_map(|_| [0, 1, 1, 0])
}

/// One run against a fresh server; once more if it was no result.
fn measure_once(
    plan: &AbPlan,
    side: usize,
    measure: &mut impl FnMut() -> Result<Vec<(String, Report)>, PlanError>,
) -> Result<Result<Vec<(String, Report)>, Verdict>, PlanError> {
    let mut verdict = Verdict::Clean;
    for _ in 0..TRIES {
        let server = Server::start(&plan.commands[side], plan)?;
        let runs = measure()?;
        drop(server);
        verdict = runs.iter().map(|(_, report)| report.verdict).max().unwrap_or(Verdict::Interrupted);
        if verdict == Verdict::Clean {
            return Ok(Ok(runs));
        }
        let problems = runs.iter().flat_map(|(_, report)| &report.problems);
        problems.for_each(|problem| eprintln!("{problem}"));
        if verdict == Verdict::Interrupted {
            break;
        }
    }
    Ok(Err(verdict))
}

/// A running server; it ends when dropped.
struct Server {
    child: Child,
}

impl Server {
    fn start(command: &str, plan: &AbPlan) -> Result<Self, PlanError> {
        let wrong = |why: String| PlanError(format!("The server {command:?} {why}."));
        if is_ready(&plan.ready)? {
            return Err(wrong(format!("cannot be told from who answers at {} already", plan.ready)));
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {command}")]).process_group(0).stdin(Stdio::null());
        shell.stdout(Stdio::null());
        let started = with_cpus(&plan.server_cpu, || shell.spawn());
        let child = started.map_err(|error| wrong(format!("could not be started: {error}")))?;
        let mut server = Self { child };
        let begun = Instant::now();
        loop {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(wrong(format!("ended before it was ready ({status})")));
            }
            if is_ready(&plan.ready)? {
                return Ok(server);
            }
            if begun.elapsed() > START {
                return Err(wrong(format!("was not ready within {} s", START.as_secs())));
            }
            thread::sleep(LOOK);
        }
    }

    fn group(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id() as i32)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(group) = self.group() else { return };
        // An error means that nobody of it lives any more.
        kill_process_group(group, Signal::TERM).ok();
        let begun = Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && begun.elapsed() < END {
            thread::sleep(LOOK);
        }
        if test_kill_process_group(group).is_ok() {
            kill_process_group(group, Signal::KILL).ok();
        }
        self.child.wait().ok();
    }
}

/// Does something on a thread that keeps to these CPUs, as what it starts does.
fn with_cpus<T: Send>(cpus: &[u32], what: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    if cpus.is_empty() {
        return what();
    }
    thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            let mut set = CpuSet::new();
            cpus.iter()
                .filter(|cpu| (**cpu as usize) < CpuSet::MAX_CPU)
                .for_each(|cpu| set.set(*cpu as usize));
            sched_setaffinity(None, &set)?;
            what()
        });
        pinned.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    })
}

/// Whether a URL answers: `ws://` by taking connections, `http://` by an answer below 400.
fn is_ready(url: &str) -> Result<bool, PlanError> {
    let wrong = || PlanError(format!("The URL {url:?} is no http:// or ws:// one."));
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    if !["http", "ws"].contains(&scheme) {
        return Err(wrong());
    }
    let address = with_port.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(wrong)?;
    let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return Ok(false) };
    Ok(scheme == "ws" || answers(stream, host, path).unwrap_or(false))
}

fn answers(mut stream: TcpStream, host: &str, path: &str) -> io::Result<bool> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    // HTTP/1.1 200
    Ok(head.starts_with(b"HTTP/1.") && matches!(head[9], b'2' | b'3'))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sides_take_turns_and_none_is_always_second() {
        assert_eq!(turns(2).collect::<Vec<_>>(), [0, 1, 1, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn server_is_ready_when_its_url_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let answer = |text: &'static str| {
            let listener = listener.try_clone().expect("a socket");
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("accepted");
                assert_ne!(stream.read(&mut [0; 512]).expect("readable"), 0, "a request");
                stream.write_all(text.as_bytes()).expect("written");
            });
            let ready = is_ready(&format!("http://{address}/healthz")).expect("a URL");
            server.join().expect("it ends");
            ready
        };
        assert!(answer("HTTP/1.1 200 OK\r\n\r\n") && answer("HTTP/1.0 204 No Content\r\n\r\n"));
        assert!(!answer("HTTP/1.1 503 Later\r\n\r\n") && !answer("SSH-2.0-something\r\n"));
        assert!(is_ready(&format!("ws://{address}")).expect("a URL"));
        drop(listener);
        assert!(!is_ready(&format!("ws://{address}")).expect("a URL"));
        for url in ["127.0.0.1:80", "ftp://127.0.0.1", "http://"] {
            assert!(is_ready(url).is_err(), "{url}");
        }
    }
}

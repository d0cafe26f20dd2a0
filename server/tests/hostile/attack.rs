//! An attack: attackers send to a server while a bystander pings it, and the server's resident memory is
//! sampled.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::process::{Client, DEADLINE, Process, connect, resident};

/// The defaults of `outbound_bytes` and `frame_bytes`.
const OUTBOUND_BYTES: usize = 4 << 20;
const FRAME_BYTES: usize = 1 << 20;

/// The memory that the server may need besides.
const SLACK: usize = 32 << 20;

/// An attacker without progress for this time was stopped by the server.
const STUCK: Duration = Duration::from_millis(500);

/// How long the attackers send.
const LASTS: Duration = Duration::from_secs(2);

/// Whether an attacker reads the server's output.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) enum Reading {
    Always,
    Never,
    /// Attackers with an even index read, and attackers with an odd index do not.
    EverySecond,
}

impl Reading {
    fn reads(self, attacker: usize) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::EverySecond => attacker.is_multiple_of(2),
        }
    }
}

/// An attack on a server; see the module's description.
pub(crate) struct Attack {
    server: Process,
    bystander: Client,
}

impl Attack {
    pub(crate) fn start(settings: &str) -> Self {
        let server = Process::start(settings);
        let bystander = Client::connect(server.address);
        Self { server, bystander }
    }

    pub(crate) fn bystander(&mut self) -> &mut Client {
        &mut self.bystander
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.server.address)
    }

    /// Opens `attackers` WebSockets, each of which sends its `input` repeatedly.
    pub(crate) fn run(
        &mut self,
        attackers: usize,
        reading: Reading,
        input: impl Fn(usize) -> Vec<u8> + Sync,
    ) {
        let address = self.server.address;
        self.attack(attackers, |attacker| {
            let started = Instant::now();
            let input = input(attacker);
            // An attacker whose connection the server closes connects again once or twice.
            let mut clients = Vec::new();
            while clients.len() < 2 && started.elapsed() < LASTS {
                let mut client = Client::connect(address);
                press(&mut client.stream, reading.reads(attacker), &input, started);
                clients.push(client);
            }
            clients
        });
    }

    /// Opens `attackers` sockets, each of which sends its `input` once.
    pub(crate) fn run_raw(&mut self, attackers: usize, input: impl Fn(usize) -> Vec<u8> + Sync) {
        let address = self.server.address;
        self.attack(attackers, |attacker| {
            let mut stream = connect(address);
            stream.set_write_timeout(Some(STUCK)).expect("it is a socket");
            write_some(&mut stream, &input(attacker));
            stream
        });
    }

    fn attack<T: Send>(&mut self, attackers: usize, one: impl Fn(usize) -> T + Sync) {
        self.bystander.ping();
        let (before, process) = (self.server.resident(), self.server.id());
        let (over, peak) = (AtomicBool::new(false), AtomicUsize::new(before));
        let bystander = &mut self.bystander;
        let left = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    peak.fetch_max(resident(process), Ordering::Relaxed);
                    thread::yield_now();
                }
            });
            let all: Vec<_> = (0..attackers)
                .map(|attacker| {
                    let one = &one;
                    scope.spawn(move || one(attacker))
                })
                .collect();
            while !all.iter().all(|attacker| attacker.is_finished()) {
                bystander.ping();
            }
            // An attacker that does not read keeps its connection, whose output the server still queues.
            let held: Vec<T> = all.into_iter().map(|one| one.join().expect("an attacker")).collect();
            bystander.ping();
            over.store(true, Ordering::Relaxed);
            held
        });
        // Each attacker may have two connections.
        let allowed = before + 2 * attackers * (2 * OUTBOUND_BYTES + FRAME_BYTES) + SLACK;
        let peak = peak.into_inner();
        drop(left);
        let after = self.settle(before + before / 10 + (8 << 20));
        println!(
            "hostile: {} {attackers} attackers, MiB: before {}, peak {}, after {}",
            thread::current().name().unwrap_or_default(),
            before >> 20,
            peak >> 20,
            after >> 20
        );
        assert!(peak <= allowed, "{peak} bytes at the peak, {before} before, {allowed} allowed");
        assert!(after <= before + before / 10 + (8 << 20), "{after} bytes stay, {before} before");
    }

    /// Waits until the server's resident memory is at most this. Returns the resident memory.
    fn settle(&mut self, allowed: usize) -> usize {
        let started = Instant::now();
        loop {
            // Requests of other clients give the allocator an occasion to return freed memory.
            self.bystander.ping();
            let now = self.server.resident();
            if now <= allowed || started.elapsed() > DEADLINE {
                return now;
            }
            thread::yield_now();
        }
    }

    /// Ends the server. Returns how many bytes its clients receive during the drain.
    pub(crate) fn drain(&mut self, clients: &mut [Client]) -> usize {
        let before = self.server.resident();
        self.server.terminate();
        let received = clients.iter_mut().map(Client::read_to_end).sum();
        println!("hostile: a drain of {}: {} bytes, {} MiB before", clients.len(), received, before >> 20);
        received
    }
}

/// Sends `input` repeatedly, as long as the server takes it.
fn press(stream: &mut TcpStream, reads: bool, input: &[u8], started: Instant) {
    stream.set_write_timeout(Some(STUCK)).expect("it is a socket");
    stream.set_read_timeout(Some(STUCK)).expect("it is a socket");
    let mut reader = stream.try_clone().expect("descriptors are left");
    thread::scope(|scope| {
        if reads {
            scope.spawn(move || {
                let mut buffer = [0; 64 << 10];
                while started.elapsed() < LASTS && !matches!(reader.read(&mut buffer), Ok(0)) {}
            });
        }
        while started.elapsed() < LASTS && write_some(stream, input) {}
    });
}

/// Whether the socket took all of the bytes.
fn write_some(stream: &mut TcpStream, input: &[u8]) -> bool {
    match stream.write_all(input) {
        Ok(()) => true,
        Err(error) => {
            let is_expected = matches!(
                error.kind(),
                ErrorKind::WouldBlock
                    | ErrorKind::TimedOut
                    | ErrorKind::BrokenPipe
                    | ErrorKind::ConnectionReset
            );
            assert!(is_expected, "{error}");
            false
        }
    }
}

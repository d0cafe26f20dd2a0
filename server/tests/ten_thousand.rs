//! Ten thousand connections come, join, receive and go; afterwards the server has as many descriptors as
//! before, and its memory has come back. The server is a process of its own, so that its numbers are its own.

mod running;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use fanfare_core::ws::{OpCode, put_masked_frame, put_request};

use running::{Running, binary, resident_kib};

const CONNECTIONS: usize = 10_000;
const DEADLINE: Duration = Duration::from_secs(60);
const CONFIG: &str = r#"
[server]
listen = ["127.0.0.1:0"]
admin_listen = "off"
workers = 2
[log]
level = "error"
[apps.default]
client_key = "ten-thousand-client"
server_key = "ten-thousand-server"
announce = false
"#;

/// The server's process.
struct Process(Running);

impl Process {
    fn start() -> Self {
        Self(Running::start(CONFIG, binary, &["listening"]))
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0.child.id())).expect("it runs").count()
    }

    fn resident_kib(&self) -> usize {
        resident_kib(self.0.child.id())
    }

    /// Waits until `holds`; false if it does not within the deadline.
    fn wait_until(&self, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let start = Instant::now();
        while !holds(self) {
            if start.elapsed() > DEADLINE {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    fn connect(&self) -> TcpStream {
        let address = self.0.addresses[0];
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("it is a socket");
        let mut out = BytesMut::new();
        put_request(
            &mut out,
            &address.to_string(),
            "/v1/ws?key=ten-thousand-client",
            [7; 16],
            std::iter::empty(),
        );
        stream.write_all(&out).expect("the server reads");
        read_until(&mut stream, b"\"welcome\"");
        stream
    }
}

fn send(stream: &mut TcpStream, command: &str) {
    let mut out = BytesMut::new();
    put_masked_frame(&mut out, OpCode::Text, command.as_bytes(), [1, 2, 3, 4]);
    stream.write_all(&out).expect("the server reads");
}

fn read_until(stream: &mut TcpStream, wanted: &[u8]) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(wanted.len()).any(|window| window == wanted) {
        let n = stream.read(&mut buffer).expect("the server answers in time");
        assert_ne!(n, 0, "the server closed; it had said {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..n]);
    }
}

/// Opens, joins, sends to and closes `count` connections; returns the server's resident memory at the peak,
/// in KiB.
fn round(server: &Process, count: usize) -> usize {
    let mut streams: Vec<TcpStream> = (0..count).map(|_| server.connect()).collect();
    for (at, stream) in streams.iter_mut().enumerate() {
        send(stream, &format!(r#"{{"type":"join","channel":"room-{}","id":1}}"#, at % 100));
    }
    streams.iter_mut().for_each(|stream| read_until(stream, b"\"joined\":true"));
    for (channel, stream) in streams.iter_mut().enumerate().take(100) {
        let command =
            format!(r#"{{"type":"send","channel":"room-{channel}","event":"e","message":"to all"}}"#);
        send(stream, &command);
    }
    streams.iter_mut().for_each(|stream| read_until(stream, b"to all"));
    server.resident_kib()
}

#[test]
fn ten_thousand_connections_leave_no_descriptor_and_no_memory_behind() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit can be raised");
    let server = Process::start();
    let descriptors = server.descriptors();
    round(&server, 100);
    assert!(server.wait_until(|server| server.descriptors() == descriptors), "descriptors come back");
    let before = server.resident_kib();
    for _ in 0..2 {
        let peak = round(&server, CONNECTIONS);
        assert!(server.wait_until(|server| server.descriptors() == descriptors), "descriptors come back");
        // A few connections more give the allocator occasion to return what was freed. It may keep some for
        // itself.
        let allowed = (peak - before) / 3 + 6 * 1024;
        let came_back = (0..10).any(|_| {
            round(&server, 10);
            server.resident_kib() <= before + allowed
        });
        let after = server.resident_kib();
        assert!(came_back, "{before} KiB before, {peak} KiB with all, {after} KiB after");
        assert!(server.wait_until(|server| server.descriptors() == descriptors));
    }
}

//! The server's process, and clients of the server.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use bytes::BytesMut;
use fanfare_core::ws::{OpCode, put_masked_frame, put_request};

use crate::running::{Running, binary, resident_kib};

/// The longest wait for an expected event.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The key of the only app.
const CLIENT: &str = "hostile-client-key";

/// A running server, which ends with the test.
pub(crate) struct Process {
    running: Running,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts a server with one worker, default limits and these settings.
    pub(crate) fn start(server: &str) -> Self {
        let text = format!(
            "[server]\nlisten = ['127.0.0.1:0']\nadmin_listen = 'off'\nworkers = 1\n{server}\n\
             [log]\nlevel = 'error'\n[apps.default]\nclient_key = '{CLIENT}'\nsession_exp_required = false\n\
             [[apps.default.channels]]\nmatch = 'history*'\nhistory_messages = 1000\n\
             [[apps.default.session_keys]]\nalgorithm = 'HS256'\n\
             secret = 'hostile-secret-of-at-least-32-bytes'\n"
        );
        let running = Running::start(&text, binary, &["listening"]);
        Self { address: running.addresses[0], running }
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> usize {
        resident(self.running.child.id())
    }

    pub(crate) fn id(&self) -> u32 {
        self.running.child.id()
    }

    /// Asks the server to drain.
    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.running.child.id().to_string()]).status();
        assert!(status.expect("there is `kill`").success());
    }
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(process: u32) -> usize {
    resident_kib(process) << 10
}

/// A client's end of a WebSocket.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Opens a WebSocket, and reads its welcome.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut client = Self { stream: connect(address), unread: Vec::new() };
        let mut out = BytesMut::new();
        let target = format!("/v1/ws?key={CLIENT}");
        put_request(&mut out, &address.to_string(), &target, [7; 16], std::iter::empty());
        client.send(&out);
        client.read_until("\"welcome\"");
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send(&frames([text]));
    }

    /// Reads until the server has sent `wanted`. Returns the bytes received since the last call.
    pub(crate) fn read_until(&mut self, wanted: &str) -> String {
        let mut buffer = [0; 16 << 10];
        let mut searched = 0;
        loop {
            let from = searched.min(self.unread.len());
            let found = self.unread[from..].windows(wanted.len()).any(|window| window == wanted.as_bytes());
            if found {
                return String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned();
            }
            searched = self.unread.len().saturating_sub(wanted.len());
            let n = self.stream.read(&mut buffer).expect("the server answers in time");
            assert_ne!(n, 0, "the server closed before it said {wanted}");
            self.unread.extend_from_slice(&buffer[..n]);
        }
    }

    /// Waits for the answer to a ping.
    pub(crate) fn ping(&mut self) {
        self.send_text(r#"{"type":"ping","id":"bystander"}"#);
        self.read_until("\"time_ms\"");
    }

    /// Reads to the end of the stream. Returns the number of bytes.
    pub(crate) fn read_to_end(&mut self) -> usize {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server does not close: {error}"),
        }
        assert!(rest.windows(10).any(|window| window == b"restarting"), "it does not say why it closes");
        rest.len()
    }
}

/// Opens a socket to the server.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("it is a socket");
    stream
}

/// Encodes texts as a client's frames.
pub(crate) fn frames<'t>(texts: impl IntoIterator<Item = &'t str>) -> Vec<u8> {
    let mut out = BytesMut::new();
    for text in texts {
        put_masked_frame(&mut out, OpCode::Text, text.as_bytes(), [1, 2, 3, 4]);
    }
    out.to_vec()
}

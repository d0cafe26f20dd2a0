//! What a connection with TLS costs at rest beyond one without: heap bytes of the server's threads, counted
//! by the allocator. The figures are exact for the allocator's requests; they are bounded, and printed as
//! `bytes: NAME NUMBER`.
//!
//! There is one test, since all threads but the test's own share the count.

#![allow(unsafe_code, reason = "a counting allocator has to implement GlobalAlloc")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicIsize, Ordering},
    },
    time::Duration,
};

use fanfare_server::{Security, Server, config::Config};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
    version::{TLS12, TLS13},
};

/// The most bytes that TLS may add to a connection at rest.
const BOUND: isize = 1500;

/// The connections that are counted, after as many that are not.
const CONNECTIONS: usize = 256;

const CERTIFICATE: &[u8] = include_bytes!("../src/tls/session/keys/localhost.crt");
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tls/session/keys");
const KEY: &str = "client-key-0123456789";

/// The bytes in use by the threads that are counted.
static LIVE: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(true) };
}

struct Counting;

impl Counting {
    fn count(bytes: usize, sign: isize) {
        if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
            LIVE.fetch_add(sign * isize::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
        }
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        Self::count(layout.size(), -1);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A WebSocket to the server, over TLS of this version or without.
struct Client(Box<dyn Stream>);

impl Client {
    fn connect(server: &Server, version: Option<&'static SupportedProtocolVersion>) -> Self {
        let security = if version.is_some() { Security::Tls } else { Security::None };
        let listening = server.addresses().iter().find(|listening| listening.security == security);
        let socket = TcpStream::connect(listening.expect("it listens").address).expect("it accepts");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("it is a socket");
        let stream: Box<dyn Stream> = match version {
            None => Box::new(socket),
            Some(version) => Box::new(StreamOwned::new(session(version), socket)),
        };
        let mut client = Self(stream);
        let request = format!(
            "GET /v1/ws?key={KEY} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.0.write_all(request.as_bytes()).expect("the request is sent");
        client.read_until(b"\"welcome\"");
        client
    }

    /// Asks for an answer, so that the server has done all that came before.
    fn ping(&mut self) {
        let text = br#"{"id":"a","type":"ping"}"#;
        let length = u8::try_from(text.len()).expect("it is short");
        let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0], &text[..]].concat();
        self.0.write_all(&frame).expect("the frame is sent");
        self.read_until(b"\"time_ms\"");
    }

    fn read_until(&mut self, word: &[u8]) {
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        while !seen.windows(word.len()).any(|window| window == word) {
            match self.0.read(&mut buffer) {
                Ok(0) => panic!("the server ends: {}", String::from_utf8_lossy(&seen)),
                Ok(bytes) => seen.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&seen)),
            }
        }
    }
}

fn session(version: &'static SupportedProtocolVersion) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE).expect("it is PEM")).expect("it is a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .expect("ring has the version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("it is a name");
    ClientConnection::new(Arc::new(config), name).expect("the settings are fine")
}

/// The bytes of one connection at rest. The connections stay in `clients`.
fn bytes(
    server: &Server,
    version: Option<&'static SupportedProtocolVersion>,
    clients: &mut Vec<Client>,
) -> isize {
    let mut live = || {
        clients.extend((0..CONNECTIONS).map(|_| Client::connect(server, version)));
        clients.last_mut().expect("there are some").ping();
        LIVE.load(Ordering::Relaxed)
    };
    // The first connections make room for themselves and for others.
    let before = live();
    (live() - before) / isize::try_from(CONNECTIONS).expect("they are few")
}

#[test]
fn tls_adds_less_than_a_kilobyte_and_a_half_to_a_connection_at_rest() {
    IS_COUNTED.set(false);
    let config = format!(
        "[server]\nworkers = 1\nlisten = '127.0.0.1:0'\nadmin_listen = 'off'\ndrain_spread_ms = 0\n\
         drain_ms = 0\n\
         [[server.listeners]]\nlisten = '127.0.0.1:0'\n\
         certificate_file = '{KEYS}/localhost.crt'\nkey_file = '{KEYS}/localhost.key'\n\
         [apps.default]\nclient_key = '{KEY}'\n"
    );
    let server = Server::start(Config::from_toml(&config).expect("it is a configuration"));
    let server = server.expect("the ports are free");
    let mut clients = Vec::new();
    let plain = bytes(&server, None, &mut clients);
    println!("bytes: connection {plain}");
    for (name, version) in [("1.3", &TLS13), ("1.2", &TLS12)] {
        let added = bytes(&server, Some(version), &mut clients) - plain;
        println!("bytes: TLS {name} {added}");
        assert!(added > 0 && added < BOUND, "TLS {name} adds {added} bytes, more than {BOUND}");
    }
    drop(clients);
    server.shut_down().expect("it ends");
}

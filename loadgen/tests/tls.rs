//! `wss://`: whom the generator trusts, and whether its connections resume sessions, against a server that
//! speaks just enough TLS and WebSocket. Certificates are made by the `openssl` program.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    thread,
};

use bytes::BytesMut;
use fanfare_core::{
    http::{HttpLimits, parse_head},
    ws::{Upgrade, put_response},
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;

/// An authority, and a server's certificate for 127.0.0.1.
struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("fanfare-loadgen-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let certificates = Self { folder };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        certificates
            .openssl(&format!("req -x509 {key} -days 10 -subj /CN=authority -keyout ca.key -out ca.pem"));
        certificates.openssl(&format!("req {key} -subj /CN=server -keyout key.pem -out request.pem"));
        let extensions = certificates.path("extensions");
        fs::write(extensions, "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").expect("written");
        certificates.openssl(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 10 -extfile extensions -out cert.pem",
        );
        certificates
    }

    fn openssl(&self, line: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(line.split(' ')).current_dir(&self.folder).output().expect("openssl runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn server(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let certificates = CertificateDer::pem_file_iter(self.path("cert.pem")).expect("a file");
        let certificates = certificates.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(self.path("key.pem")).expect("a key");
        let builder = builder.expect("versions").with_no_client_auth();
        builder.with_single_cert(certificates, key).expect("they belong together")
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// Accepts connections until the test ends.
fn serve(config: ServerConfig) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let config = Arc::new(config);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let config = Arc::clone(&config);
            // A peer that does not trust the certificate ends with an error, which is its own business.
            thread::spawn(move || shake_hands(socket, config).ok());
        }
    });
    address
}

/// Answers a handshake of both kinds, and a close frame.
fn shake_hands(socket: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
    let session = ServerConnection::new(config).expect("a session");
    let mut stream = StreamOwned::new(session, socket);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let parsed = parse_head(&head, HttpLimits::default()).expect("a request");
    let (head, _) = parsed.expect("a whole one");
    let upgrade = Upgrade::new(head.method, head.minor_version, head.headers.iter());
    let mut response = BytesMut::new();
    put_response(&mut response, &upgrade.accept().expect("a handshake"), None);
    let (line, rest) = response.split_at(b"HTTP/1.1 101 Switching Protocols\r\n".len());
    stream.write_all(&[line, b"Server: stub/7\r\n", rest].concat())?;
    let mut frame = [0; 8];
    stream.read_exact(&mut frame)?;
    stream.write_all(&[0x88, 2, 0x03, 0xE8])?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn connect(address: SocketAddr, options: &str, ca: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"));
    let line = "connect --driver plain --cycles 2 --warmup 0.05 -d 0.2 --windows 2 --lower-bound --json -";
    command.args(line.split(' ')).args(options.split_whitespace()).arg(format!("--url=wss://{address}"));
    command.args(ca.map(|path| format!("--ca={}", path.display()))).output().expect("it runs")
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut file: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
    file["runs"][0]["report"].take()
}

#[test]
fn connections_resume_sessions_if_they_are_told_to() {
    let certificates = Certificates::new("resumption");
    let address = serve(certificates.server());
    let ca = certificates.path("ca.pem");
    for (options, resumes) in [("", false), ("--resumption", true)] {
        let output = connect(address, options, Some(&ca));
        let report = report(&output);
        assert_eq!(output.status.code(), Some(0), "{report}");
        let count = |kind: &str| report["handshakes"][kind].as_u64().expect("a count");
        assert!(count("full") > 0 && (count("resumed") > 0) == resumes, "{report}");
        assert_eq!(report["handshakes"]["software"], "stub/7");
    }
}

#[test]
fn certificate_of_a_stranger_is_refused_unless_anybody_will_do() {
    let (certificates, strangers) = (Certificates::new("ours"), Certificates::new("theirs"));
    let address = serve(certificates.server());
    let output = connect(address, "", Some(&strangers.path("ca.pem")));
    let refused = report(&output);
    assert_eq!(output.status.code(), Some(1), "{refused}");
    let problem = refused["problems"][0].as_str().expect("a sentence");
    assert!(problem.starts_with("The TLS handshake failed: invalid peer certificate"), "{problem}");
    let output = connect(address, "--insecure", None);
    assert_eq!(output.status.code(), Some(0), "{}", report(&output));
}

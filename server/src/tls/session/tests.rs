//! Sessions against rustls's own client, over loopback.

use std::{net::TcpListener, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::*;

const CERTIFICATE: &[u8] = include_bytes!("keys/localhost.crt");
const KEY: &[u8] = include_bytes!("keys/localhost.key");

struct Pair {
    server: Tls,
    client: ClientConnection,
}

/// A session and its client, after the handshake.
fn established() -> Pair {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("it is PEM");
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("it is PEM");
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("it is a certificate");
    let config = ServerConfig::builder_with_provider(provider.clone());
    let config = config.with_safe_default_protocol_versions().expect("ring has all versions");
    let mut config =
        config.with_no_client_auth().with_single_cert(vec![certificate], key).expect("they match");
    config.enable_secret_extraction = true;
    let server = UnbufferedServerConnection::new(Arc::new(config)).expect("the settings are fine");
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().expect("ring has all versions");
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().expect("it is a name");
    let client = ClientConnection::new(Arc::new(config), name).expect("the settings are fine");
    let mut pair = Pair { server: Tls::new(server), client };
    pair.shake_hands();
    pair
}

impl Pair {
    fn shake_hands(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let mut far = std::net::TcpStream::connect(address).expect("it listens");
        let (near, _) = listener.accept().expect("somebody connects");
        near.set_nonblocking(true).expect("it is a socket");
        let mut near = TcpStream::from_std(near);
        let (mut ciphertext, mut plain) = (vec![0; 32 << 10], vec![0; 32 << 10]);
        while !self.server.is_established() || self.client.is_handshaking() {
            while self.client.wants_write() {
                self.client.write_tls(&mut far).expect("the socket takes it");
            }
            match self.server.read(&mut near, &mut ciphertext, &mut plain) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            while !self.server.unsent.is_empty() {
                let mut sent = Vec::new();
                self.server.send_unsent(&mut sent).expect("a vector takes all");
                self.receive(&sent);
            }
        }
    }

    /// The client receives ciphertext. Returns the plain bytes.
    fn receive(&mut self, mut records: &[u8]) -> Vec<u8> {
        while !records.is_empty() {
            self.client.read_tls(&mut records).expect("a slice fails at nothing");
            self.client.process_new_packets().expect("the records are whole, and in order");
        }
        let mut plain = Vec::new();
        match self.client.reader().read_to_end(&mut plain) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        plain
    }
}

/// A socket whose peer has reset it.
struct Reset;

impl Write for Reset {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn nothing_of_a_connection_that_breaks_is_sent_on_another() {
    let (mut broken, mut whole) = (established(), established());
    let mut scratch = WriteScratch::default();
    let sent = TlsWriter { tls: &mut broken.server, socket: Reset, scratch: &mut scratch }.write(b"lost");
    assert_eq!(sent.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
    let mut wire = Vec::new();
    TlsWriter { tls: &mut whole.server, socket: &mut wire, scratch: &mut scratch }
        .write_all(b"found")
        .expect("a vector takes all");
    assert_eq!(whole.receive(&wire), b"found");
}

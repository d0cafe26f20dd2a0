//! Records against rustls's own client, and against the records of a client that breaks the rules.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedCipherSuite,
    crypto::ring::{ALL_CIPHER_SUITES, default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    unbuffered::{ConnectionState, UnbufferedStatus},
};

use super::*;

const CERTIFICATE: &[u8] = include_bytes!("../session/keys/localhost.crt");
const KEY: &[u8] = include_bytes!("../session/keys/localhost.key");

/// The suites that the test's certificate has.
fn suites() -> Vec<SupportedCipherSuite> {
    let has_key = |suite: &SupportedCipherSuite| !format!("{:?}", suite.suite()).contains("_RSA_");
    let suites: Vec<_> = ALL_CIPHER_SUITES.iter().copied().filter(has_key).collect();
    assert_eq!(suites.len(), 6);
    suites
}

fn suites_of(version: ProtocolVersion) -> Vec<SupportedCipherSuite> {
    suites().into_iter().filter(|suite| suite.version().version == version).collect()
}

/// The two ends of a session after its handshake.
fn pair(suite: SupportedCipherSuite) -> (Records, ClientConnection) {
    let mut provider = default_provider();
    provider.cipher_suites = vec![suite];
    let (provider, versions) = (Arc::new(provider), [suite.version()]);
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("it is PEM");
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("it is PEM");
    let config = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions);
    let config = config.expect("the suite is of the version").with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate.clone()], key).expect("they match");
    config.enable_secret_extraction = true;
    let mut server = UnbufferedServerConnection::new(Arc::new(config)).expect("the settings are fine");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("it is a certificate");
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    let config = config.expect("the suite is of the version").with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.enable_secret_extraction = true;
    let name = "localhost".try_into().expect("it is a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("the settings are fine");
    let mut is_established = false;
    while client.is_handshaking() || !is_established {
        let mut flight = flight(&mut client);
        let answers;
        (answers, is_established) = answer(&mut server, &mut flight);
        receive(&mut client, &answers);
    }
    (Records::new(server).expect("the handshake is over"), client)
}

/// What rustls answers to the client's flight, and whether the handshake is over.
fn answer(server: &mut UnbufferedServerConnection, flight: &mut [u8]) -> (Vec<u8>, bool) {
    let (mut answers, mut taken) = (Vec::new(), 0);
    loop {
        let UnbufferedStatus { discard, state } = server.process_tls_records(&mut flight[taken..]);
        let mut end = None;
        match state.expect("the client keeps the rules") {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut part = vec![0; 16 << 10];
                let length = data.encode(&mut part).expect("the message is shorter");
                answers.extend_from_slice(&part[..length]);
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::BlockedHandshake => end = Some(false),
            ConnectionState::WriteTraffic(_) => end = Some(true),
            _ => panic!("no bytes of the application are sent"),
        }
        taken += discard;
        if let Some(is_established) = end {
            return (answers, is_established);
        }
    }
}

/// All that a client has to send.
fn flight(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("a vector takes all");
    }
    bytes
}

/// The plain bytes that a client receives.
fn receive(client: &mut ClientConnection, mut records: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while !records.is_empty() {
        client.read_tls(&mut records).expect("a slice fails at nothing");
        client.process_new_packets().expect("the records are right");
        let mut part = vec![0; 32 << 10];
        while let Ok(length @ 1..) = client.reader().read(&mut part) {
            plain.extend_from_slice(&part[..length]);
        }
    }
    plain
}

/// What the records of a flight mean together.
#[derive(Default, PartialEq, Debug)]
struct Flight {
    plain: Vec<u8>,
    answers: Vec<u8>,
    is_done: bool,
}

fn open(server: &mut Records, mut flight: Vec<u8>) -> Result<Flight, Failure> {
    let (mut read, mut taken) = (Flight::default(), 0);
    let mut opener = server.opener()?;
    while let Some(length) = server.length(&flight[taken..])? {
        let record = &mut flight[taken..taken + length];
        match server.open(&mut opener, record, &mut read.answers)? {
            Opened::Plain(place) => read.plain.extend_from_slice(&record[place]),
            Opened::Nothing => {}
            Opened::Done => read.is_done = true,
        }
        taken += length;
    }
    assert_eq!(taken, flight.len(), "the flight has whole records");
    Ok(read)
}

/// The records of a client that seals whatever it likes.
fn rogue(client: ClientConnection, version: Version) -> Records {
    Records::with(client.dangerous_extract_secrets().expect("it is allowed"), version, None)
}

fn rogue_pair(version: ProtocolVersion) -> (Records, Records) {
    let (server, client) = pair(suites_of(version)[0]);
    let version = if version == ProtocolVersion::TLSv1_3 { Version::Tls13 } else { Version::Tls12 };
    (server, rogue(client, version))
}

fn sealed(client: &mut Records, kind: ContentType, content: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    client.seal_one(kind, content, &mut record).expect("it can be sealed");
    record
}

#[test]
fn every_suite_carries_bytes_both_ways_and_through_new_keys() {
    for suite in suites() {
        let (mut server, mut client) = pair(suite);
        for round in 0..12u8 {
            for length in [1, 0, 5, 1000, PLAIN_BYTES] {
                let bytes = vec![round; length];
                client.writer().write_all(&bytes).expect("there is room");
                let read = open(&mut server, flight(&mut client)).expect("the records are right");
                assert_eq!(read.plain, bytes);
                let mut records = read.answers;
                server.seal(&bytes, &mut records).expect("it can be sealed");
                assert_eq!(receive(&mut client, &records), bytes);
            }
            if suite.version().version == ProtocolVersion::TLSv1_3 && round % 3 == 0 {
                client.refresh_traffic_keys().expect("TLS 1.3 has new keys");
            }
        }
        client.send_close_notify();
        assert!(open(&mut server, flight(&mut client)).expect("the record is right").is_done);
        let mut goodbye = Vec::new();
        server.seal_goodbye(&mut goodbye).expect("it can be sealed");
        client.read_tls(&mut &*goodbye).expect("a slice fails at nothing");
        assert!(client.process_new_packets().expect("the record is right").peer_has_closed());
    }
}

#[test]
fn new_keys_that_are_asked_for_wait_until_earlier_answers_are_sent() {
    let (mut server, mut client) = pair(suites_of(ProtocolVersion::TLSv1_3)[0]);
    let mut waiting = Vec::new();
    server.seal(b"earlier", &mut waiting).expect("it can be sealed");
    client.refresh_traffic_keys().expect("TLS 1.3 has new keys");
    let mut record = flight(&mut client);
    let before = waiting.clone();
    let mut opener = server.opener().expect("the suite is known");
    assert!(matches!(server.open(&mut opener, &mut record, &mut waiting), Ok(Opened::Nothing)));
    assert_eq!(waiting, before, "a peer that reads nothing makes nothing grow");
    server.seal(b" later", &mut waiting).expect("it can be sealed");
    assert_eq!(receive(&mut client, &waiting), b"earlier later");
}

#[test]
fn a_changed_a_repeated_and_a_missing_record_end_the_session() {
    for suite in suites() {
        let wrong = Failure::Ours(AlertDescription::BadRecordMac);
        for at in 0..40 {
            let (mut server, mut client) = pair(suite);
            client.writer().write_all(b"twenty-four plain bytes.").expect("there is room");
            let mut record = flight(&mut client);
            record[at] ^= 1;
            // A record that says to be longer is incomplete; one that says to be shorter is changed.
            let length = match server.length(&record) {
                Ok(Some(length)) => length,
                _ => continue,
            };
            let mut opener = server.opener().expect("the suite is known");
            let opened = server.open(&mut opener, &mut record[..length], &mut Vec::new());
            assert!(opened.is_err(), "{:?} {at}", suite.suite());
        }
        let (mut server, mut client) = pair(suite);
        client.writer().write_all(b"once").expect("there is room");
        let record = flight(&mut client);
        assert!(open(&mut server, record.clone()).is_ok());
        assert_eq!(open(&mut server, record), Err(wrong));
        let (mut server, mut client) = pair(suite);
        client.writer().write_all(b"lost").expect("there is room");
        drop(flight(&mut client));
        client.writer().write_all(b"found").expect("there is room");
        assert_eq!(open(&mut server, flight(&mut client)), Err(wrong));
    }
}

#[test]
fn records_that_are_too_long_too_short_or_of_no_type_are_refused() {
    for version in [ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2] {
        let (server, _) = rogue_pair(version);
        let most = if version == ProtocolVersion::TLSv1_3 { PAYLOAD_BYTES_13 } else { PAYLOAD_BYTES_12 };
        let header = |length: usize| [23, 3, 3, (length >> 8) as u8, length as u8];
        assert_eq!(server.length(&header(most)), Ok(None));
        assert_eq!(server.length(&header(most + 1)), Err(Failure::Ours(AlertDescription::RecordOverflow)));
        for length in 0..48 {
            for kind in [0, 20, 21, 22, 23, 24, 255] {
                let (mut server, _) = rogue_pair(version);
                let mut record = header(length).to_vec();
                record[0] = kind;
                record.resize(HEADER + length, 7);
                assert!(open(&mut server, record).is_err(), "{kind} {length}");
            }
        }
    }
    let (mut server, mut client) = rogue_pair(ProtocolVersion::TLSv1_3);
    let padded = sealed(&mut client, ContentType::Unknown(0), b"ab\x17\0\0\0");
    assert_eq!(open(&mut server, padded).expect("padding is allowed").plain, b"ab");
    let nothing = sealed(&mut client, ContentType::Unknown(0), b"\0\0");
    assert_eq!(open(&mut server, nothing), Err(Failure::Ours(AlertDescription::UnexpectedMessage)));
    let (mut server, mut client) = rogue_pair(ProtocolVersion::TLSv1_3);
    let long = sealed(&mut client, ContentType::ApplicationData, &[0; PLAIN_BYTES + 1]);
    assert_eq!(open(&mut server, long), Err(Failure::Ours(AlertDescription::RecordOverflow)));
}

#[test]
fn what_brings_nothing_is_taken_only_so_often() {
    for (version, kind, content) in [
        (ProtocolVersion::TLSv1_3, ContentType::ApplicationData, &b""[..]),
        (ProtocolVersion::TLSv1_2, ContentType::ApplicationData, b""),
        (ProtocolVersion::TLSv1_3, ContentType::Alert, &[1, 90]),
        (ProtocolVersion::TLSv1_2, ContentType::Alert, &[1, 90]),
    ] {
        let (mut server, mut client) = rogue_pair(version);
        for _ in 0..3 {
            for _ in 0..IDLE_RECORDS {
                assert!(open(&mut server, sealed(&mut client, kind, content)).is_ok());
            }
            let plain = sealed(&mut client, ContentType::ApplicationData, b"a");
            assert_eq!(open(&mut server, plain).expect("it is right").plain, b"a");
        }
        for _ in 0..IDLE_RECORDS {
            assert!(open(&mut server, sealed(&mut client, kind, content)).is_ok());
        }
        let refused = open(&mut server, sealed(&mut client, kind, content));
        assert_eq!(refused, Err(Failure::Ours(AlertDescription::UnexpectedMessage)));
    }
}

#[test]
fn other_messages_of_tls_end_the_session_with_their_alert() {
    let unexpected = Failure::Ours(AlertDescription::UnexpectedMessage);
    for (version, kind, content, failure) in [
        (ProtocolVersion::TLSv1_3, ContentType::Handshake, &b"\x01\0\0\0"[..], unexpected),
        (ProtocolVersion::TLSv1_3, ContentType::Handshake, b"\x18\0\0\x01\x02", unexpected),
        (ProtocolVersion::TLSv1_3, ContentType::Handshake, b"\x18\0\0\x01\0\x18\0\0\x01\0", unexpected),
        (ProtocolVersion::TLSv1_3, ContentType::Handshake, b"", unexpected),
        (ProtocolVersion::TLSv1_3, ContentType::ChangeCipherSpec, b"\x01", unexpected),
        (ProtocolVersion::TLSv1_2, ContentType::ChangeCipherSpec, b"\x01", unexpected),
        (ProtocolVersion::TLSv1_2, ContentType::Handshake, b"\x0b\0\0\0", unexpected),
        (ProtocolVersion::TLSv1_3, ContentType::Heartbeat, b"\x01", unexpected),
        (ProtocolVersion::TLSv1_3, ContentType::Alert, b"\x01", Failure::Ours(AlertDescription::DecodeError)),
        (
            ProtocolVersion::TLSv1_3,
            ContentType::Alert,
            b"\x01\x50",
            Failure::Peers(AlertDescription::InternalError),
        ),
        (
            ProtocolVersion::TLSv1_2,
            ContentType::Alert,
            b"\x02\x50",
            Failure::Peers(AlertDescription::InternalError),
        ),
    ] {
        let (mut server, mut client) = rogue_pair(version);
        assert_eq!(
            open(&mut server, sealed(&mut client, kind, content)),
            Err(failure),
            "{kind:?} {content:?}"
        );
        let mut alert = Vec::new();
        server.seal_failure(failure, &mut alert).expect("it can be sealed");
        match failure {
            Failure::Ours(own) => assert_eq!(open(&mut client, alert), Err(Failure::Peers(own))),
            Failure::Peers(_) => assert!(alert.is_empty(), "an alert is not answered"),
        }
    }
}

#[test]
fn a_renegotiation_is_refused_once_and_then_ends_the_session() {
    let (mut server, mut client) = rogue_pair(ProtocolVersion::TLSv1_2);
    let hello = sealed(&mut client, ContentType::Handshake, b"\x01\0\0\0");
    let answers = open(&mut server, hello).expect("it is refused with a warning").answers;
    let mut answers = answers;
    let (kind, place) =
        client.decrypt(&client.opener().expect("the suite is known"), &mut answers).expect("a record");
    assert_eq!((kind, &answers[place]), (ContentType::Alert, &[WARNING, 100][..]));
    let hello = sealed(&mut client, ContentType::Handshake, b"\x01\0\0\0");
    assert_eq!(open(&mut server, hello), Err(Failure::Ours(AlertDescription::UnexpectedMessage)));
}

#[test]
fn keys_seal_only_so_many_records() {
    let (mut server, mut client) = rogue_pair(ProtocolVersion::TLSv1_3);
    (server.sealing.sequence, client.opening.sequence) = (GCM_RECORDS - 2, GCM_RECORDS - 2);
    let mut records = Vec::new();
    server.seal(b"last", &mut records).expect("the keys are good for it");
    assert_eq!(open(&mut client, records).expect("it is right").plain, b"last");
    let mut records = Vec::new();
    server.seal(b"first", &mut records).expect("there are new keys");
    assert_eq!(server.sealing.sequence, 1);
    let length = client.length(&records).expect("it is right").expect("it is whole");
    let opener = client.opener().expect("the suite is known");
    let (kind, place) = client.decrypt(&opener, &mut records[..length]).expect("it is right");
    assert_eq!((kind, &records[place]), (ContentType::Handshake, &KEY_UPDATE[..]));

    let (mut server, _) = rogue_pair(ProtocolVersion::TLSv1_2);
    server.sealing.sequence = GCM_RECORDS - 1;
    let mut records = Vec::new();
    assert!(server.seal(b"last", &mut records).is_ok());
    assert!(server.seal(b"too many", &mut records).is_err());
}

//! The records of a session after its handshake: sealing, opening, alerts and new keys (RFC 8446, section 5;
//! RFC 5246, section 6.2; RFC 5288; RFC 7905).
//!
//! rustls makes the handshake and hands over the secrets. The state of rustls for a session at rest takes
//! 3,200 bytes: a third are expanded keys, and most of the rest serves handshakes and QUIC. Here a session
//! keeps secrets of 32 bytes, and expands them for the records of a read or a write.
//!
//! A nonce is used once: a sequence number rises with each record, and no key seals more than
//! [`Suite::records`] of them.

use std::ops::Range;

use ring::aead::{self, Aad, LessSafeKey, UnboundKey};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, ProtocolVersion,
    crypto::cipher::{Iv, Nonce},
    kernel::KernelConnection,
    server::{ServerConnectionData, UnbufferedServerConnection},
};

/// The bytes of a record's header.
const HEADER: usize = 5;

/// The bytes of a record's tag.
const TAG: usize = 16;

/// The bytes of the nonce that each record of AES-GCM has in TLS 1.2.
const EXPLICIT_NONCE: usize = 8;

/// The most plain bytes of a record.
pub(super) const PLAIN_BYTES: usize = 16 << 10;

/// The most bytes of a record's payload in TLS 1.2 and in TLS 1.3.
const PAYLOAD_BYTES_12: usize = PLAIN_BYTES + 2048;
const PAYLOAD_BYTES_13: usize = PLAIN_BYTES + 256;

/// The records that AES-GCM may seal with one key (RFC 8446, section 5.5).
const GCM_RECORDS: u64 = 1 << 24;

/// The most records in a row that hold no application data. A session with more is ended.
const IDLE_RECORDS: u8 = 32;

/// The level of an alert that a session may survive (RFC 8446, section 6).
const WARNING: u8 = 1;

/// The level of an alert that ends the session.
const FATAL: u8 = 2;

/// A KeyUpdate message with `update_not_requested` (RFC 8446, section 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// A KeyUpdate message with `update_requested`: its receiver answers with a KeyUpdate of its own.
const KEY_UPDATE_REQUEST: [u8; 5] = [24, 0, 0, 1, 1];

/// The handshake type of a ClientHello message (RFC 8446, section 4).
const CLIENT_HELLO: u8 = 1;

/// The version of TLS that a session speaks.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Version {
    Tls12,
    Tls13,
}

/// The records of one session.
pub(super) struct Records {
    version: Version,
    /// The state of rustls that derives the next traffic secrets; `None` in TLS 1.2.
    kernel: Option<Box<KernelConnection<ServerConnectionData>>>,
    sealing: Direction,
    opening: Direction,
    /// The number of records in a row that held no application data.
    idle: u8,
    /// Whether a KeyUpdate with `update_requested` waits for its answer.
    owes_keys: bool,
    is_renegotiation_refused: bool,
}

/// What a peer's record means.
pub(super) enum Opened {
    /// Plain bytes at this place of the record.
    Plain(Range<usize>),
    /// Nothing for the application.
    Nothing,
    /// The peer sends no more.
    Done,
}

/// Why a session ends.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Failure {
    /// The alert for the peer.
    Ours(AlertDescription),
    /// The alert of the peer.
    Peers(AlertDescription),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ours(alert) => write!(f, "a record is wrong: {alert:?}"),
            Self::Peers(alert) => write!(f, "the peer ends the session: {alert:?}"),
        }
    }
}

impl std::error::Error for Failure {}

impl Records {
    /// Takes a session over from rustls. Its handshake is over, and all that rustls had to send is sent.
    pub(super) fn new(session: UnbufferedServerConnection) -> Result<Self, Error> {
        let (secrets, kernel) = session.dangerous_into_kernel_connection()?;
        Ok(match kernel.protocol_version() {
            ProtocolVersion::TLSv1_3 => Self::with(secrets, Version::Tls13, Some(Box::new(kernel))),
            _ => Self::with(secrets, Version::Tls12, None),
        })
    }

    fn with(
        secrets: ExtractedSecrets,
        version: Version,
        kernel: Option<Box<KernelConnection<ServerConnectionData>>>,
    ) -> Self {
        let direction = |(sequence, secrets)| Direction { secrets, sequence };
        Self {
            version,
            kernel,
            sealing: direction(secrets.tx),
            opening: direction(secrets.rx),
            idle: 0,
            owes_keys: false,
            is_renegotiation_refused: false,
        }
    }

    /// The length of the record at the beginning of `bytes`, or `None` if it is incomplete.
    ///
    /// # Errors
    /// The record is too long, or of another version.
    pub(super) fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let payload = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let most = if self.is_13() { PAYLOAD_BYTES_13 } else { PAYLOAD_BYTES_12 };
        if payload > most {
            return Err(Failure::Ours(AlertDescription::RecordOverflow));
        }
        // TLS 1.3 seals the whole header.
        if !self.is_13() && header[1..3] != [3, 3] {
            return Err(Failure::Ours(AlertDescription::ProtocolVersion));
        }
        Ok(Some(HEADER + payload).filter(|length| bytes.len() >= *length))
    }

    /// The keys to open records with, until a record changes them.
    pub(super) fn opener(&self) -> Result<LessSafeKey, Failure> {
        self.opening.key()
    }

    /// Opens a complete record in its place. Answers of TLS itself are appended to `answers`.
    pub(super) fn open(
        &mut self,
        opener: &mut LessSafeKey,
        record: &mut [u8],
        answers: &mut Vec<u8>,
    ) -> Result<Opened, Failure> {
        let (kind, place) = self.decrypt(opener, record)?;
        if kind == ContentType::ApplicationData && !place.is_empty() {
            self.idle = 0;
            return Ok(Opened::Plain(place));
        }
        self.idle += 1;
        if self.idle > IDLE_RECORDS {
            return Err(Failure::Ours(AlertDescription::UnexpectedMessage));
        }
        let message = &record[place];
        match kind {
            ContentType::ApplicationData => Ok(Opened::Nothing),
            ContentType::Alert => on_alert(message, self.is_13()),
            ContentType::Handshake => {
                self.on_handshake(message, answers)?;
                *opener = self.opening.key()?;
                Ok(Opened::Nothing)
            }
            _ => Err(Failure::Ours(AlertDescription::UnexpectedMessage)),
        }
    }

    /// Decrypts a record in its place. Returns the type of its content and the place of the content.
    fn decrypt(
        &mut self,
        opener: &LessSafeKey,
        record: &mut [u8],
    ) -> Result<(ContentType, Range<usize>), Failure> {
        let outer = ContentType::from(record[0]);
        if self.is_13() && outer != ContentType::ApplicationData {
            return Err(Failure::Ours(AlertDescription::UnexpectedMessage));
        }
        let sequence = self.opening.sequence;
        self.opening.sequence += 1;
        let Layout { nonce, aad, start } = self.opening.layout(sequence, record, self.is_13())?;
        let (_, sealed) = record.split_at_mut(start);
        let content = opener.open_in_place(nonce, Aad::from(aad.bytes()), sealed);
        let mut length = content.map_err(|_| Failure::Ours(AlertDescription::BadRecordMac))?.len();
        let mut kind = outer;
        if self.is_13() {
            // The type is the last byte that is not padding.
            let last = sealed[..length].iter().rposition(|byte| *byte != 0);
            length = last.ok_or(Failure::Ours(AlertDescription::UnexpectedMessage))?;
            kind = ContentType::from(sealed[length]);
        }
        match length > PLAIN_BYTES {
            true => Err(Failure::Ours(AlertDescription::RecordOverflow)),
            false => Ok((kind, start..start + length)),
        }
    }

    fn on_handshake(&mut self, message: &[u8], answers: &mut Vec<u8>) -> Result<(), Failure> {
        match self.version {
            Version::Tls12 => {
                let is_first = !std::mem::replace(&mut self.is_renegotiation_refused, true);
                if message.first() != Some(&CLIENT_HELLO) || !is_first {
                    return Err(Failure::Ours(AlertDescription::UnexpectedMessage));
                }
                self.seal_alert(WARNING, AlertDescription::NoRenegotiation, answers)
            }
            Version::Tls13 => {
                // A KeyUpdate message is the whole content of its record.
                self.owes_keys |= match message {
                    _ if message == KEY_UPDATE => false,
                    _ if message == KEY_UPDATE_REQUEST => true,
                    _ => return Err(Failure::Ours(AlertDescription::UnexpectedMessage)),
                };
                let (sequence, secrets) = self.kernel()?.update_rx_secret().map_err(broken)?;
                self.opening = Direction { secrets, sequence };
                if answers.is_empty() { self.answer_key_update(answers) } else { Ok(()) }
            }
        }
    }

    /// Appends a KeyUpdate if the peer has requested one, or if the key may seal only one record more.
    fn answer_key_update(&mut self, records: &mut Vec<u8>) -> Result<(), Failure> {
        // The KeyUpdate itself is sealed with the present key.
        let is_spent = self.sealing.sequence + 1 >= self.sealing.suite()?.records;
        if !self.is_13() || !(self.owes_keys || is_spent) {
            return Ok(());
        }
        self.owes_keys = false;
        self.seal_one(ContentType::Handshake, &KEY_UPDATE, records)?;
        let (sequence, secrets) = self.kernel()?.update_tx_secret().map_err(broken)?;
        self.sealing = Direction { secrets, sequence };
        Ok(())
    }

    /// Appends a record with up to [`PLAIN_BYTES`] plain bytes.
    pub(super) fn seal(&mut self, plain: &[u8], records: &mut Vec<u8>) -> Result<(), Failure> {
        self.answer_key_update(records)?;
        self.seal_one(ContentType::ApplicationData, plain, records)
    }

    /// Appends the alert of a session that failed.
    pub(super) fn seal_failure(&mut self, failure: Failure, records: &mut Vec<u8>) -> Result<(), Failure> {
        match failure {
            Failure::Ours(alert) => self.seal_alert(FATAL, alert, records),
            Failure::Peers(_) => Ok(()),
        }
    }

    /// Appends the alert that nothing more is sent.
    pub(super) fn seal_goodbye(&mut self, records: &mut Vec<u8>) -> Result<(), Failure> {
        self.seal_alert(WARNING, AlertDescription::CloseNotify, records)
    }

    fn seal_alert(
        &mut self,
        level: u8,
        alert: AlertDescription,
        records: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        self.seal_one(ContentType::Alert, &[level, alert.into()], records)
    }

    fn seal_one(&mut self, kind: ContentType, content: &[u8], records: &mut Vec<u8>) -> Result<(), Failure> {
        let is_13 = self.is_13();
        let has_nonce = !is_13 && self.sealing.suite()?.is_gcm;
        let payload = match (is_13, has_nonce) {
            (true, _) => content.len() + 1 + TAG,
            (false, true) => EXPLICIT_NONCE + content.len() + TAG,
            (false, false) => content.len() + TAG,
        };
        let outer = if is_13 { ContentType::ApplicationData } else { kind };
        let length = u16::try_from(payload).map_err(broken)?;
        let sequence = self.sealing.next_sequence()?;
        let nonce = Nonce::new(self.sealing.iv()?, sequence).0;
        let begin = records.len();
        records.extend_from_slice(&[outer.into(), 3, 3]);
        records.extend_from_slice(&length.to_be_bytes());
        let aad = match is_13 {
            true => AadBytes::tls13(&records[begin..]),
            false => AadBytes::tls12(sequence, kind, content.len()),
        };
        if has_nonce {
            records.extend_from_slice(&nonce[4..]);
        }
        let start = records.len();
        records.extend_from_slice(content);
        if is_13 {
            records.push(kind.into());
        }
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let key = self.sealing.key()?;
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad.bytes()), &mut records[start..]);
        let tag = tag.map_err(broken)?;
        records.extend_from_slice(tag.as_ref());
        Ok(())
    }

    fn kernel(&mut self) -> Result<&mut KernelConnection<ServerConnectionData>, Failure> {
        self.kernel.as_deref_mut().ok_or(Failure::Ours(AlertDescription::InternalError))
    }

    fn is_13(&self) -> bool {
        self.version == Version::Tls13
    }
}

/// A fault of the server's own.
fn broken<E>(_: E) -> Failure {
    Failure::Ours(AlertDescription::InternalError)
}

/// The meaning of an alert.
fn on_alert(message: &[u8], is_13: bool) -> Result<Opened, Failure> {
    let &[level, alert] = message else { return Err(Failure::Ours(AlertDescription::DecodeError)) };
    match AlertDescription::from(alert) {
        AlertDescription::CloseNotify => Ok(Opened::Done),
        // TLS 1.3 has no other warning that a session survives.
        AlertDescription::UserCanceled => Ok(Opened::Nothing),
        _ if level == WARNING && !is_13 => Ok(Opened::Nothing),
        alert => Err(Failure::Peers(alert)),
    }
}

/// The secrets of one direction.
struct Direction {
    secrets: ConnectionTrafficSecrets,
    /// The number of the next record.
    sequence: u64,
}

/// What a cipher suite says of records.
struct Suite {
    algorithm: &'static aead::Algorithm,
    is_gcm: bool,
    /// The records that one key may seal.
    records: u64,
}

/// What a record is opened with.
struct Layout {
    nonce: aead::Nonce,
    aad: AadBytes,
    /// Where the sealed content begins.
    start: usize,
}

impl Direction {
    fn suite(&self) -> Result<Suite, Failure> {
        let gcm = |algorithm| Suite { algorithm, is_gcm: true, records: GCM_RECORDS };
        Ok(match &self.secrets {
            ConnectionTrafficSecrets::Aes128Gcm { .. } => gcm(&aead::AES_128_GCM),
            ConnectionTrafficSecrets::Aes256Gcm { .. } => gcm(&aead::AES_256_GCM),
            ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => {
                Suite { algorithm: &aead::CHACHA20_POLY1305, is_gcm: false, records: u64::MAX }
            }
            _ => return Err(Failure::Ours(AlertDescription::InternalError)),
        })
    }

    fn iv(&self) -> Result<&Iv, Failure> {
        match &self.secrets {
            ConnectionTrafficSecrets::Aes128Gcm { iv, .. }
            | ConnectionTrafficSecrets::Aes256Gcm { iv, .. }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { iv, .. } => Ok(iv),
            _ => Err(Failure::Ours(AlertDescription::InternalError)),
        }
    }

    /// Expands the key.
    fn key(&self) -> Result<LessSafeKey, Failure> {
        let key = match &self.secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, .. }
            | ConnectionTrafficSecrets::Aes256Gcm { key, .. }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, .. } => key,
            _ => return Err(Failure::Ours(AlertDescription::InternalError)),
        };
        let key = UnboundKey::new(self.suite()?.algorithm, key.as_ref());
        key.map(LessSafeKey::new).map_err(broken)
    }

    /// The number for a record to seal.
    fn next_sequence(&mut self) -> Result<u64, Failure> {
        let sequence = self.sequence;
        if sequence >= self.suite()?.records {
            return Err(Failure::Ours(AlertDescription::InternalError));
        }
        self.sequence += 1;
        Ok(sequence)
    }

    fn layout(&self, sequence: u64, record: &[u8], is_13: bool) -> Result<Layout, Failure> {
        let mut nonce = Nonce::new(self.iv()?, sequence).0;
        if is_13 {
            let nonce = aead::Nonce::assume_unique_for_key(nonce);
            return Ok(Layout { nonce, aad: AadBytes::tls13(&record[..HEADER]), start: HEADER });
        }
        let mut start = HEADER;
        if self.suite()?.is_gcm {
            let explicit = record.get(HEADER..HEADER + EXPLICIT_NONCE);
            nonce[4..].copy_from_slice(explicit.ok_or(Failure::Ours(AlertDescription::BadRecordMac))?);
            start += EXPLICIT_NONCE;
        }
        let length = (record.len() - start).checked_sub(TAG);
        let length = length.ok_or(Failure::Ours(AlertDescription::BadRecordMac))?;
        let aad = AadBytes::tls12(sequence, ContentType::from(record[0]), length);
        Ok(Layout { nonce: aead::Nonce::assume_unique_for_key(nonce), aad, start })
    }
}

/// The bytes of a record that are sealed without being hidden.
struct AadBytes {
    bytes: [u8; 13],
    length: usize,
}

impl AadBytes {
    /// The header (RFC 8446, section 5.2).
    fn tls13(header: &[u8]) -> Self {
        let mut bytes = [0; 13];
        bytes[..HEADER].copy_from_slice(header);
        Self { bytes, length: HEADER }
    }

    /// The number, the type, the version and the length of the content (RFC 5246, section 6.2.3.3).
    fn tls12(sequence: u64, kind: ContentType, length: usize) -> Self {
        let mut bytes = [0; 13];
        bytes[..8].copy_from_slice(&sequence.to_be_bytes());
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        bytes[8..].copy_from_slice(&[kind.into(), 3, 3, length[0], length[1]]);
        Self { bytes, length: 13 }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests;

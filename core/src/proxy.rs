//! The PROXY protocol, versions 1 and 2: the header that a proxy writes before the first byte of a
//! connection, with the address of its client ("The PROXY protocol", HAProxy Technologies, 2020).
//!
//! ```text
//!   v1:  PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n          at most 107 bytes
//!   v2:  signature (12) │ 0x21 │ family │ length (2) │ addresses │ TLVs
//! ```
//!
//! The decoder keeps nothing: it is called again with more bytes of the same header. It refuses a header
//! after as few bytes as possible, and takes no byte after the header. Port numbers, the server's own
//! address and TLVs are checked for their lengths, and not used.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

/// The most bytes of a header: those of version 2 with 4 KiB of addresses and TLVs.
pub const HEADER_BYTES_MAX: usize = 16 + 4096;

/// The most bytes of a header of version 1, with the line's end (section 2.1).
const LINE_BYTES_MAX: usize = 107;

const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes of version 2 before the addresses.
const FIXED_BYTES: usize = 16;

/// A whole header.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct ProxyHeader {
    /// The connection's client.
    pub client: Client,
    /// The bytes of the header.
    pub bytes: usize,
}

/// What a header says of the connection's client.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Client {
    /// The client has this address.
    At(IpAddr),
    /// The proxy itself is the client, as in a health check; or it does not say who is.
    Proxy,
    /// The client has no address: it is a process on the proxy's machine.
    Local,
}

/// Why bytes are no header.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ProxyError {
    /// The bytes begin with neither version's signature.
    NotAHeader,
    /// The line of version 1 is longer than 107 bytes, or the header of version 2 than
    /// [`HEADER_BYTES_MAX`].
    TooLong,
    /// The header is not well formed.
    Malformed,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAHeader => "the connection does not begin with a PROXY header",
            Self::TooLong => "the PROXY header is too long",
            Self::Malformed => "the PROXY header is malformed",
        })
    }
}

/// Reads the header at the start of a connection; `None` if it needs more bytes.
///
/// # Errors
/// As soon as the bytes cannot become a header. The same bytes fail in the same way however they are split.
pub fn decode(input: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let begins = |start: &[u8]| input.iter().zip(start).all(|(byte, own)| byte == own);
    if begins(LINE_START) && !input.is_empty() {
        return decode_line(input);
    }
    match begins(SIGNATURE) {
        true => decode_binary(input),
        false => Err(ProxyError::NotAHeader),
    }
}

/// Version 1.
fn decode_line(input: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let window = &input[..input.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if input.len() >= LINE_BYTES_MAX { Err(ProxyError::TooLong) } else { Ok(None) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(ProxyError::Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let client = client_of_line(line).ok_or(ProxyError::Malformed)?;
    Ok(Some(ProxyHeader { client, bytes: end + 1 }))
}

fn client_of_line(line: &str) -> Option<Client> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        // A receiver ignores the rest of such a line.
        return Some(Client::Proxy);
    }
    let (source, destination) = (words.next()?, words.next()?);
    let addresses: [IpAddr; 2] = match family {
        "TCP4" => [source, destination].map(|text| text.parse::<Ipv4Addr>().map(IpAddr::from)),
        "TCP6" => [source, destination].map(|text| text.parse::<Ipv6Addr>().map(IpAddr::from)),
        _ => return None,
    }
    .into_iter()
    .collect::<Result<Vec<_>, _>>()
    .ok()?
    .try_into()
    .ok()?;
    let ports = [words.next()?, words.next()?];
    let is_port = |text: &str| {
        let is_plain =
            text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        is_plain && text.parse::<u16>().is_ok()
    };
    let is_whole = words.next().is_none() && ports.into_iter().all(is_port);
    is_whole.then_some(Client::At(addresses[0].to_canonical()))
}

/// Version 2.
fn decode_binary(input: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let Some(fixed) = input.first_chunk::<FIXED_BYTES>() else {
        return match input.get(SIGNATURE.len()) {
            Some(version) if version >> 4 != 2 => Err(ProxyError::Malformed),
            _ => Ok(None),
        };
    };
    let [.., command, family, high, low] = *fixed;
    let bytes = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 || command & 0xf > 1 {
        return Err(ProxyError::Malformed);
    }
    if bytes > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(rest) = input.get(FIXED_BYTES..bytes) else { return Ok(None) };
    // A receiver ignores the family and the addresses of its proxy's own connection (section 2.2).
    if command & 0xf == 0 {
        return Ok(Some(ProxyHeader { client: Client::Proxy, bytes }));
    }
    let (client, tlvs) = client_of_block(family, rest).ok_or(ProxyError::Malformed)?;
    match are_tlvs(tlvs) {
        true => Ok(Some(ProxyHeader { client, bytes })),
        false => Err(ProxyError::Malformed),
    }
}

/// The client by the family and the addresses, and the bytes after the addresses.
fn client_of_block(family: u8, block: &[u8]) -> Option<(Client, &[u8])> {
    /// The bytes of a socket's path (section 2.2).
    const PATH_BYTES: usize = 108;
    let at = |address: IpAddr, bytes: usize| {
        let tlvs = block.get(bytes..)?;
        Some((Client::At(address.to_canonical()), tlvs))
    };
    match family {
        // TCP over IPv4 and IPv6: two addresses and two ports.
        0x11 => at(IpAddr::from(*block.first_chunk::<4>()?), 2 * 4 + 2 * 2),
        0x21 => at(IpAddr::from(*block.first_chunk::<16>()?), 2 * 16 + 2 * 2),
        0x31 => Some((Client::Local, block.get(2 * PATH_BYTES..)?)),
        // Unspecified: the receiver uses the connection's own address, and ignores the rest.
        0x00 => Some((Client::Proxy, &[])),
        _ => None,
    }
}

/// Whether the bytes are whole TLVs: a byte of type, two of length, the value.
fn are_tlvs(mut bytes: &[u8]) -> bool {
    while let Some((&[_, high, low], rest)) = bytes.split_first_chunk::<3>() {
        match rest.get(usize::from(u16::from_be_bytes([high, low]))..) {
            Some(after) => bytes = after,
            None => return false,
        }
    }
    bytes.is_empty()
}

#[cfg(test)]
mod tests;

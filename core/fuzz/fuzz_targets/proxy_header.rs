//! Headers of the PROXY protocol and forwarding headers from arbitrary bytes: nothing panics, no byte after a
//! header is taken, and splitting the input anywhere changes nothing.

#![no_main]

use std::net::IpAddr;

use fanfare_core::{
    address::TrustedProxies,
    http::{ForwardingHeader, HttpLimits, client_address, parse_head},
    proxy::{self, HEADER_BYTES_MAX},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = proxy::decode(data);
    for end in 0..data.len().min(256) {
        let part = proxy::decode(&data[..end]);
        assert!(part == Ok(None) || part == whole, "{part:?} after {end} bytes, {whole:?}");
    }
    if let Ok(Some(header)) = whole {
        assert!((1..=data.len().min(HEADER_BYTES_MAX)).contains(&header.bytes));
        assert_eq!(proxy::decode(&data[..header.bytes]), whole);
    }
    forward(data);
});

/// Reads the bytes as the values of both headers.
fn forward(data: &[u8]) {
    let first = &b"GET / HTTP/1.1\r\nHost: a\r\nForwarded: "[..];
    let head = [first, data, b"\r\nX-Forwarded-For: ", data, b"\r\n\r\n"].concat();
    let Ok(Some((head, _))) = parse_head(&head, HttpLimits::default()) else { return };
    let (peer, stranger) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
    let trusted = TrustedProxies::parse(&["127.0.0.0/8", "::1"]).expect("they are networks");
    for header in [ForwardingHeader::XForwardedFor, ForwardingHeader::Forwarded] {
        assert!(client_address(&head, header, Some(peer), &trusted).is_some());
        assert_eq!(client_address(&head, header, Some(stranger), &trusted), Some(stranger));
    }
}

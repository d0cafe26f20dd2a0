use super::*;

/// A header of version 2.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("it is short").to_be_bytes();
    [SIGNATURE, &[command, family], &length, block].concat()
}

/// Addresses and ports of TCP over IPv4, and these TLVs.
fn block(tlvs: &[u8]) -> Vec<u8> {
    [&[192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb], tlvs].concat()
}

/// What all bytes give, which their first bytes must not contradict.
fn read(input: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let whole = decode(input);
    for end in 0..input.len() {
        let part = decode(&input[..end]);
        assert!(part == Ok(None) || part == whole, "{part:?} after {end} bytes, {whole:?}");
    }
    whole
}

fn client(input: &[u8]) -> Client {
    let header = read(input).expect("it is a header").expect("it is whole");
    assert_eq!(header.bytes, input.len());
    header.client
}

fn at(address: &str) -> Client {
    Client::At(address.parse().expect("it is an address"))
}

#[test]
fn lines_of_version_1_name_the_client() {
    assert_eq!(client(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"), at("192.0.2.1"));
    assert_eq!(client(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"), at("2001:db8::1"));
    assert_eq!(client(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 0\r\n"), at("192.0.2.1"));
    assert_eq!(client(b"PROXY UNKNOWN\r\n"), Client::Proxy);
    assert_eq!(client(b"PROXY UNKNOWN ffff::1 what ever\r\n"), Client::Proxy);
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(91));
    assert_eq!((longest.len(), client(longest.as_bytes())), (LINE_BYTES_MAX, Client::Proxy));
}

#[test]
fn other_lines_are_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 -1 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 01 443\r\n",
        "PROXY TCP4 192.0.2.1  198.51.100.1 1 443\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP6 192.0.2.1 ::1 1 1\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 1 1\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.1 1 1\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 443\n",
        "PROXY TCP4 192.0.2.\u{e4} 198.51.100.1 1 443\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(ProxyError::Malformed), "{line:?}");
    }
    let long = format!("PROXY UNKNOWN {}", "f".repeat(1_000));
    assert_eq!(read(long.as_bytes()), Err(ProxyError::TooLong));
    assert_eq!(decode(&long.as_bytes()[..LINE_BYTES_MAX - 1]), Ok(None));
    assert_eq!(decode(&long.as_bytes()[..LINE_BYTES_MAX]), Err(ProxyError::TooLong));
}

#[test]
fn a_first_byte_of_another_protocol_is_no_header() {
    for input in
        [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0", b"\x16\x03\x01", b"\r\n\r\n\r\n", b"\0", b"P "]
    {
        assert_eq!(read(input), Err(ProxyError::NotAHeader), "{input:?}");
    }
    assert_eq!(decode(b""), Ok(None));
    assert_eq!(decode(b"PROX"), Ok(None));
    assert_eq!(decode(&SIGNATURE[..7]), Ok(None));
}

#[test]
fn headers_of_version_2_name_the_client() {
    assert_eq!(client(&binary(0x21, 0x11, &block(b""))), at("192.0.2.1"));
    let mut v6 = [0; 36];
    v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().expect("it is an address").octets());
    assert_eq!(client(&binary(0x21, 0x21, &v6)), at("2001:db8::7"));
    assert_eq!(client(&binary(0x21, 0x31, &[b'a'; 216])), Client::Local);
    assert_eq!(client(&binary(0x21, 0x00, b"anything")), Client::Proxy);
}

#[test]
fn a_proxys_own_connection_has_the_address_of_the_proxy() {
    assert_eq!(client(&binary(0x20, 0x00, b"")), Client::Proxy);
    assert_eq!(client(&binary(0x20, 0x11, &block(b""))), Client::Proxy);
    assert_eq!(client(&binary(0x20, 0xff, b"anything")), Client::Proxy);
}

#[test]
fn tlvs_are_skipped_and_must_be_whole() {
    assert_eq!(client(&binary(0x21, 0x11, &block(b"\x03\0\x04crc!\x04\0\0"))), at("192.0.2.1"));
    for tlvs in [&b"\x03"[..], b"\x03\0", b"\x03\0\x05crc!", b"\x04\0\0\x04"] {
        assert_eq!(read(&binary(0x21, 0x11, &block(tlvs))), Err(ProxyError::Malformed), "{tlvs:?}");
    }
    let largest = [&[0x04, 0x0f, 0xf1][..], &[0; 0x0ff1]].concat();
    let header = binary(0x21, 0x11, &block(&largest));
    assert_eq!((header.len(), client(&header)), (HEADER_BYTES_MAX, at("192.0.2.1")));
}

#[test]
fn wrong_lengths_versions_and_families_are_refused() {
    assert_eq!(read(&binary(0x21, 0x11, &block(b"")[..11])), Err(ProxyError::Malformed));
    assert_eq!(read(&binary(0x21, 0x21, &[0; 35])), Err(ProxyError::Malformed));
    assert_eq!(read(&binary(0x21, 0x31, &[0; 215])), Err(ProxyError::Malformed));
    for family in [0x01, 0x12, 0x22, 0x32, 0x41, 0xff] {
        assert_eq!(read(&binary(0x21, family, &[0; 300])), Err(ProxyError::Malformed), "{family}");
    }
    for command in [0x11, 0x22, 0x2f, 0x31, 0x00] {
        assert_eq!(read(&binary(command, 0x11, &block(b""))), Err(ProxyError::Malformed), "{command}");
    }
    let long = binary(0x21, 0x00, &vec![0; HEADER_BYTES_MAX - FIXED_BYTES + 1]);
    assert_eq!(decode(&long), Err(ProxyError::TooLong));
    assert_eq!(decode(&long[..FIXED_BYTES]), Err(ProxyError::TooLong), "the length alone tells");
}

#[test]
fn no_byte_after_the_header_is_taken() {
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), binary(0x21, 0x11, &block(b""))] {
        let input = [&header[..], b"\n\x01\x00GET / HTTP/1.1\r\n"].concat();
        assert_eq!(read(&input).expect("it is a header").expect("it is whole").bytes, header.len());
    }
}

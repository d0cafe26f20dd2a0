//! The address of a client behind proxies, by the header that the proxies write.
//!
//! Each proxy appends the address that it was called from. So the list is read from its end, and an entry
//! counts only if the proxy that wrote it is trusted:
//!
//! ```text
//!   X-Forwarded-For: forged, client, proxy 1     ◀── read ── proxy 2, the peer of the socket
//!                            └ the first that is not trusted
//! ```
//!
//! The search allocates nothing, and ends at the first address that is not trusted.

use core::net::{IpAddr, SocketAddr};

use super::Head;
use crate::address::TrustedProxies;

/// The header in which trusted proxies name the client.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`: addresses with commas between.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): its `for` parameters.
    Forwarded,
}

impl ForwardingHeader {
    /// The header's name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }

    /// The header of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::XForwardedFor, Self::Forwarded]
            .into_iter()
            .find(|header| name.eq_ignore_ascii_case(header.name()))
    }

    /// The address that an entry names.
    fn address(self, entry: &str) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => node(entry),
            Self::Forwarded => forwarded_for(entry),
        }
    }
}

/// The address of the client of a request that came from `peer`: the last address in the header that is not
/// of a trusted proxy. If an entry names no address, the client is the proxy that wrote it. The peer of a
/// Unix socket has no address.
pub fn client_address(
    head: &Head<'_>,
    header: ForwardingHeader,
    peer: Option<IpAddr>,
    trusted: &TrustedProxies,
) -> Option<IpAddr> {
    let mut client = peer;
    if !trusted.trust(client) {
        return client;
    }
    // The fields of one name are one list (RFC 9110, section 5.3).
    for value in head.headers.all(header.name()).rev() {
        for entry in value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if entry.is_empty() {
                continue;
            }
            let text = std::str::from_utf8(entry).ok();
            let Some(address) = text.and_then(|text| header.address(text)) else { return client };
            client = Some(address.to_canonical());
            if !trusted.trust(client) {
                return client;
            }
        }
    }
    client
}

/// The address of the `for` parameter of a `Forwarded` element. A comma in a quoted string cuts the element,
/// which then names no address: no address has a comma.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    node(quoted.unwrap_or(value))
}

/// An address, with or without a port, and with or without brackets if it is of IPv6.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().filter(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HttpLimits, parse_head};

    const LIMITS: HttpLimits = HttpLimits { head_bytes: 65_536, headers: 256, body_bytes: 0 };

    /// The client's address by a request with these header lines from 10.0.0.1, where 10.0.0.0/8 and ::1 are
    /// trusted.
    fn client(header: ForwardingHeader, lines: &str) -> String {
        client_of(Some("10.0.0.1"), header, lines)
    }

    fn client_of(peer: Option<&str>, header: ForwardingHeader, lines: &str) -> String {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let (head, _) = parse_head(request.as_bytes(), LIMITS).expect("it is a head").expect("it is whole");
        let trusted = TrustedProxies::parse(&["10.0.0.0/8", "::1", "unix"]).expect("they are networks");
        let peer = peer.map(|peer| peer.parse::<IpAddr>().expect("it is an address").to_canonical());
        client_address(&head, header, peer, &trusted)
            .map_or(String::from("none"), |client| client.to_string())
    }

    fn by_list(list: &str) -> String {
        client(ForwardingHeader::XForwardedFor, &format!("X-Forwarded-For: {list}\r\n"))
    }

    fn by_elements(list: &str) -> String {
        client(ForwardingHeader::Forwarded, &format!("Forwarded: {list}\r\n"))
    }

    #[test]
    fn the_last_untrusted_address_is_the_client() {
        assert_eq!(by_list("192.0.2.1"), "192.0.2.1");
        assert_eq!(by_list("1.1.1.1, 192.0.2.1"), "192.0.2.1", "the first is what the client claims");
        assert_eq!(by_list("1.1.1.1, 192.0.2.1 ,10.0.0.7,\t::1"), "192.0.2.1");
        assert_eq!(by_list("10.0.0.9, 10.0.0.7"), "10.0.0.9", "all are trusted: the first");
        assert_eq!(client(ForwardingHeader::XForwardedFor, ""), "10.0.0.1");
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let line = "X-Forwarded-For: 192.0.2.1\r\n";
        assert_eq!(client_of(Some("198.51.100.9"), ForwardingHeader::XForwardedFor, line), "198.51.100.9");
        assert_eq!(client_of(Some("::ffff:10.0.0.1"), ForwardingHeader::XForwardedFor, line), "192.0.2.1");
        assert_eq!(client_of(Some("::ffff:10.0.0.1"), ForwardingHeader::XForwardedFor, ""), "10.0.0.1");
        assert_eq!(client_of(None, ForwardingHeader::XForwardedFor, line), "192.0.2.1");
        assert_eq!(client_of(None, ForwardingHeader::XForwardedFor, ""), "none");
    }

    #[test]
    fn headers_of_one_name_are_one_list_and_the_other_header_is_not_read() {
        let lines = "X-Forwarded-For: 1.1.1.1\r\nForwarded: for=2.2.2.2\r\nx-forwarded-for: 10.0.0.3\r\n";
        assert_eq!(client(ForwardingHeader::XForwardedFor, lines), "1.1.1.1");
        assert_eq!(client(ForwardingHeader::Forwarded, lines), "2.2.2.2");
    }

    #[test]
    fn ports_and_brackets_do_not_matter() {
        assert_eq!(by_list("192.0.2.1:4711"), "192.0.2.1");
        assert_eq!(by_list("[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(by_list("[2001:db8::1]"), "2001:db8::1");
        assert_eq!(by_list("2001:db8::1"), "2001:db8::1");
        assert_eq!(by_list("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn garbage_ends_the_list_at_the_proxy_that_wrote_it() {
        for garbage in
            ["unknown", "192.0.2", "192.0.2.1 192.0.2.2", "[192.0.2.1]", "192.0.2.1:99999", "-", "\"\""]
        {
            assert_eq!(by_list(&format!("192.0.2.1, {garbage}, 10.0.0.5")), "10.0.0.5", "{garbage}");
        }
        assert_eq!(by_list(",, ,"), "10.0.0.1");
        assert_eq!(by_list("192.0.2.1,,"), "192.0.2.1", "an empty entry is none (RFC 9110, section 5.6.1)");
        assert_eq!(by_list("\u{e4}"), "10.0.0.1");
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1, \xff\r\n\r\n";
        let (head, _) = parse_head(bytes, LIMITS).expect("it is a head").expect("it is whole");
        let trusted = TrustedProxies::parse(&["10.0.0.1"]).expect("it is a network");
        let peer = Some(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(client_address(&head, ForwardingHeader::XForwardedFor, peer, &trusted), peer);
    }

    #[test]
    fn a_thousand_entries_are_read_from_their_end() {
        let forged = "192.0.2.1, ".repeat(1_000);
        assert_eq!(by_list(&format!("{forged}198.51.100.7")), "198.51.100.7");
        let trusted = "10.0.0.2, ".repeat(1_000);
        assert_eq!(by_list(&format!("192.0.2.1, {trusted}10.0.0.3")), "192.0.2.1");
        let lines = "X-Forwarded-For: 10.0.0.2\r\n".repeat(60);
        let lines = format!("X-Forwarded-For: 192.0.2.1\r\n{lines}");
        assert_eq!(client(ForwardingHeader::XForwardedFor, &lines), "192.0.2.1");
    }

    #[test]
    fn elements_of_forwarded_have_a_for_parameter() {
        assert_eq!(by_elements("for=192.0.2.43"), "192.0.2.43");
        assert_eq!(by_elements("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(by_elements("proto=https;by=10.0.0.1 ; for=192.0.2.60;host=a"), "192.0.2.60");
        assert_eq!(by_elements("for=1.1.1.1, for=192.0.2.43, for=\"10.0.0.2:80\""), "192.0.2.43");
        for garbage in
            ["for=unknown", "for=_hidden", "for=", "for=\"", "by=192.0.2.1", "for=\"1.1.1.1, 2.2.2.2\""]
        {
            assert_eq!(by_elements(&format!("for=192.0.2.1, {garbage}")), "10.0.0.1", "{garbage}");
        }
    }

    #[test]
    fn headers_have_names() {
        assert_eq!(ForwardingHeader::from_name("Forwarded"), Some(ForwardingHeader::Forwarded));
        assert_eq!(ForwardingHeader::from_name("X-Forwarded-For"), Some(ForwardingHeader::XForwardedFor));
        assert_eq!(ForwardingHeader::from_name("X-Real-IP"), None);
    }
}

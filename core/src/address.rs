//! Addresses of peers, and sets of them as networks.
//!
//! An IPv4 address that is mapped into IPv6 counts as the IPv4 address everywhere.

use core::net::IpAddr;
use std::fmt;

/// The addresses that begin with the same bits (CIDR, RFC 4632).
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Network {
    /// The bits after `prefix` are 0.
    base: IpAddr,
    /// `prefix` <= 32 for IPv4, and <= 128 for IPv6.
    prefix: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `fd00::/8`, or one address.
    ///
    /// # Errors
    /// The text is not a network, or has bits after its prefix, which is a mistake more often than not.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| NetworkError::NotANetwork)?;
        let bits = width(base);
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= bits).ok_or(NetworkError::NotANetwork)?
            }
            Some(_) => return Err(NetworkError::NotANetwork),
        };
        if masked(base, prefix) != base {
            return Err(NetworkError::HostBits);
        }
        Ok(Self { base, prefix })
    }

    /// Whether the address belongs to the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.base) && masked(address, self.prefix) == self.base
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix == width(self.base) {
            true => write!(f, "{}", self.base),
            false => write!(f, "{}/{}", self.base, self.prefix),
        }
    }
}

/// Why a text is no network. Every sentence completes "each network …".
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum NetworkError {
    /// The text is neither an address nor an address with a prefix.
    NotANetwork,
    /// A bit after the prefix is set.
    HostBits,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANetwork => {
                "must be an IP address, or one with a prefix, such as 10.0.0.0/8 or fd00::/8"
            }
            Self::HostBits => "must not have a bit set after its prefix",
        })
    }
}

/// A set of addresses.
#[derive(Clone, Default, Eq, PartialEq, Debug)]
pub struct Networks(Box<[Network]>);

impl Networks {
    /// Reads networks, and returns the first text that is none with the reason.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, (String, NetworkError)> {
        let parse = |text: &T| {
            let text = text.as_ref();
            Network::parse(text).map_err(|error| (String::from(text), error))
        };
        texts.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address belongs to one of the networks.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Whether the set has no network.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks as [`Networks::parse`] reads them.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(Network::to_string).collect()
    }
}

/// The proxies whose word about their clients is believed.
#[derive(Clone, Default, Eq, PartialEq, Debug)]
pub struct TrustedProxies {
    networks: Networks,
    /// Whether the peers of Unix sockets are among them.
    local: bool,
}

impl TrustedProxies {
    /// The entry that stands for the peers of Unix sockets.
    const LOCAL: &str = "unix";

    /// Reads networks, and the word `unix` for the peers of Unix sockets. Returns the first text that is
    /// neither with the reason.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, (String, NetworkError)> {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let local = texts.contains(&Self::LOCAL);
        let networks: Vec<&str> = texts.into_iter().filter(|text| *text != Self::LOCAL).collect();
        Ok(Self { networks: Networks::parse(&networks)?, local })
    }

    /// Whether a peer is one of the proxies. The peer of a Unix socket has no address.
    pub fn trust(&self, peer: Option<IpAddr>) -> bool {
        peer.map_or(self.local, |address| self.networks.contain(address))
    }

    /// Whether no proxy is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.local
    }

    /// The proxies as [`TrustedProxies::parse`] reads them.
    pub fn texts(&self) -> Vec<String> {
        let mut texts = self.networks.texts();
        texts.extend(self.local.then(|| String::from(Self::LOCAL)));
        texts
    }
}

/// The bits of an address.
fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first `prefix` bits of an address, and zeros.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        let network = Network::parse(network).expect("it is a network");
        network.contains(address.parse().expect("it is an address"))
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_first_bits() {
        assert!(contains("10.0.0.0/8", "10.255.255.255") && !contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("192.0.2.128/25", "192.0.2.128") && !contains("192.0.2.128/25", "192.0.2.127"));
        assert!(contains("192.0.2.1", "192.0.2.1") && !contains("192.0.2.1", "192.0.2.0"));
        assert!(contains("fd00::/8", "fdff::1") && !contains("fd00::/8", "fe00::1"));
        assert!(contains("::1", "::1") && !contains("::1", "::2"));
        assert!(contains("0.0.0.0/0", "255.1.2.3") && contains("::/0", "ffff::"));
    }

    #[test]
    fn families_are_apart_and_a_mapped_address_is_of_ipv4() {
        assert!(!contains("0.0.0.0/0", "::1") && !contains("::/0", "127.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3") && !contains("::/0", "::ffff:10.1.2.3"));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "/", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "10.0.0/8", "a", "10.0.0.0/8/8"]
        {
            assert_eq!(Network::parse(text), Err(NetworkError::NotANetwork), "{text}");
        }
        for text in ["10.0.0.1/8", "fd00::1/8", "1.2.3.4/0"] {
            assert_eq!(Network::parse(text), Err(NetworkError::HostBits), "{text}");
        }
    }

    #[test]
    fn a_set_prints_what_it_reads() {
        let texts = ["10.0.0.0/8", "127.0.0.1", "fd00::/8", "::1"];
        assert_eq!(Networks::parse(&texts).expect("they are networks").texts(), texts);
        let refused = Networks::parse(&["::1", "x"]).expect_err("one is none");
        assert_eq!(refused, (String::from("x"), NetworkError::NotANetwork));
        assert!(!Networks::default().contain("::1".parse().expect("it is an address")));
    }

    #[test]
    fn a_peer_without_an_address_is_trusted_by_a_word() {
        let loopback = Some(IpAddr::from([127, 0, 0, 1]));
        let proxies = TrustedProxies::parse(&["unix", "127.0.0.0/8"]).expect("they are proxies");
        assert!(proxies.trust(None) && proxies.trust(loopback));
        assert_eq!(proxies.texts(), ["127.0.0.0/8", "unix"]);
        let proxies = TrustedProxies::parse(&["127.0.0.0/8"]).expect("it is a network");
        assert!(!proxies.trust(None) && !proxies.is_empty());
        assert!(TrustedProxies::default().is_empty() && !TrustedProxies::default().trust(loopback));
    }
}

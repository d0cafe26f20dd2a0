//! Places to listen: IP addresses, host names, Unix sockets.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The beginning of a Unix socket's name in the configuration.
const UNIX: &str = "unix:";

/// The most bytes of a Unix socket's path (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// The most bytes of a host name (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// A place to listen.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Endpoint {
    /// An IP address and a port.
    Address(SocketAddr),
    /// A host name and a port. The server listens on every address that the name has when it starts.
    Host {
        /// The name.
        name: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// The text names no place to listen.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct NotAnEndpoint;

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        if let Some(path) = text.strip_prefix(UNIX) {
            let is_path = path.starts_with('/') && path.len() <= PATH_BYTES_MAX && !path.contains('\0');
            return if is_path { Ok(Self::Unix(path.into())) } else { Err(NotAnEndpoint) };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let (name, port) = text.rsplit_once(':').ok_or(NotAnEndpoint)?;
        let port = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = port.ok_or(NotAnEndpoint)?;
        if is_host(name) { Ok(Self::Host { name: name.into(), port }) } else { Err(NotAnEndpoint) }
    }
}

/// Whether a text is a host name: labels of letters, digits and hyphens, the last of which is no number, so
/// that a mistyped address is none.
fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        is_plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= HOST_BYTES_MAX
        && name.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl Endpoint {
    /// The port; `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Address(address) => Some(address.port()),
            Self::Host { port, .. } => Some(*port),
            Self::Unix(_) => None,
        }
    }

    /// About how many sockets listen at the place: a name may have an address of each family.
    pub(crate) fn sockets(&self) -> usize {
        if matches!(self, Self::Host { .. }) { 2 } else { 1 }
    }

    /// Whether only this machine reaches the place. Of host names, `localhost` alone is known to be such
    /// (RFC 6761, section 6.3).
    pub fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => address.ip().to_canonical().is_loopback(),
            Self::Host { name, .. } => name.eq_ignore_ascii_case("localhost"),
            Self::Unix(_) => true,
        }
    }

    /// Whether two entries are the same place, as far as the configuration shows. Port 0 is a different free
    /// port each time.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self == other && self.port() != Some(0)
    }

    /// The addresses of a place. Waits for the resolver if the place is a host name.
    ///
    /// # Errors
    /// The name has no address, or the resolver fails.
    pub(crate) fn resolve(&self) -> io::Result<Vec<Bindable<'_>>> {
        match self {
            Self::Address(address) => Ok(vec![Bindable::Address(*address)]),
            Self::Unix(path) => Ok(vec![Bindable::Unix(path)]),
            Self::Host { name, port } => {
                let mut addresses: Vec<SocketAddr> = Vec::new();
                for address in (name.as_str(), *port).to_socket_addrs()? {
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                match addresses.is_empty() {
                    true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
                    false => Ok(addresses.into_iter().map(Bindable::Address).collect()),
                }
            }
        }
    }
}

/// What a socket can be bound to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Bindable<'a> {
    Address(SocketAddr),
    Unix(&'a Path),
}

impl fmt::Display for Bindable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_printed() {
        for text in ["127.0.0.1:80", "[::]:8080", "localhost:0", "a-b.example.com:443", "unix:/run/a.sock"] {
            assert_eq!(text.parse::<Endpoint>().map(|endpoint| endpoint.to_string()).as_deref(), Ok(text));
        }
        let long = format!("unix:/{}", "a".repeat(107));
        for text in [
            "",
            "localhost",
            ":80",
            "a:+80",
            "a:65536",
            "127.0.0.1",
            "127.0.0.256:80",
            "a..b:80",
            "-a:80",
            "::1:80",
            "unix:",
            "unix:relative",
            &long,
            "http://a:80",
            "a b:80",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(NotAnEndpoint), "{text}");
        }
    }

    #[test]
    fn places_of_this_machine_are_local() {
        let is_local = |text: &str| text.parse::<Endpoint>().expect("it is a place").is_local();
        assert!(is_local("127.0.0.2:80") && is_local("[::1]:80") && is_local("[::ffff:127.0.0.1]:80"));
        assert!(is_local("LocalHost:80") && is_local("unix:/a"));
        assert!(!is_local("0.0.0.0:80") && !is_local("localhost.example.com:80"));
    }

    #[test]
    fn a_name_has_all_its_addresses() {
        let name: Endpoint = "localhost:80".parse().expect("it is a place");
        let found = name.resolve().expect("every machine has this name");
        let is_loopback =
            |place: &Bindable<'_>| matches!(place, Bindable::Address(a) if a.ip().is_loopback());
        assert!(!found.is_empty() && found.iter().all(is_loopback));
    }
}

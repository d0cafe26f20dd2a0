//! Listening sockets: one per worker and address with SO_REUSEPORT, so the kernel spreads connections over
//! workers.
//!
//! SO_REUSEPORT would also let a second server of the same user share the port, and each would get a part of
//! the connections. So the first socket is bound and listens without it, which fails where anybody listens,
//! and only then opens the port to the sockets of the other workers. A second server's first socket is
//! refused in turn.
//!
//! Accept errors have a policy. A connection that died in the queue is skipped. When descriptors or memory
//! run out (EMFILE, ENFILE, ENOBUFS, ENOMEM), accepting pauses and is tried again; connections that are open
//! notice nothing.

use std::{
    fs::{self, Permissions},
    io,
    net::{IpAddr, SocketAddr},
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, PermissionsExt},
    },
    path::Path,
};

use mio::{
    event::Source,
    net::{TcpListener, TcpStream, UnixListener},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{config::Preamble, tls::TlsSettings};

/// How long accepting rests when descriptors have run out.
pub(crate) const PAUSE_MS: u64 = 100;

/// A listening socket of a worker, with the options of its connections.
pub(crate) struct Listener {
    pub(crate) socket: ListeningSocket,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) preamble: Preamble,
    /// The place of its entry in `[[server.listeners]]`, if it has one.
    pub(crate) group: Option<usize>,
}

impl Listener {
    /// Accepts one connection.
    pub(crate) fn accept(&self) -> Accepted {
        self.socket.accept()
    }
}

/// A listening socket of either family.
pub(crate) enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl ListeningSocket {
    /// The socket, for a poll.
    pub(crate) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener) => listener,
        }
    }

    fn accept(&self) -> Accepted {
        let accepted = match self {
            Self::Tcp(listener) => {
                listener.accept().map(|(stream, peer)| (stream, Some(peer.ip().to_canonical())))
            }
            Self::Unix(listener) => listener.accept().map(|(stream, _)| (stream_of(stream.into()), None)),
        };
        match accepted {
            Ok((stream, peer)) => Accepted::Stream(stream, peer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::Nobody,
            Err(error) if is_exhaustion(&error) => Accepted::Exhausted(error),
            Err(_) => Accepted::Skip,
        }
    }
}

/// A connected socket of any family as the type of all connections. That type reads, writes and shuts down by
/// calls that are the same for every family; the peer of a Unix socket just has no IP address.
fn stream_of(socket: OwnedFd) -> TcpStream {
    TcpStream::from_std(std::net::TcpStream::from(socket))
}

/// Whether other sockets listen at the address already.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Claim {
    /// None may.
    First,
    /// Those of the other workers do.
    Shared,
}

/// Binds `address` once for each of `workers`. Port 0 becomes one free port for all.
///
/// # Errors
/// The address cannot be bound, or another server listens there.
pub(crate) fn bind(mut address: SocketAddr, workers: usize, backlog: u32) -> io::Result<Vec<TcpListener>> {
    (0..workers)
        .map(|worker| {
            let claim = if worker == 0 { Claim::First } else { Claim::Shared };
            let listener = std::net::TcpListener::from(bind_one(address, backlog, claim)?);
            address = listener.local_addr()?;
            Ok(TcpListener::from_std(listener))
        })
        .collect()
}

fn bind_one(address: SocketAddr, backlog: u32, claim: Claim) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(claim == Claim::Shared)?;
    // Linux hands this down to the accepted sockets, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    // Two sockets share a port if both have the option, whenever they got it.
    socket.set_reuse_port(true)?;
    Ok(socket)
}

/// Binds a Unix socket with these permissions, once for all of `workers`: they share its queue, because the
/// kernel does not spread connections over Unix sockets. A socket file that no process listens on is
/// replaced.
///
/// # Errors
/// The socket cannot be bound, another process listens there, or the path names another file.
pub(crate) fn bind_unix(
    path: &Path,
    mode: u32,
    workers: usize,
    backlog: u32,
) -> io::Result<Vec<UnixListener>> {
    let listener = std::os::unix::net::UnixListener::from(OwnedFd::from(listen_unix(path, mode, backlog)?));
    (0..workers).map(|_| listener.try_clone().map(UnixListener::from_std)).collect()
}

/// As [`bind_unix`], for one thread.
pub(crate) fn listen_unix(path: &Path, mode: u32, backlog: u32) -> io::Result<Socket> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before the socket listens, so the permissions hold for everybody.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// Removes the file of a socket on which no process listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file there is no socket"));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// What one attempt to accept gave.
pub(crate) enum Accepted {
    /// A connection, with the address of its peer; `None` for that of a Unix socket.
    Stream(TcpStream, Option<IpAddr>),
    /// Nobody is waiting.
    Nobody,
    /// One that is not worth a word; try the next.
    Skip,
    /// No descriptors or memory: rest for [`PAUSE_MS`].
    Exhausted(io::Error),
}

/// EMFILE, ENFILE, ENOBUFS and ENOMEM, by their Linux numbers.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts from any of them until `wanted` connections have come.
    fn accept_all(listeners: &[ListeningSocket], wanted: usize) -> Vec<(usize, TcpStream)> {
        let mut accepted = Vec::new();
        while accepted.len() < wanted {
            for (at, listener) in listeners.iter().enumerate() {
                if let Accepted::Stream(stream, _) = listener.accept() {
                    accepted.push((at, stream));
                }
            }
        }
        accepted
    }

    fn tcp(listeners: Vec<TcpListener>) -> Vec<ListeningSocket> {
        listeners.into_iter().map(ListeningSocket::Tcp).collect()
    }

    #[test]
    fn a_unix_socket_replaces_a_stale_one_and_no_other_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.sock");
        let listeners = bind_unix(&path, 0o600, 2, 16).expect("the path is free");
        let mode = fs::metadata(&path).expect("the file is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refusal = bind_unix(&path, 0o600, 1, 16).expect_err("it is listened on");
        assert_eq!(refusal.kind(), io::ErrorKind::AddrInUse);
        let client = std::os::unix::net::UnixStream::connect(&path).expect("somebody listens");
        let listeners: Vec<_> = listeners.into_iter().map(ListeningSocket::Unix).collect();
        // The connection by which the refused `bind_unix` found a listener is the first in the queue.
        let (_, mut stream) = accept_all(&listeners, 2).remove(1);
        io::Write::write_all(&mut stream, b"hi").expect("the socket has room");
        assert!(stream.peer_addr().is_err(), "the peer has no IP address");
        let mut read = [0; 2];
        io::Read::read_exact(&mut { client }, &mut read).expect("it was written");
        assert_eq!(&read, b"hi");
        drop(listeners);
        bind_unix(&path, 0o666, 1, 16).expect("nobody listens any more");
        let file = folder.path().join("file");
        fs::write(&file, "text").expect("the folder can be written");
        assert!(bind_unix(&file, 0o600, 1, 16).is_err());
        assert_eq!(fs::read_to_string(&file).expect("it is still there"), "text");
    }

    #[test]
    fn connections_are_spread_over_all_workers_and_a_second_server_is_refused() {
        let listeners = bind("127.0.0.1:0".parse().expect("it is an address"), 3, 128).expect("a free port");
        let address = listeners[0].local_addr().expect("it is bound");
        let refusal = bind(address, 2, 128).expect_err("the port is taken");
        assert_eq!(refusal.kind(), io::ErrorKind::AddrInUse);
        let connect = |_| std::net::TcpStream::connect(address).expect("somebody listens");
        let clients: Vec<_> = (0..100).map(connect).collect();
        let accepted = accept_all(&tcp(listeners), clients.len());
        for worker in 0..3 {
            let of_worker = accepted.iter().filter(|(at, _)| *at == worker).count();
            assert!(of_worker > 10, "worker {worker} got {of_worker} of 100");
        }
    }

    #[test]
    fn listeners_of_several_workers_share_a_port_and_accepted_sockets_do_not_delay() {
        let address = "127.0.0.1:0".parse().expect("it is an address");
        let listeners = bind(address, 3, 16).expect("a free port can be bound");
        let port = listeners[0].local_addr().expect("it is bound").port();
        assert!(listeners.iter().all(|l| l.local_addr().expect("it is bound").port() == port));
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
        let (_, stream) = accept_all(&tcp(listeners), 1).remove(0);
        assert!(stream.nodelay().expect("it is a socket"));
    }
}

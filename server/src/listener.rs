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
    io,
    net::{IpAddr, SocketAddr},
};

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{config::Preamble, tls::TlsSettings};

/// How long accepting rests when descriptors have run out.
pub(crate) const PAUSE_MS: u64 = 100;

/// A listening socket of a worker, with the options of its connections.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) preamble: Preamble,
}

impl Listener {
    /// Accepts one connection.
    pub(crate) fn accept(&self) -> Accepted {
        accept(&self.socket)
    }
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

/// What one attempt to accept gave.
pub(crate) enum Accepted {
    /// A connection, with the address of its peer.
    Stream(TcpStream, IpAddr),
    /// Nobody is waiting.
    Nobody,
    /// One that is not worth a word; try the next.
    Skip,
    /// No descriptors or memory: rest for [`PAUSE_MS`].
    Exhausted(io::Error),
}

/// Accepts one connection.
fn accept(listener: &TcpListener) -> Accepted {
    match listener.accept() {
        Ok((stream, peer)) => Accepted::Stream(stream, peer.ip().to_canonical()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::Nobody,
        Err(error) if is_exhaustion(&error) => Accepted::Exhausted(error),
        Err(_) => Accepted::Skip,
    }
}

/// EMFILE, ENFILE, ENOBUFS and ENOMEM, by their Linux numbers.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts from any of them until `wanted` connections have come.
    fn accept_all(listeners: &[TcpListener], wanted: usize) -> Vec<(usize, TcpStream)> {
        let mut accepted = Vec::new();
        while accepted.len() < wanted {
            for (at, listener) in listeners.iter().enumerate() {
                if let Accepted::Stream(stream, _) = accept(listener) {
                    accepted.push((at, stream));
                }
            }
        }
        accepted
    }

    #[test]
    fn connections_are_spread_over_all_workers_and_a_second_server_is_refused() {
        let listeners = bind("127.0.0.1:0".parse().expect("it is an address"), 3, 128).expect("a free port");
        let address = listeners[0].local_addr().expect("it is bound");
        let refusal = bind(address, 2, 128).expect_err("the port is taken");
        assert_eq!(refusal.kind(), io::ErrorKind::AddrInUse);
        let connect = |_| std::net::TcpStream::connect(address).expect("somebody listens");
        let clients: Vec<_> = (0..100).map(connect).collect();
        let accepted = accept_all(&listeners, clients.len());
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
        let (_, stream) = accept_all(&listeners, 1).remove(0);
        assert!(stream.nodelay().expect("it is a socket"));
    }
}

//! Listening sockets: one per worker and address with SO_REUSEPORT, so the kernel spreads connections over workers.
//!
//! Accept errors have a policy. A connection that died in the queue is skipped. When descriptors or memory run out
//! (EMFILE, ENFILE, ENOBUFS, ENOMEM), accepting pauses and is tried again; nobody who is connected notices.

use std::{io, net::SocketAddr};

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

/// How long accepting rests when descriptors have run out.
pub(crate) const PAUSE_MS: u64 = 100;

/// Binds `address` once for each of `workers`. Port 0 becomes one free port for all.
pub(crate) fn bind(mut address: SocketAddr, workers: usize, backlog: u32) -> io::Result<Vec<TcpListener>> {
    (0..workers)
        .map(|_| {
            let socket = bind_one(address, backlog)?;
            let listener = std::net::TcpListener::from(socket);
            address = listener.local_addr()?;
            Ok(TcpListener::from_std(listener))
        })
        .collect()
}

fn bind_one(address: SocketAddr, backlog: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Linux hands this down to the accepted sockets, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// What one attempt to accept gave.
pub(crate) enum Accepted {
    /// A connection.
    Stream(TcpStream),
    /// Nobody is waiting.
    Nobody,
    /// One that is not worth a word; try the next.
    Skip,
    /// No descriptors or memory: rest for [`PAUSE_MS`].
    Exhausted(io::Error),
}

/// Accepts one connection.
pub(crate) fn accept(listener: &TcpListener) -> Accepted {
    match listener.accept() {
        Ok((stream, _)) => Accepted::Stream(stream),
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

    #[test]
    fn listeners_of_several_workers_share_a_port_and_accepted_sockets_do_not_delay() {
        let address = "127.0.0.1:0".parse().expect("it is an address");
        let listeners = bind(address, 3, 16).expect("a free port can be bound");
        let port = listeners[0].local_addr().expect("it is bound").port();
        assert!(listeners.iter().all(|l| l.local_addr().expect("it is bound").port() == port));
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
        let stream = loop {
            let accepted = listeners.iter().map(accept).find(|a| matches!(a, Accepted::Stream(_)));
            if let Some(Accepted::Stream(stream)) = accepted {
                break stream;
            }
        };
        assert!(stream.nodelay().expect("it is a socket"));
    }
}

//! The listening socket of the admin plane, of either family.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixListener},
};

use crate::{
    config::{Bindable, Endpoint},
    doors::SocketFiles,
    listener,
};

/// The connections that may wait to be accepted.
const BACKLOG: u32 = 128;

/// A bound socket, before the runtime has it.
pub(super) enum StdListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The place where the admin plane listens.
pub(super) struct Door {
    pub(super) listener: StdListener,
    /// The IP address; `None` for a Unix socket.
    pub(super) address: Option<SocketAddr>,
    pub(super) files: SocketFiles,
}

impl Door {
    /// Binds the endpoint. Of a host name's addresses, it takes the first that can be bound.
    pub(super) fn open(endpoint: &Endpoint, mode: u32) -> io::Result<Self> {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for place in endpoint.resolve()? {
            match place {
                Bindable::Address(address) => addresses.push(address),
                Bindable::Unix(path) => {
                    let socket = listener::listen_unix(path, mode, BACKLOG)?;
                    let listener = StdListener::Unix(UnixListener::from(OwnedFd::from(socket)));
                    return Ok(Self { listener, address: None, files: SocketFiles::of(path) });
                }
            }
        }
        let listener = TcpListener::bind(&*addresses)?;
        listener.set_nonblocking(true)?;
        let address = Some(listener.local_addr()?);
        Ok(Self { listener: StdListener::Tcp(listener), address, files: SocketFiles::default() })
    }
}

impl StdListener {
    /// The listener of the present runtime.
    pub(super) fn into_tokio(self) -> io::Result<AdminListener> {
        Ok(match self {
            Self::Tcp(listener) => AdminListener::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Self::Unix(listener) => AdminListener::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }
}

/// The listener of the admin plane's runtime.
pub(super) enum AdminListener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl AdminListener {
    /// Accepts a connection. As on the data plane, a socket of either family has the type of TCP.
    pub(super) async fn accept(&self) -> io::Result<tokio::net::TcpStream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| stream),
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let socket = OwnedFd::from(stream.into_std()?);
                tokio::net::TcpStream::from_std(std::net::TcpStream::from(socket))
            }
        }
    }
}

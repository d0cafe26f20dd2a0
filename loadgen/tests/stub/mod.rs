//! A server that is just enough of one, and misbehaves on request: loses, repeats, reorders, delivers to the
//! wrong one, changes bytes, hangs up. One thread, all of a turn's input before any output, so it is also a
//! fast one.

#![allow(dead_code, reason = "not every test uses all of it")]

mod commands;
mod mischief;
mod server;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use mio::net::TcpListener;

pub(crate) use mischief::Mischief;
use server::Server;

/// A running stub; it stops when dropped.
pub(crate) struct Stub {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    deliveries: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    pub(crate) fn start(mischief: Mischief) -> Self {
        Self::listen("127.0.0.1:0".parse().expect("an address"), mischief)
    }

    pub(crate) fn listen(address: SocketAddr, mischief: Mischief) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("bound");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let deliveries = Arc::new(AtomicU64::new(0));
        let mut server = Server::new(listener, mischief, Arc::clone(&deliveries));
        let thread = thread::spawn(move || server.run(&stopped));
        Self { address, stop, deliveries, thread: Some(thread) }
    }

    /// Waits until there were so many deliveries from now on.
    pub(crate) fn wait_for_deliveries(&self, count: u64) {
        let end = self.deliveries.load(Ordering::Relaxed) + count;
        while self.deliveries.load(Ordering::Relaxed) < end {
            thread::yield_now();
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(outcome.is_some_and(|outcome| outcome.is_ok()), "the stub panicked");
        }
    }
}

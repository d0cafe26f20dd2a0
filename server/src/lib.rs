//! Fanfare's server: everything that touches the operating system.
//!
//! ```text
//!   main ── signals ──▶ Server::shut_down
//!    │
//!    ├── worker-0   listener(s) ─▶ loop ─▶ engine ─┐
//!    ├── worker-1   listener(s) ─▶ loop ─▶ engine ─┤  mailboxes, channel table (the node)
//!    ├── …                                         ┘
//!    └── admin      metrics, health, readiness (axum; never on the path of a message)
//! ```
//!
//! Every connection belongs to the worker that accepted it, from the first byte to the last.

mod access;
mod admin;
pub mod args;
pub mod config;
mod connection;
mod exchange;
mod listener;
mod metrics;
mod outbound;
mod rest;
mod sys;
mod timers;
mod upgrade;
mod worker;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{Builder, JoinHandle},
};

use fanfare_core::{engine::Node, id::WorkerId};

pub use self::worker::{Commands, Handler};
use self::{
    admin::{Admin, Observed},
    config::Config,
    metrics::WorkerMetrics,
    worker::{Control, Parts, Worker, poll_and_waker},
};

/// Descriptors kept for what is no connection: listeners, polls, logs, the admin plane.
const RESERVED_DESCRIPTORS: u64 = 64;

/// A running server.
pub struct Server {
    addresses: Vec<SocketAddr>,
    control: Arc<Control>,
    observed: Arc<Observed>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    admin: Option<Admin>,
}

impl Server {
    /// Binds, starts all threads, and returns when connections are accepted.
    ///
    /// # Errors
    /// An address that cannot be bound, or a thread or poll that cannot be made.
    pub fn start(config: Config) -> io::Result<Self> {
        Self::start_with(config, Commands)
    }

    /// As [`Server::start`], with another meaning of messages.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with<H: Handler + Clone>(config: Config, handler: H) -> io::Result<Self> {
        let workers = config.workers;
        let open_files = sys::raise_open_files();
        let capacity = match u64::from(config.connections) {
            0 => open_files.saturating_sub(RESERVED_DESCRIPTORS + 4 * workers as u64),
            limit => limit,
        };
        let mut listeners: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for &address in &config.listen {
            let bound = listener::bind(address, workers, config.backlog).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            })?;
            addresses.push(bound[0].local_addr()?);
            listeners.iter_mut().zip(bound).for_each(|(of_worker, listener)| of_worker.push(listener));
        }
        let (polls, wakers): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| poll_and_waker()).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
        let node = Arc::new(Node::new(config.apps.clone(), workers, config.mailbox_depth, sys::random()));
        let control = Arc::new(Control {
            wakers,
            drain: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
        });
        let metrics: Vec<Arc<WorkerMetrics>> = (0..workers).map(|_| Arc::default()).collect();
        let observed = Arc::new(Observed {
            node: node.clone(),
            workers: metrics.clone(),
            ready: AtomicBool::new(false),
        });
        let admin = config
            .admin_listen
            .map(|address| {
                Admin::start(address, observed.clone()).map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("cannot listen on {address} for the admin plane: {error}"),
                    )
                })
            })
            .transpose()?;
        let cores = if config.pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
        let config = Arc::new(config);
        let mut threads = Vec::new();
        for (at, ((poll, listeners), metrics)) in polls.into_iter().zip(listeners).zip(metrics).enumerate() {
            let worker = Worker::new(Parts {
                id: WorkerId(u16::try_from(at).expect("workers are few")),
                config: config.clone(),
                node: node.clone(),
                control: control.clone(),
                metrics,
                poll,
                listeners,
                handler: handler.clone(),
            })?;
            let core = cores.get(at % cores.len().max(1)).copied();
            threads.push(Builder::new().name(format!("worker-{at}")).spawn(move || {
                if let Some(core) = core
                    && !core_affinity::set_for_current(core)
                {
                    tracing::warn!(core = core.id, "could not pin the worker");
                }
                worker.run()
            })?);
        }
        observed.ready.store(true, Ordering::Relaxed);
        Ok(Self { addresses, control, observed, workers: threads, admin })
    }

    /// Where it listens; port 0 of the configuration is a real port here.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin plane listens.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// Whether a worker has ended, which none does unasked.
    pub fn is_broken(&self) -> bool {
        self.workers.iter().any(JoinHandle::is_finished)
    }

    /// Drains: stops accepting, tells every client to come back elsewhere (close code 1012), and returns when all
    /// have gone or the drain deadline has passed.
    ///
    /// # Errors
    /// A worker failed.
    pub fn shut_down(self) -> io::Result<()> {
        self.observed.ready.store(false, Ordering::Relaxed);
        self.control.drain.store(true, Ordering::Relaxed);
        for waker in &self.control.wakers {
            waker.wake()?;
        }
        let mut result = Ok(());
        for worker in self.workers {
            result = match worker.join() {
                Ok(ended) => ended.and(result),
                Err(_) => Err(io::Error::other("a worker panicked")),
            };
        }
        if let Some(admin) = self.admin {
            admin.stop();
        }
        result
    }
}

//! Fanfare's server: everything that touches the operating system.
//!
//! ```text
//!   main ── signals ──▶ Server::shut_down
//!    │
//!    ├── worker-0   listener(s) ─▶ loop ─▶ engine ─┐
//!    ├── worker-1   listener(s) ─▶ loop ─▶ engine ─┤  mailboxes, channel table (the node)
//!    ├── …                                         ┘
//!    ├── admin      metrics, health, readiness (axum; never on the path of a message)
//!    └── background keys of issuers, certificates
//! ```
//!
//! Every connection belongs to the worker that accepted it, from the first byte to the last.

mod acme;
mod addresses;
pub mod args;
mod asker;
pub mod config;
mod connection;
mod control;
mod doors;
mod drain;
mod egress;
mod http;
mod issuer;
mod listener;
pub mod notify;
mod outbound;
mod sys;
mod timers;
mod tls;
mod trigger;
mod worker;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use fanfare_core::{engine::Node, id::WorkerId};
use fanfare_doctor::{Needs, Role};

use self::{
    acme::Acme,
    config::{Config, Preamble},
    control::{
        admin::{ADMIN_CONNECTIONS, Admin, Errands, Observed, Pages},
        background::Background,
        demo,
        metrics::WorkerMetrics,
        reload::Reloader,
    },
    doors::{Doors, SocketFiles},
    issuer::Issuers,
    trigger::{TriggerThreads, Triggers, manage::MANAGE_REQUESTS},
    worker::{Control, Parts, Worker, poll_and_waker},
};
pub use self::{
    trigger::trial,
    worker::{Greeting, MessageHandler},
};

/// Descriptors set aside for everything but connections: listeners, logs, the control plane and its
/// connections.
const RESERVED_DESCRIPTORS: u64 = 32 + ADMIN_CONNECTIONS as u64;

/// Descriptors of a worker: its poll, its waker, and sockets that are refused or not yet reclaimed.
const WORKER_DESCRIPTORS: u64 = 4;

/// Room for fewer connections than this is a mistake of whoever set the limit of open files.
const CONNECTIONS_MIN: u64 = 16;

/// How long a start waits for the keys of issuers.
const ISSUERS_PATIENCE: Duration = Duration::from_secs(6);

/// An address on which the server listens.
#[derive(Copy, Clone, Debug)]
pub struct Listening {
    /// The address.
    pub address: SocketAddr,
    /// Whether its connections are encrypted.
    pub security: Security,
    /// What its connections begin with.
    pub preamble: Preamble,
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match (self.preamble, self.security) {
            (Preamble::None, Security::None) => "",
            (Preamble::None, Security::Tls) => " with TLS",
            (Preamble::Proxy, Security::None) => " with PROXY",
            (Preamble::Proxy, Security::Tls) => " with PROXY and TLS",
        };
        write!(f, "{}{suffix}", self.address)
    }
}

/// Whether a connection is encrypted.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Security {
    /// The connection is not encrypted.
    None,
    /// The connection is encrypted by TLS.
    Tls,
}

/// A running server.
pub struct Server {
    addresses: Vec<Listening>,
    sockets: SocketFiles,
    control: Arc<Control>,
    observed: Arc<Observed>,
    reloader: Arc<Reloader>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    admin: Option<Admin>,
    triggers: Arc<Triggers>,
    trigger_threads: TriggerThreads,
    background: Arc<Background>,
}

impl Server {
    /// Binds, starts all threads, and returns when connections are accepted.
    ///
    /// # Errors
    /// An address that cannot be bound, or a thread or poll that cannot be made.
    pub fn start(config: Config) -> io::Result<Self> {
        Self::start_with(config, MessageHandler::COMMANDS)
    }

    /// As [`Server::start`], with another meaning of messages.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with(config: Config, handler: MessageHandler) -> io::Result<Self> {
        let config = Arc::new(config);
        let workers = config.workers;
        let capacity = capacity(&config, sys::raise_open_files())?;
        let Doors { listeners, addresses, sockets } = Doors::open(&config)?;
        let (polls, wakers): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| poll_and_waker()).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
        let node = Arc::new(Node::new(config.apps.clone(), workers, config.mailbox_depth, sys::random()));
        let control = Arc::new(Control::new(wakers, capacity, config.clone(), &node));
        let (manage, requests) = crossbeam::channel::bounded(MANAGE_REQUESTS);
        let (triggers, trigger_threads) = Triggers::start(&node, &control, &config, requests)?;
        let metrics: Vec<Arc<WorkerMetrics>> = (0..workers).map(|_| Arc::default()).collect();
        let expires_s = config.certificate_expires_s();
        let background = Arc::new(Background::start()?);
        let issuers = Issuers::start(background.clone(), config.issuers());
        issuers.wait(ISSUERS_PATIENCE);
        let acme = Acme::start(background.clone(), config.acme())?;
        let errands = Errands { issuers, acme };
        let observed = Observed::new(node.clone(), metrics.clone(), control.clone(), errands, expires_s);
        let observed = Arc::new(observed.with(triggers.clone()));
        let reloader = Arc::new(Reloader {
            control: control.clone(),
            node: node.clone(),
            observed: observed.clone(),
            triggers: triggers.clone(),
            turn: Mutex::new(()),
        });
        let pages = Pages {
            password: config.dashboard_password.clone(),
            demo: demo::Settings::of(&config, &addresses),
            manage: manage.clone(),
        };
        let admin = config
            .admin_listen
            .as_ref()
            .map(|endpoint| {
                let (mode, served) = (config.socket_mode, (observed.clone(), reloader.clone()));
                Admin::start(endpoint, mode, served, pages)
                    .map_err(|error| cannot_listen(endpoint, "server.admin_listen", error))
            })
            .transpose()?;
        let cores = if config.pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
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
                handler,
                manage: manage.clone(),
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
        Ok(Self {
            addresses,
            sockets,
            control,
            observed,
            reloader,
            workers: threads,
            admin,
            triggers,
            trigger_threads,
            background,
        })
    }

    /// Where it listens; port 0 of the configuration is a real port here.
    pub fn addresses(&self) -> &[Listening] {
        &self.addresses
    }

    /// The Unix sockets on which it listens.
    pub fn sockets(&self) -> &[PathBuf] {
        self.sockets.paths()
    }

    /// The IP address on which the admin plane listens.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.address
    }

    /// The Unix socket on which the admin plane listens.
    pub fn admin_socket(&self) -> Option<&Path> {
        self.admin.as_ref()?.socket()
    }

    /// Reloads the configuration. The changes, or the reason why nothing changed, are logged.
    pub fn reload(&self) {
        drop(self.reloader.reload());
    }

    /// Whether a worker has ended, which none does unasked.
    pub fn is_broken(&self) -> bool {
        self.workers.iter().any(JoinHandle::is_finished)
    }

    /// Drains: stops accepting, tells every client to come back elsewhere (close code 1012), and returns when
    /// all have gone or the drain deadline has passed.
    ///
    /// # Errors
    /// A worker failed.
    pub fn shut_down(self) -> io::Result<()> {
        // Before the sockets close: afterwards the files may be those of another server.
        drop(self.sockets);
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
        self.background.stop();
        // The engines and their copies of triggers are gone.
        self.triggers.stop();
        drop(self.triggers);
        self.trigger_threads.join();
        result
    }
}

/// The descriptors that are no connections.
fn reserved_descriptors(config: &Config) -> u64 {
    let listening: usize = config.listeners().map(|listening| listening.endpoint.sockets()).sum();
    let workers = (WORKER_DESCRIPTORS + listening as u64) * config.workers as u64;
    RESERVED_DESCRIPTORS + workers + config.trigger_connections()
}

/// How many connections there may be: as many as the configuration says, and no more than there are
/// descriptors for.
fn capacity(config: &Config, open_files: u64) -> io::Result<usize> {
    let reserved = reserved_descriptors(config);
    let room = open_files.saturating_sub(reserved);
    let configured = u64::from(config.connections);
    if room < CONNECTIONS_MIN {
        return Err(io::Error::other(format!(
            "the limit of open files is {open_files}, and {} workers need at least {}: raise it (`ulimit -n`, \
             `LimitNOFILE=` in a unit of systemd), or lower `server.workers`",
            config.workers,
            reserved + CONNECTIONS_MIN
        )));
    }
    if configured > room {
        tracing::warn!(
            "the limit of open files ({open_files}) leaves room for {room} connections; `server.limits.connections` \
             ({configured}) is not reached"
        );
    }
    let capacity = if configured == 0 { room } else { configured.min(room) };
    Ok(usize::try_from(capacity).unwrap_or(usize::MAX))
}

/// What a server of this configuration needs of its machine for these connections.
pub fn needs(config: &Config, connections: u64) -> Needs {
    let role = Role::Server { backlog: config.backlog.into(), workers: config.workers as u64 };
    Needs { connections, other_files: reserved_descriptors(config), role }
}

fn cannot_listen(address: &dyn fmt::Display, setting: &str, error: io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(": another process listens there; stop it, or change `{setting}`")
        }
        _ => format!(" (`{setting}`): {error}"),
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(server: &str) -> Config {
        let text = format!("[server]\n{server}\n[apps.default]\nclient_key = \"client-key-0123456789\"\n");
        Config::from_toml(&text).expect("it is a configuration")
    }

    #[test]
    fn connections_leave_the_descriptors_that_others_need() {
        let config = config("workers = 2\n[server.limits]\nconnections = 1000");
        let reserved = 32 + ADMIN_CONNECTIONS + 2 * 5;
        assert_eq!(capacity(&config, 1 << 20).ok(), Some(1000));
        assert_eq!(capacity(&config, 256).ok(), Some(256 - reserved));
    }

    #[test]
    fn connections_to_back_ends_have_their_descriptors() {
        let trigger = |name: &str| {
            format!(
                "[[apps.default.triggers]]\nname = '{name}'\nchannel = 'c'\nurl = 'http://a'\n\
                 secret = '0123456789abcdef'\nconnections = 100\n"
            )
        };
        let text = format!(
            "[server]\nworkers = 2\n[apps.default]\nclient_key = 'client-key-0123456789'\n{}{}",
            trigger("a"),
            trigger("b")
        );
        let asking = Config::from_toml(&text).expect("it is a configuration");
        let without = capacity(&config("workers = 2"), 1000).expect("there is room");
        assert_eq!(capacity(&asking, 1000).ok(), Some(without - 200));
    }

    #[test]
    fn a_limit_of_open_files_that_leaves_no_room_is_refused_with_a_sentence() {
        let config = config("workers = 2");
        let least = 32 + ADMIN_CONNECTIONS as u64 + 2 * 5 + 16;
        assert!(capacity(&config, least).is_ok());
        let sentence = capacity(&config, least - 1).expect_err("it is too low").to_string();
        assert!(sentence.contains("ulimit -n") && sentence.contains(&least.to_string()), "{sentence}");
    }
}

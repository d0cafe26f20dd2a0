//! All listening sockets of a server, bound before any thread starts.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    Listening, Security, cannot_listen,
    config::{self, Bindable, Config},
    listener::{self, Listener, ListeningSocket},
};

/// The listening sockets of a server.
pub(crate) struct Doors {
    /// For each worker, its sockets. All workers have as many, in the same order.
    pub(crate) listeners: Vec<Vec<Listener>>,
    /// The IP addresses, with real ports in the place of port 0.
    pub(crate) addresses: Vec<Listening>,
    pub(crate) sockets: SocketFiles,
}

impl Doors {
    /// Binds every place that the configuration names. Waits for the resolver if a place is a host name.
    pub(crate) fn open(config: &Config) -> io::Result<Self> {
        let listeners = (0..config.workers).map(|_| Vec::new()).collect();
        let mut doors = Self { listeners, addresses: Vec::new(), sockets: SocketFiles::default() };
        for listening in config.listeners() {
            let setting = listening.setting();
            let resolved = listening.endpoint.resolve();
            for place in resolved.map_err(|error| cannot_listen(listening.endpoint, setting, error))? {
                doors
                    .open_one(config, &listening, place)
                    .map_err(|error| cannot_listen(&place, setting, error))?;
            }
        }
        Ok(doors)
    }

    fn open_one(
        &mut self,
        config: &Config,
        listening: &config::Listening<'_>,
        place: Bindable<'_>,
    ) -> io::Result<()> {
        let (workers, backlog, preamble) = (config.workers, config.backlog, listening.preamble());
        let sockets: Vec<ListeningSocket> = match place {
            Bindable::Address(address) => {
                let bound = listener::bind(address, workers, backlog)?;
                let security = if listening.tls().is_some() { Security::Tls } else { Security::None };
                self.addresses.push(Listening { address: bound[0].local_addr()?, security, preamble });
                bound.into_iter().map(ListeningSocket::Tcp).collect()
            }
            Bindable::Unix(path) => {
                let bound = listener::bind_unix(path, config.socket_mode, workers, backlog)?;
                self.sockets.0.push(path.to_owned());
                bound.into_iter().map(ListeningSocket::Unix).collect()
            }
        };
        for (of_worker, socket) in self.listeners.iter_mut().zip(sockets) {
            let (tls, group) = (listening.tls().cloned(), listening.place);
            of_worker.push(Listener { socket, tls, preamble, group });
        }
        Ok(())
    }
}

/// The files of Unix sockets, which are removed with this value.
#[derive(Default)]
pub(crate) struct SocketFiles(Vec<PathBuf>);

impl SocketFiles {
    pub(crate) fn of(path: &Path) -> Self {
        Self(vec![path.to_owned()])
    }

    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.0
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(%error, path = %path.display(), "the file of a socket could not be removed");
            }
        }
    }
}

//! The thread for the server's own errands: requests to issuers and authorities. None of them is on the path
//! of a message.

use std::{
    future::Future,
    io,
    sync::{Mutex, PoisonError},
    thread::{Builder, JoinHandle},
};

use tokio::{runtime::Handle, sync::oneshot, task::AbortHandle};

/// The running thread.
pub(crate) struct Background {
    handle: Handle,
    /// `None` after the end.
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Background {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(4)
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = Builder::new().name("background".into()).spawn(move || {
            // Dropped: it is over.
            drop(runtime.block_on(stopped));
            // A look-up of a name may still hang in the operating system.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, running: Mutex::new(Some((stop, thread))) })
    }

    /// Runs a task on the thread.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.handle.spawn(task).abort_handle()
    }

    /// Stops and waits for the end. Tasks end where they wait.
    pub(crate) fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((stop, thread)) = running else { return };
        drop(stop);
        if thread.join().is_err() {
            tracing::error!("the background thread panicked");
        }
    }
}

//! The admin plane: metrics, health and readiness, on a thread and a listener of its own.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use fanfare_core::engine::Node;
use tokio::sync::oneshot;

use crate::metrics::{WorkerMetrics, exposition};

/// What the admin plane looks at.
pub(crate) struct Observed {
    pub(crate) node: Arc<Node>,
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    /// False while starting and while draining.
    pub(crate) ready: AtomicBool,
}

/// The running admin plane.
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Listens on `address` and serves from a thread of its own.
    pub(crate) fn start(address: SocketAddr, observed: Arc<Observed>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(observed);
        let thread = Builder::new().name("admin".into()).spawn(move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::select! {
                    served = axum::serve(listener, router) => served,
                    // Sent or dropped: either way it is over.
                    _ = stopped => Ok(()),
                }
            });
            if let Err(error) = served {
                tracing::error!(%error, "the admin listener failed");
            }
        })?;
        Ok(Self { address, stop, thread })
    }

    /// Stops and waits for the end.
    pub(crate) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the admin thread panicked");
        }
    }
}

async fn metrics(State(observed): State<Arc<Observed>>) -> impl IntoResponse {
    let text = exposition(&observed.workers, &observed.node);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn ready(State(observed): State<Arc<Observed>>) -> impl IntoResponse {
    match observed.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

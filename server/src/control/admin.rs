//! The admin plane: metrics, health and readiness, on a thread and a listener of its own.
//!
//! It asks for no key, so it bounds what anybody can make it hold: a connection lasts [`LIFETIME`], and of
//! more than [`ADMIN_CONNECTIONS`] the oldest ends. A probe that comes now is served now, whoever else holds
//! sockets.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_TYPE, ORIGIN},
    },
    response::IntoResponse,
    routing::{get, post},
};
use fanfare_core::engine::Node;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpStream, sync::oneshot, task::AbortHandle, time::timeout};

use super::{
    demo,
    metrics::{WorkerMetrics, exposition},
    reload::Reloader,
};

/// The most connections at one time.
pub(crate) const ADMIN_CONNECTIONS: usize = 32;

/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last, whatever it does.
const LIFETIME: Duration = Duration::from_secs(60);

/// How long accepting rests after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin plane looks at.
pub(crate) struct Observed {
    pub(crate) node: Arc<Node>,
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    /// False while starting and while draining.
    pub(crate) ready: AtomicBool,
    /// When the first certificate of a listener expires, in seconds since 1970.
    pub(crate) certificate_expires_s: AtomicU64,
    /// Reloads that took effect, and those that were refused.
    pub(crate) reloads: AtomicU64,
    pub(crate) failed_reloads: AtomicU64,
}

/// The running admin plane.
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Listens on `address` and serves from a thread of its own.
    pub(crate) fn start(
        address: SocketAddr,
        observed: Arc<Observed>,
        demo: Option<demo::Settings>,
        reloader: Arc<Reloader>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let mut router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(observed)
            .merge(Router::new().route("/reload", post(reload)).with_state(reloader));
        if let Some(settings) = demo {
            router = router.merge(demo::routes(settings));
        }
        let thread = Builder::new().name("admin".into()).spawn(move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::select! {
                    never = serve(listener, router) => match never {},
                    // Sent or dropped: either way it is over.
                    _ = stopped => io::Result::Ok(()),
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

/// Accepts connections and serves each in a task of its own.
async fn serve(listener: tokio::net::TcpListener, router: Router) -> std::convert::Infallible {
    let mut tasks: VecDeque<AbortHandle> = VecDeque::with_capacity(ADMIN_CONNECTIONS);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin listener could not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        tasks.retain(|task| !task.is_finished());
        if tasks.len() == ADMIN_CONNECTIONS
            && let Some(oldest) = tasks.pop_front()
        {
            oldest.abort();
        }
        tasks.push_back(tokio::spawn(serve_one(stream, router.clone())).abort_handle());
    }
}

async fn serve_one(stream: TcpStream, router: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(LIFETIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection of the admin plane failed"),
        Err(_) => tracing::debug!("a connection of the admin plane lasted too long"),
    }
}

async fn metrics(State(observed): State<Arc<Observed>>) -> impl IntoResponse {
    let text = exposition(&observed);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Reads the configuration again. A page in a browser may not ask for it.
async fn reload(State(reloader): State<Arc<Reloader>>, headers: HeaderMap) -> (StatusCode, String) {
    if headers.contains_key(ORIGIN) {
        return (StatusCode::FORBIDDEN, String::from("A page in a browser may not do this.\n"));
    }
    match tokio::task::spawn_blocking(move || reloader.reload()).await {
        Ok(Ok(sentence)) => (StatusCode::OK, format!("{sentence}\n")),
        Ok(Err(sentence)) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{sentence}\n")),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn ready(State(observed): State<Arc<Observed>>) -> impl IntoResponse {
    match observed.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

//! The admin plane: metrics, health and readiness, on a thread and a listener of its own.
//!
//! It asks for no key, so it bounds what anybody can make it hold: a connection lasts [`LIFETIME`], and of
//! more than [`ADMIN_CONNECTIONS`] the oldest ends. A probe that comes now is served now, whoever else holds
//! sockets.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_TYPE, ORIGIN, VARY},
    },
    response::IntoResponse,
    routing::{get, post},
};
use crossbeam::channel::Sender;
use fanfare_core::engine::Node;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpStream, sync::oneshot, task::AbortHandle, time::timeout};

use super::{
    capacity,
    dashboard::{self, Console, Dashboard},
    demo,
    door::{AdminListener, Door},
    exposition::TextFormat,
    metrics::{WorkerMetrics, exposition},
    process::resident_bytes,
    reload::Reloader,
};
use crate::{
    acme::Acme,
    config::{Endpoint, Password},
    doors::SocketFiles,
    issuer::Issuers,
    trigger::{Triggers, manage::ManageRequest},
    worker::Control,
};

/// The most connections at one time.
pub(crate) const ADMIN_CONNECTIONS: usize = 32;

/// The longest wait for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last, whatever it does.
const LIFETIME: Duration = Duration::from_secs(60);

/// How long accepting rests after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the background thread works on.
pub(crate) struct Errands {
    pub(crate) issuers: Issuers,
    pub(crate) acme: Acme,
}

/// What the admin plane looks at.
pub(crate) struct Observed {
    pub(crate) node: Arc<Node>,
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    /// The interface to the workers: it wakes them, asks them, and hands them connections.
    pub(crate) control: Arc<Control>,
    pub(crate) errands: Errands,
    pub(crate) started: Instant,
    /// The same moment, in seconds since 1970.
    pub(super) started_unix_s: f64,
    /// The resident memory at that moment, before the first connection.
    pub(super) resident_at_start: u64,
    /// False while starting and while draining.
    pub(crate) ready: AtomicBool,
    /// When the first of the certificates in files expires, in seconds since 1970; 0 without one.
    pub(crate) certificate_expires_s: AtomicU64,
    /// The number of reloads that took effect, and of reloads that were refused.
    pub(crate) reloads: AtomicU64,
    pub(crate) failed_reloads: AtomicU64,
    /// The triggers; `None` in a test.
    triggers: Option<Arc<Triggers>>,
    next_worker: AtomicUsize,
}

impl Observed {
    /// The state of a server that is starting.
    pub(crate) fn new(
        node: Arc<Node>,
        workers: Vec<Arc<WorkerMetrics>>,
        control: Arc<Control>,
        errands: Errands,
        certificate_expires_s: Option<u64>,
    ) -> Self {
        Self {
            node,
            workers,
            control,
            errands,
            started: Instant::now(),
            started_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            resident_at_start: resident_bytes(),
            ready: AtomicBool::new(false),
            certificate_expires_s: AtomicU64::new(certificate_expires_s.unwrap_or(0)),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            triggers: None,
            next_worker: AtomicUsize::new(0),
        }
    }

    /// The state of a server with these triggers.
    pub(crate) fn with(self, triggers: Arc<Triggers>) -> Self {
        Self { triggers: Some(triggers), ..self }
    }

    /// When the first of all certificates expires, in seconds since 1970.
    pub(super) fn certificate_expires_s(&self) -> Option<u64> {
        let of_files = Some(self.certificate_expires_s.load(Ordering::Relaxed)).filter(|at| *at > 0);
        of_files.into_iter().chain(self.errands.acme.expires_s()).min()
    }

    /// The triggers.
    pub(super) fn triggers(&self) -> Option<&Triggers> {
        self.triggers.as_deref()
    }

    /// The worker whose turn in the rotation it is.
    pub(super) fn next_worker(&self) -> usize {
        // Relaxed: any worker will do.
        self.next_worker.fetch_add(1, Ordering::Relaxed) % self.node.workers()
    }
}

/// The pages of the admin listener besides metrics and health.
pub(crate) struct Pages {
    pub(crate) password: Option<Password>,
    pub(crate) demo: Option<demo::Settings>,
    /// Takes requests about triggers.
    pub(crate) manage: Sender<ManageRequest>,
}

/// The running admin plane.
pub(crate) struct Admin {
    /// The IP address; `None` for a Unix socket.
    pub(crate) address: Option<SocketAddr>,
    files: SocketFiles,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Listens and serves from a thread of its own. `mode` has the permissions of a Unix socket.
    pub(crate) fn start(
        endpoint: &Endpoint,
        mode: u32,
        (observed, reloader): (Arc<Observed>, Arc<Reloader>),
        pages: Pages,
    ) -> io::Result<Self> {
        let Door { listener, address, files } = Door::open(endpoint, mode)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let mut router = Router::new()
            .route("/metrics", get(metrics))
            .route("/capacity", get(capacity))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(observed.clone())
            .merge(Router::new().route("/reload", post(reload)).with_state(reloader));
        if let Some(settings) = pages.demo {
            router = router.merge(demo::routes(settings));
        }
        let dashboard = Dashboard::new(address, pages.password, observed, pages.manage);
        router = router.merge(dashboard.as_ref().map_or_else(dashboard::absent, dashboard::routes));
        let console = dashboard.map(Console);
        let thread = Builder::new().name("admin".into()).spawn(move || {
            let served = runtime.block_on(async {
                let listener = listener.into_tokio()?;
                tokio::select! {
                    never = serve(listener, router, console) => match never {},
                    // Sent or dropped: either way it is over.
                    _ = stopped => io::Result::Ok(()),
                }
            });
            if let Err(error) = served {
                tracing::error!(%error, "the admin listener failed");
            }
        })?;
        Ok(Self { address, files, stop, thread })
    }

    /// The Unix socket on which it listens.
    pub(crate) fn socket(&self) -> Option<&Path> {
        self.files.paths().first().map(PathBuf::as_path)
    }

    /// Stops and waits for the end.
    pub(crate) fn stop(self) {
        drop(self.files);
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the admin thread panicked");
        }
    }
}

/// Accepts connections and serves each in a task of its own.
async fn serve(
    listener: AdminListener,
    router: Router,
    console: Option<Console>,
) -> std::convert::Infallible {
    let mut tasks: VecDeque<AbortHandle> = VecDeque::with_capacity(ADMIN_CONNECTIONS);
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
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
        tasks.push_back(tokio::spawn(serve_one(stream, router.clone(), console.clone())).abort_handle());
    }
}

async fn serve_one(stream: TcpStream, router: Router, console: Option<Console>) {
    if let Some(console) = console {
        let served = match Console::is_wanted(&stream).await {
            Ok(false) => return serve_pages(stream, router).await,
            Ok(true) => console.serve(stream).await,
            Err(error) => Err(error),
        };
        return served.unwrap_or_else(|error| tracing::debug!(%error, "a connection of the console failed"));
    }
    serve_pages(stream, router).await;
}

async fn serve_pages(stream: TcpStream, router: Router) {
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

async fn metrics(State(observed): State<Arc<Observed>>, headers: HeaderMap) -> impl IntoResponse {
    let format = TextFormat::wanted(&headers);
    ([(CONTENT_TYPE, format.content_type()), (VARY, "Accept")], exposition(&observed, format))
}

async fn capacity(State(observed): State<Arc<Observed>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], capacity::json(&observed))
}

/// Reloads the configuration. A request from a page in a browser is refused.
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

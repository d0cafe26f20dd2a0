//! The `fanfare` binary: arguments, configuration, start, wait.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use fanfare_server::{
    Server,
    args::{self, Action},
    config::{Config, LogConfig, LogFormat},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::parse();
    let config = match Config::load(&args, std::env::vars_os()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("fanfare: {error}");
            return ExitCode::from(2);
        }
    };
    match args.action() {
        Action::Check => println!("{}", config.summary()),
        Action::PrintConfig(secrets) => print!("{}", config.to_toml(secrets)),
        Action::Serve => {
            if let Err(error) = serve(config) {
                eprintln!("fanfare: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// How often the main thread makes sure that the workers live.
const WATCH: Duration = Duration::from_millis(100);

fn serve(config: Config) -> std::io::Result<()> {
    start_log(&config.log);
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    // From here on a signal waits for us; before, it simply ended the process.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let development = config.development.clone();
    let workers = config.workers;
    let server = Server::start(config)?;
    for address in server.addresses() {
        println!("listening on {address}");
    }
    if let Some(address) = server.admin_address() {
        println!("admin on {address}");
    }
    if let (Some(keys), Some(address)) = (development, server.addresses().first()) {
        let (client, secret) = (&keys.client_key, &keys.server_key);
        println!("development keys of app default: client {client}  server {secret}");
        println!(
            "  join:  npx wscat -c 'ws://{address}/v1/ws?key={client}' -x '{{\"type\":\"join\",\"channel\":\"room\"}}' -w 3600"
        );
        println!(
            "  send:  curl -H 'Authorization: Bearer {secret}' -d '{{\"channel\":\"room\",\"event\":\"hi\",\"message\":\"hello\"}}' http://{address}/v1/send"
        );
    }
    tracing::info!(workers, "ready");
    while signals.pending().next().is_none() {
        if server.is_broken() {
            tracing::error!("a worker has ended; draining the others");
            break;
        }
        std::thread::sleep(WATCH);
    }
    tracing::info!("draining");
    server.shut_down()?;
    tracing::info!("drained");
    Ok(())
}

fn start_log(config: &LogConfig) {
    let filter = EnvFilter::try_new(&config.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match config.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

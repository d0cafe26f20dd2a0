//! The `fanfare` binary: arguments, configuration, start, wait.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use fanfare_doctor::{Examination, Machine};
use fanfare_server::{
    Server,
    args::{self, Action, Args, Command, TrialArgs},
    config::{Config, Demo, DevelopmentKeys, LogConfig, LogFormat},
    needs,
    notify::notify,
    trial::{self, Trial, TrialEnd},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2},
    iterator::Signals,
};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The connections that a machine is examined for, if nothing names a number.
const DOCTOR_CONNECTIONS: u64 = 10_000;

fn main() -> ExitCode {
    let args = args::parse();
    if let Some(trial) = args.trial() {
        return try_trigger(trial);
    }
    if args.action() == Action::Document {
        return document(&args);
    }
    let config = match Config::load(&args, std::env::vars_os()) {
        Ok(config) => config,
        Err(error) => return fail(ExitCode::from(2), &error),
    };
    let done = match args.action() {
        Action::Check => {
            config.warnings.iter().for_each(|warning| complain(warning));
            let mut text = format!("{}\n", config.summary());
            match args.diff().map(|before| Config::load(&args.with_config(before), std::env::vars_os())) {
                None => {}
                Some(Ok(before)) => {
                    let changes = before.changes(&config);
                    changes.iter().for_each(|change| text += &format!("{change}\n"));
                }
                Some(Err(error)) => return fail(ExitCode::from(2), &error),
            }
            print(&text)
        }
        Action::Doctor => return doctor(&args, &config),
        Action::PrintConfig(secrets) => print(&config.to_toml(secrets)),
        Action::Serve | Action::Demo | Action::TryTrigger | Action::Document => serve(config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(ExitCode::FAILURE, &error),
    }
}

/// Examines the machine for the connections that the command line or the configuration names.
fn doctor(args: &Args, config: &Config) -> ExitCode {
    let Some(Command::Doctor { connections, json }) = &args.command else { return ExitCode::SUCCESS };
    let configured = Some(u64::from(config.connections)).filter(|connections| *connections > 0);
    let connections = connections.or(configured).unwrap_or(DOCTOR_CONNECTIONS);
    let examination = Examination::new(&Machine::own(), &needs(config, connections));
    let text = if *json { format!("{}\n", examination.to_json()) } else { examination.to_string() };
    match print(&text) {
        Ok(()) => ExitCode::from(examination.exit_status()),
        Err(error) => fail(ExitCode::FAILURE, &error),
    }
}

/// Writes what packages have of the command line.
fn document(args: &Args) -> ExitCode {
    let written = match (args.completions(), args.manual()) {
        (Some(text), _) => print(&String::from_utf8_lossy(&text)),
        (None, Some(directory)) => args::write_manual(directory).map_err(|error| {
            let problem = format!("cannot write to `{}`: {error}", directory.display());
            io::Error::new(error.kind(), problem)
        }),
        (None, None) => Ok(()),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(ExitCode::FAILURE, &error),
    }
}

/// Runs a trigger's script once. The exit code tells the verdict.
fn try_trigger(args: &TrialArgs) -> ExitCode {
    let Trial { report, end } = match trial::run(args) {
        Ok(trial) => trial,
        Err(problem) => return fail(ExitCode::from(2), &problem),
    };
    match print(&report) {
        Ok(()) => match end {
            TrialEnd::Admitted => ExitCode::SUCCESS,
            TrialEnd::Refused => ExitCode::from(3),
            TrialEnd::Failed => ExitCode::FAILURE,
        },
        Err(error) => fail(ExitCode::FAILURE, &error),
    }
}

fn fail(code: ExitCode, error: &dyn std::fmt::Display) -> ExitCode {
    complain(error);
    code
}

/// Says something on the standard error output, if anybody can hear it.
fn complain(sentence: &dyn std::fmt::Display) {
    // There is no other place to say that this one is closed.
    drop(writeln!(io::stderr(), "fanfare: {sentence}"));
}

/// Writes the whole of an answer, or says why that is impossible.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot write to the standard output: {error}"))
    })
}

/// How often the main thread makes sure that the workers live.
const WATCH: Duration = Duration::from_millis(100);

fn serve(config: Config) -> io::Result<()> {
    start_log(&config.log);
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    // From here on a signal waits for `wait`; before, it simply ended the process.
    let signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2])?;
    let (development, demo) = (config.development.clone(), config.demo);
    let workers = config.workers;
    let server = Server::start(config)?;
    // A server whose output nobody reads serves all the same.
    let text = match demo {
        Demo::On => invitation(&server),
        Demo::Off => announcement(&server, development.as_ref()),
    };
    if let Err(error) = print(&text) {
        tracing::warn!("{error}");
    }
    tracing::info!(workers, "ready");
    notify("READY=1");
    wait(signals, &server);
    tracing::info!("draining");
    notify("STOPPING=1");
    server.shut_down()?;
    tracing::info!("drained");
    Ok(())
}

/// Where the server listens, and how to try it if it has development keys.
fn announcement(server: &Server, development: Option<&DevelopmentKeys>) -> String {
    let mut text = String::new();
    for listening in server.addresses() {
        text += &format!("listening on {listening}\n");
    }
    for path in server.sockets() {
        text += &format!("listening on unix:{}\n", path.display());
    }
    if let Some(address) = server.admin_address() {
        text += &format!("admin on {address}\n");
    }
    if let Some(path) = server.admin_socket() {
        text += &format!("admin on unix:{}\n", path.display());
    }
    if let (Some(keys), Some(address)) = (development, server.addresses().first()) {
        let address = address.address;
        let (client, secret) = (&keys.client_key, &keys.server_key);
        text += &format!(
            "development keys of app default: client {client}  server {secret}
  join:  npx wscat -c 'ws://{address}/v1/ws?key={client}' -x '{{\"type\":\"join\",\"channel\":\"room\"}}' -w 3600
  send:  curl -H 'Authorization: Bearer {secret}' -d '{{\"channel\":\"room\",\"event\":\"hi\",\"message\":\"hello\"}}' \
             http://{address}/v1/send
  agnost: createClient('http://{address}/default', '{client}')
"
        );
    }
    text
}

/// The line that names the address of the demo's page.
fn invitation(server: &Server) -> String {
    match server.admin_address() {
        Some(address) => {
            format!("open http://{address}/demo/ in two browser windows; Ctrl-C ends the demo\n")
        }
        None => String::from("the demo's page is served by the admin listener, which is off\n"),
    }
}

/// Waits for the signal to end, or for the end of a worker.
fn wait(mut signals: Signals, server: &Server) {
    loop {
        for signal in signals.pending() {
            match signal {
                SIGHUP => server.reload(),
                SIGUSR1 | SIGUSR2 => tracing::debug!(signal, "a signal is ignored"),
                _ => return,
            }
        }
        if server.is_broken() {
            tracing::error!("a worker has ended; draining the others");
            return;
        }
        std::thread::sleep(WATCH);
    }
}

fn start_log(config: &LogConfig) {
    let filter = EnvFilter::try_new(&config.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    // A log that cannot be written must not end the server, which is what telling of it on a closed output
    // does.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colours)
        .log_internal_errors(false);
    match config.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

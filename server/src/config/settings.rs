//! The settings of the server that are not plain numbers: addresses, workers, the log.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::apps::PLACEHOLDER;
use super::error::ConfigError;
use super::layers::{Environment, Given};
use super::{AddressLimits, LogConfig, LogFormat, Password, WORKERS_MAX, WorkerCount, raw};
use crate::args::Args;

/// The most addresses to listen on.
pub(super) const LISTEN_MAX: usize = 16;

const LISTEN_DEFAULT: &str = "127.0.0.1:8080";
const ADMIN_LISTEN_DEFAULT: &str = "127.0.0.1:8081";
const FAILED_KEYS_DEFAULT: i64 = 1000;
const LEVEL_DEFAULT: &str = "info";

pub(super) fn listen(
    args: &Args,
    environment: &mut Environment,
    server: &raw::Server,
) -> Result<Vec<SocketAddr>, ConfigError> {
    let file = server.listen.as_ref().map(|texts| texts.0.as_slice());
    let given = environment.texts("server.listen", &args.listen, file)?;
    let others = server.listeners.len();
    let default = if others == 0 { vec![String::from(LISTEN_DEFAULT)] } else { Vec::new() };
    let given = given.unwrap_or_else(|| Given { name: String::from("server.listen"), value: default });
    let is_empty = given.value.is_empty() && others == 0;
    if is_empty || given.value.len() > LISTEN_MAX {
        return Err(ConfigError::setting(given.name, format_args!("must name 1 to {LISTEN_MAX} addresses")));
    }
    let mut addresses = Vec::new();
    for text in &given.value {
        let address = address(&given.name, text)?;
        // Port 0 asks the operating system for a free one, a different one each time.
        if address.port() != 0 && addresses.contains(&address) {
            return Err(ConfigError::setting(given.name, format_args!("names {address} twice")));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

pub(super) fn admin_listen(
    args: &Args,
    environment: &mut Environment,
    server: &raw::Server,
) -> Result<Option<SocketAddr>, ConfigError> {
    let key = "server.admin_listen";
    let given = environment.text(key, args.admin_listen.as_ref(), server.admin_listen.as_ref())?;
    match given {
        Some(given) if given.value == "off" => Ok(None),
        Some(given) => address(&given.name, &given.value).map(Some),
        None => address(key, ADMIN_LISTEN_DEFAULT).map(Some),
    }
}

pub(super) fn dashboard_password(
    environment: &mut Environment,
    server: &raw::Server,
) -> Result<Option<Password>, ConfigError> {
    let given = environment.text("server.dashboard_password", None, server.dashboard_password.as_ref())?;
    let Some(Given { name, value }) = given else { return Ok(None) };
    if value == PLACEHOLDER {
        let problem = format!(
            "is the placeholder `{PLACEHOLDER}` of a printed configuration: print it with `--show-secrets`, \
             or set `FANFARE_DASHBOARD_PASSWORD`"
        );
        return Err(ConfigError::setting(name, problem));
    }
    let problem = || {
        let (min, max) = (Password::BYTES.start(), Password::BYTES.end());
        ConfigError::setting(
            name,
            format_args!("is too short or too long: it must have {min} to {max} bytes"),
        )
    };
    Password::new(&value).map(Some).ok_or_else(problem)
}

/// The data directory. A relative name is looked up in `base`; an empty name is no directory.
pub(super) fn data_dir(
    environment: &mut Environment,
    server: &raw::Server,
    base: Option<&Path>,
) -> Result<Option<PathBuf>, ConfigError> {
    let given = environment.text("server.data_dir", None, server.data_dir.as_ref())?;
    let Some(Given { name, value }) = given.filter(|given| !given.value.is_empty()) else { return Ok(None) };
    let path = base.map_or_else(|| PathBuf::from(&value), |base| base.join(&value));
    match path.is_dir() {
        true => Ok(Some(path)),
        false => {
            let problem = format_args!("is `{}`, which is no directory: make it first", path.display());
            Err(ConfigError::setting(name, problem))
        }
    }
}

pub(super) fn address(name: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| {
        let problem =
            format!("is `{text}`: write an IP address and a port, such as 127.0.0.1:8080 or [::]:8080");
        ConfigError::setting(name, problem)
    })
}

pub(super) fn address_limits(
    environment: &mut Environment,
    limits: &raw::ServerLimits,
) -> Result<AddressLimits, ConfigError> {
    let mut number = |name: &str, file, default| {
        environment.number(&format!("server.limits.{name}"), file, default, 0..=16_777_216)
    };
    Ok(AddressLimits {
        connections: number("address_connections", limits.address_connections, 0)?,
        handshakes_per_second: number(
            "address_handshakes_per_second",
            limits.address_handshakes_per_second,
            0,
        )?,
        failed_keys_per_minute: number(
            "address_failed_keys_per_minute",
            limits.address_failed_keys_per_minute,
            FAILED_KEYS_DEFAULT,
        )?,
    })
}

/// The number of workers, and where it comes from.
pub(super) struct Workers {
    pub(super) workers: usize,
    pub(super) worker_count: WorkerCount,
}

pub(super) fn workers(
    args: &Args,
    environment: &mut Environment,
    server: &raw::Server,
) -> Result<Workers, ConfigError> {
    let file = server.workers.as_ref().map(|value| match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let given = environment.text("server.workers", args.workers.as_ref(), file.as_ref())?;
    let count = match given {
        None => 0,
        Some(Given { value, .. }) if value == "auto" => 0,
        Some(Given { name, value }) => {
            let count = value.parse().ok().filter(|count| (0..=WORKERS_MAX).contains(count));
            count.ok_or_else(|| {
                let problem =
                    format_args!("is {value}: it must be a whole number from 0 to {WORKERS_MAX}, or auto");
                ConfigError::setting(name, problem)
            })?
        }
    };
    Ok(match count {
        0 => Workers { workers: one_per_core(), worker_count: WorkerCount::OnePerCore },
        workers => Workers { workers, worker_count: WorkerCount::Fixed },
    })
}

fn one_per_core() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX)
}

pub(super) fn pin(
    args: &Args,
    environment: &mut Environment,
    server: &raw::Server,
) -> Result<bool, ConfigError> {
    let file = server.pin.map(|pin| pin.to_string());
    let given = environment.text("server.pin", args.pin.as_ref(), file.as_ref())?;
    given.map_or(Ok(false), |Given { name, value }| {
        let problem = || ConfigError::setting(name, format_args!("is `{value}`: it must be true or false"));
        value.parse().map_err(|_| problem())
    })
}

pub(super) fn log(
    args: &Args,
    environment: &mut Environment,
    raw: &raw::Log,
) -> Result<LogConfig, ConfigError> {
    let level = environment.text("log.level", args.log.as_ref(), raw.level.as_ref())?;
    let format = environment.text("log.format", args.log_format.as_ref(), raw.format.as_ref())?;
    let level = match level {
        Some(given) if !given.value.split(',').all(is_directive) => {
            let problem = format!(
                "is `{}`: write off, error, warn, info, debug or trace, or such levels per target as in \
                 `info,fanfare_server=debug`",
                given.value
            );
            return Err(ConfigError::setting(given.name, problem));
        }
        Some(given) => given.value,
        None => String::from(LEVEL_DEFAULT),
    };
    let format = match format {
        None => LogFormat::default(),
        Some(given) => match given.value.as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => {
                return Err(ConfigError::setting(
                    given.name,
                    format_args!("is `{other}`: it must be text or json"),
                ));
            }
        },
    };
    Ok(LogConfig { level, format })
}

fn is_directive(text: &str) -> bool {
    let is_level = |text: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&text);
    let is_target = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-'))
    };
    text.split_once('=').map_or(is_level(text), |(target, level)| is_target(target) && is_level(level))
}

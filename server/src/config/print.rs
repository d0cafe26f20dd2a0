//! The effective configuration, written as a file that is read back to the same one.

use fanfare_core::app::{App, ChannelOptions, InvalidSession, SlowConsumer};

use super::apps::{AppSource, PLACEHOLDER};
use super::{Config, Endpoint, LogFormat, WorkerCount, agnost, raw, xano};
use crate::{args::Secrets, trigger::spec::RawTrigger};

const HIDDEN_NOTE: &str = "\
# Keys and secrets are hidden: where `<hidden>` stands, this file is refused. Print it with --show-secrets to use it, or
# name a variable that holds the key (client_key_env, server_key_env, secret_env): such references are printed as they are.
";

const DEVELOPMENT_NOTE: &str = "\
# No app is configured: the server makes an app `default` with development keys, and listens on loopback only.
";

pub(super) fn to_toml(config: &Config, secrets: Secrets) -> String {
    let file = raw::File {
        server: server(config, secrets),
        log: raw::Log {
            level: Some(config.log.level.clone()),
            format: Some(String::from(match config.log.format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            })),
        },
        apps: match config.development {
            Some(_) => Default::default(),
            None => {
                let apps = config.apps.iter().zip(&config.secrets);
                apps.map(|(app, own)| (app.name.to_string(), print_app(app, own, secrets))).collect()
            }
        },
    };
    let text = toml::to_string_pretty(&file).expect("tables of strings, integers and booleans are TOML");
    let note = match (&config.development, secrets) {
        (Some(_), _) => DEVELOPMENT_NOTE,
        (None, Secrets::Hidden) => HIDDEN_NOTE,
        (None, Secrets::Shown) => "",
    };
    format!("{note}{text}")
}

fn server(config: &Config, secrets: Secrets) -> raw::Server {
    raw::Server {
        listen: Some(raw::Texts(config.listen.iter().map(Endpoint::to_string).collect())),
        admin_listen: Some(config.admin_listen.as_ref().map_or(String::from("off"), Endpoint::to_string)),
        socket_mode: Some(format!("{:04o}", config.socket_mode)),
        trusted_proxies: print_proxies(config),
        forwarding_header: Some(String::from(config.forwarding_header.name())),
        dashboard_password: config.dashboard_password.as_ref().map(|own| shown(own.text(), secrets)),
        workers: Some(match config.worker_count {
            WorkerCount::OnePerCore => toml::Value::String(String::from("auto")),
            WorkerCount::Fixed => toml::Value::Integer(integer(config.workers)),
        }),
        pin: Some(config.pin),
        spin_us: Some(config.spin_us.into()),
        ping_interval_ms: Some(config.ping_interval_ms.into()),
        request_timeout_ms: Some(config.request_timeout_ms.into()),
        message_timeout_ms: Some(config.message_timeout_ms.into()),
        keep_alive_ms: Some(config.keep_alive_ms.into()),
        access_tokens: config.access.print(secrets),
        drain_spread_ms: Some(config.drain_spread_ms.into()),
        drain_ms: Some(config.drain_ms.into()),
        data_dir: Some(config.data_dir.as_ref().map_or_else(String::new, |path| path.display().to_string())),
        backlog: Some(config.backlog.into()),
        limits: raw::ServerLimits {
            connections: Some(config.connections.into()),
            address_connections: Some(config.address_limits.connections.into()),
            address_handshakes_per_second: Some(config.address_limits.handshakes_per_second.into()),
            address_failed_keys_per_minute: Some(config.address_limits.failed_keys_per_minute.into()),
            memory_bytes: Some(i64::try_from(config.memory_bytes).unwrap_or(i64::MAX)),
            frame_bytes: Some(integer(config.frame_bytes)),
            fragments: Some(integer(config.fragments)),
            head_bytes: Some(integer(config.head_bytes)),
            headers: Some(integer(config.headers)),
            body_bytes: Some(integer(config.body_bytes)),
            mailbox_depth: Some(integer(config.mailbox_depth)),
        },
        acme: config.acme.as_ref().map(|acme| acme.source.clone()),
        listeners: config.groups.iter().map(|listener| listener.source.clone()).collect(),
    }
}

fn print_proxies(config: &Config) -> Option<raw::Texts> {
    let proxies = &config.trusted_proxies;
    (!proxies.is_empty()).then(|| raw::Texts(proxies.texts()))
}

fn print_app(app: &App, own: &AppSource, secrets: Secrets) -> raw::App {
    let limits = &app.limits;
    let list = |texts: &[String]| (!texts.is_empty()).then(|| raw::Texts(texts.to_vec()));
    let keys = |texts: &[String]| list(&texts.iter().map(|text| shown(text, secrets)).collect::<Vec<_>>());
    let session_key = |key: &raw::SessionKey| raw::SessionKey {
        secret: key.secret.as_ref().map(|secret| shown(secret, secrets)),
        ..key.clone()
    };
    let trigger = |raw: &RawTrigger| RawTrigger {
        secret: raw.secret.as_ref().map(|secret| shown(secret, secrets)),
        ..raw.clone()
    };
    let bound_key =
        |key: &raw::Key| raw::Key { key: key.key.as_ref().map(|text| shown(text, secrets)), ..key.clone() };
    let own_options = print_options(app.default_options());
    raw::App {
        client_keys: keys(&own.client_keys),
        client_key: None,
        client_key_env: list(&own.client_key_env),
        server_keys: keys(&own.server_keys),
        server_key: None,
        server_key_env: list(&own.server_key_env),
        origins: Some(raw::Texts(app.origins.entries())),
        key_required: Some(app.key_required),
        member_addresses: Some(app.member_addresses),
        session_required: Some(app.session_required),
        session_exp_required: Some(app.sessions.require_exp()),
        session_leeway_seconds: Some(app.sessions.leeway_seconds().try_into().unwrap_or(i64::MAX)),
        session_invalid: Some(String::from(match app.invalid_session {
            InvalidSession::Refuse => "refuse",
            InvalidSession::Anonymous => "anonymous",
        })),
        session_user_claim: Some(String::from(app.sessions.user_claim())),
        session_id_claim: app.sessions.id_claim().map(String::from),
        echo: Some(app.echo),
        membership_to_send: own_options.membership_to_send,
        announce: own_options.announce,
        presence_by_user: own_options.presence_by_user,
        slow_consumer: own_options.slow_consumer,
        history_messages: own_options.history_messages,
        history_bytes: own_options.history_bytes,
        history_age_s: own_options.history_age_s,
        show_sender: Some(app.show_sender),
        sender_edits: Some(app.sender_edits),
        limits: raw::AppLimits {
            message_bytes: Some(integer(limits.message_bytes)),
            profile_bytes: Some(integer(limits.profile_bytes)),
            channel_name_bytes: Some(integer(limits.channel_name_bytes)),
            event_name_bytes: Some(integer(limits.event_name_bytes)),
            channels_per_connection: Some(limits.channels_per_connection.into()),
            connections: Some(limits.connections.into()),
            messages_per_second: Some(limits.messages_per_second.into()),
            outbound_bytes: Some(integer(limits.outbound_bytes)),
            history_bytes: Some(integer(limits.history_bytes)),
            members_bytes: Some(integer(limits.members_bytes)),
            resume_ms: Some(limits.resume_ms.into()),
            resume_bytes: Some(integer(limits.resume_bytes)),
            parked_sessions: Some(integer(limits.parked_sessions)),
            parked_bytes: Some(integer(limits.parked_bytes)),
            trigger_calls: Some(integer(limits.trigger_calls)),
            trigger_bytes: Some(integer(limits.trigger_bytes)),
        },
        agnost: app.agnost.as_ref().map(agnost::print),
        channelstream: app.channelstream.as_ref().map(|options| {
            let source = own.channelstream.clone().unwrap_or_default();
            super::channelstream::print(options, source, |secret| shown(secret, secrets))
        }),
        xano: app.xano.as_ref().map(xano::print),
        channels: own.channels.clone(),
        triggers: own.triggers.iter().map(|spec| trigger(&spec.raw)).collect(),
        session_keys: own.session_keys.iter().map(session_key).collect(),
        keys: own.keys.iter().map(bound_key).collect(),
        session_key_sets: own.session_key_sets.clone(),
    }
}

fn print_options(options: ChannelOptions) -> raw::ChannelRule {
    raw::ChannelRule {
        r#match: None,
        membership_to_send: Some(options.membership_to_send),
        announce: Some(options.announce),
        presence_by_user: Some(options.presence_by_user),
        slow_consumer: Some(String::from(match options.slow_consumer {
            SlowConsumer::Disconnect => "disconnect",
            SlowConsumer::Drop => "drop",
        })),
        history_messages: Some(options.history.messages.into()),
        history_bytes: Some(options.history.bytes.into()),
        history_age_s: Some(i64::from(options.history.age_ms) / 1000),
        ..raw::ChannelRule::default()
    }
}

fn shown(secret: &str, secrets: Secrets) -> String {
    match secrets {
        Secrets::Shown => String::from(secret),
        Secrets::Hidden => String::from(PLACEHOLDER),
    }
}

/// Sizes and counts are range-checked far below the end of `i64`.
fn integer(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

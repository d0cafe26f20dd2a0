//! From options to a plan: what is left out gets its value, and what options mean together is worked out.
//! Whether the plan makes sense is the plan's business.

use std::net::{SocketAddr, ToSocketAddrs};

use super::options::{Common, Connect, DriverArgs, Idle, PaceArgs, Presence, Run, Scenario, Storm};
use crate::{
    clock::now_ns,
    plan::{
        ConnectPlan, DriverPlan, IdlePlan, Pace, Plan, PlanError, PresencePlan, PublishPlan, Rate, Scope,
        StormPlan, TlsPlan, Work,
    },
    thresholds::Threshold,
};

/// Cycles under way at one time if the command line does not say how many.
const MIN_CYCLES: u32 = 32;
const MAX_CYCLES: u32 = 16_384;

impl Scenario {
    /// What every scenario has; None for what is none.
    pub(super) fn common(&self) -> Option<&Common> {
        Some(match self {
            Self::Compare(_) | Self::Doctor(_) | Self::Child => return None,
            Self::Completions { .. } | Self::Man { .. } => return None,
            Self::Fanout(run) => &run.common,
            Self::Send(run) => &run.common,
            Self::Broadcast(run) => &run.common,
            Self::Slow(run) => &run.common,
            Self::Storm(run) => &run.common,
            Self::Idle(run) => &run.common,
            Self::Connect(run) => &run.common,
            Self::Presence(run) => &run.common,
            Self::Mix(run) => &run.common,
            Self::Ab(run) => &run.common,
        })
    }

    /// The plan of a scenario, not checked yet.
    pub(super) fn into_plan(self) -> Result<Plan, PlanError> {
        let Some((work, common)) = self.into_work() else {
            return Err(PlanError("A mix is made of scenarios.".into()));
        };
        let Server { address, host, path, tls_name } = resolve(&common.url)?;
        let tls = tls_name.map(|name| TlsPlan {
            name,
            ca: common.ca.clone(),
            insecure: common.insecure,
            resumption: common.resumption,
        });
        if tls.is_none() && (common.ca.is_some() || common.insecure || common.resumption) {
            return Err(PlanError("--ca, --insecure and --resumption are for a wss:// URL.".into()));
        }
        if common.prefix.bytes().any(|byte| !byte.is_ascii_alphanumeric() && !b"-._:/".contains(&byte)) {
            let sentence = "A prefix of channels has letters, digits and - . _ : / only.";
            return Err(PlanError(sentence.into()));
        }
        let seed = common.seed.unwrap_or_else(|| now_ns() ^ u64::from(std::process::id()) << 40);
        let mixed = (seed ^ seed >> 33).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        Ok(Plan {
            spin: common.spin || (work.is_open_loop() && !common.sleep),
            lower_bound: common.lower_bound,
            fail_if: Threshold::read_all(&common.fail_if).map_err(|why| PlanError(format!("{why}.")))?,
            shared: false,
            rivals: 0,
            work,
            address,
            host,
            tls,
            driver: common.driver.into_plan(path)?,
            server_pids: common.server_pid,
            processes: common.processes,
            threads: common.threads,
            pin: common.pin,
            warmup_seconds: common.warmup,
            window_seconds: common.duration,
            windows: common.windows,
            drain_seconds: common.drain,
            sources: common.sources,
            parallel: common.parallel,
            prefix: common.prefix,
            seed,
            run: (mixed >> 32) as u32,
        })
    }
}

impl DriverArgs {
    /// With the path that the URL has, which is another way to say `--path`.
    fn into_plan(self, of_url: Option<String>) -> Result<DriverPlan, PlanError> {
        let takes_path = !["native", "pusher", "channelstream"].contains(&self.driver.as_str());
        if of_url.is_some() && (self.path.is_some() || !takes_path) {
            let sentence = match takes_path {
                true => "The URL has a path, and so has --path: one will do.".to_owned(),
                false => {
                    format!("The driver {} has a path of its own: leave that of the URL out.", self.driver)
                }
            };
            return Err(PlanError(sentence));
        }
        Ok(DriverPlan {
            name: self.driver,
            app: self.app,
            key: self.key,
            secret: self.secret,
            path: self.path.or(of_url),
            publish_path: self.publish_path,
            welcome: self.welcome,
            join: self.join,
            joined: self.joined,
            send: self.send,
            polling: self.polling,
            publish_http: self.publish_http,
            triggers: self.triggers,
            batch: self.batch,
        })
    }
}

impl Scenario {
    /// None for what is no scenario.
    fn into_work(self) -> Option<(Work, Common)> {
        Some(match self {
            Self::Mix(_) | Self::Ab(_) | Self::Compare(_) | Self::Doctor(_) | Self::Child => return None,
            Self::Completions { .. } | Self::Man { .. } => return None,
            Self::Fanout(Run { own, common }) => {
                (Work::Fanout(own.pace.into_publish(1, own.subscribers, own.publishers)), common)
            }
            Self::Send(Run { own, common }) => {
                let plan = own.pace.into_publish(own.channels, own.members, 1);
                (Work::Send(PublishPlan { publishers_join: true, echo: own.echo, ..plan }), common)
            }
            Self::Broadcast(Run { own, common }) => {
                let plan = own.pace.into_publish(1, own.connections, own.publishers);
                let scope = Scope::Everyone;
                (Work::Broadcast(PublishPlan { publishers_join: true, scope, ..plan }), common)
            }
            Self::Slow(Run { own, common }) => {
                let slow = own.slow.of(own.subscribers);
                let plan = own.pace.into_publish(1, own.subscribers, own.publishers);
                (Work::Slow(PublishPlan { slow, ..plan }), common)
            }
            Self::Storm(Run { own, common }) => (Work::Storm(own.into_storm()), common),
            Self::Idle(Run { own, common }) => (Work::Idle(own.into_idle()), common),
            Self::Connect(Run { own, common }) => (Work::Connect(own.into_connect()), common),
            Self::Presence(Run { own, common }) => (Work::Presence(own.into_presence()), common),
        })
    }
}

impl Storm {
    fn into_storm(self) -> StormPlan {
        let Self { connections, members, rate, resume, bystanders, bystander_rate, payload } = self;
        StormPlan { connections, members, rate, resume, bystanders, bystander_rate, payload }
    }
}

impl Idle {
    fn into_idle(self) -> IdlePlan {
        let Self { connections, base, members, settle } = self;
        IdlePlan { base, connections, members, settle_seconds: settle }
    }
}

impl Presence {
    fn into_presence(self) -> PresencePlan {
        let Self { channels, members, movers, updates, queries, rate, notices } = self;
        let watchers = members.saturating_sub(movers);
        PresencePlan { channels, watchers, movers, updates, queries, rate, notices }
    }
}

impl Connect {
    fn into_connect(self) -> ConnectPlan {
        let rate = self.rate.map(|from| Rate { from, to: self.to.unwrap_or(from) });
        let of_a_second = rate.map_or(0.0, |rate| rate.from.max(rate.to)) as u32;
        let parallel = self.cycles.unwrap_or(of_a_second.clamp(MIN_CYCLES, MAX_CYCLES));
        ConnectPlan { parallel, join: !self.no_join, rate }
    }
}

impl PaceArgs {
    /// A plan in which publishers have connections of their own, and everyone reads.
    fn into_publish(self, channels: u32, members: u32, publishers: u32) -> PublishPlan {
        let pace = match self.rate {
            Some(rate) => Pace::Open { rate },
            None => Pace::Closed { window: self.window },
        };
        PublishPlan {
            channels,
            members,
            publishers,
            publishers_join: false,
            echo: false,
            payload: self.payload,
            pace,
            scope: Scope::Channel,
            slow: 0,
            expiry_seconds: self.expiry,
        }
    }
}

/// Host and port of a `ws://` or `wss://` URL, resolved; and its path, if it has one.
fn resolve(url: &str) -> Result<Server, PlanError> {
    let wrong = |why: &str| PlanError(format!("The URL {url:?} {why}."));
    let after = |scheme: &str| {
        url.get(..scheme.len())
            .filter(|begin| begin.eq_ignore_ascii_case(scheme))
            .map(|_| &url[scheme.len()..])
    };
    let (rest, is_tls) = match (after("ws://"), after("wss://")) {
        (Some(rest), _) => (rest, false),
        (_, Some(rest)) => (rest, true),
        _ => return Err(wrong("does not begin with ws:// or wss://")),
    };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if host.contains(['?', '#', '@']) || path.contains('#') {
        return Err(wrong("has more than a host, a port and a path"));
    }
    let (name, port) = match host.rsplit_once(':') {
        // Of an address in brackets, colons are a part.
        Some((name, port)) if !port.contains(']') => {
            (name, port.parse().map_err(|_| wrong("has a port that is none"))?)
        }
        _ => (host, if is_tls { 443 } else { 80 }),
    };
    if name.contains(':') && !(name.starts_with('[') && name.ends_with(']')) {
        return Err(wrong("has an IPv6 address without brackets: ws://[::1]:8080"));
    }
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let address = (bare, port).to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    Ok(Server {
        address: address
            .filter(|_| !bare.is_empty())
            .ok_or_else(|| wrong("names no host that can be found"))?,
        host: host.to_owned(),
        path: (path.len() > 1).then(|| path.to_owned()),
        tls_name: is_tls.then(|| bare.to_owned()),
    })
}

/// Where a server is.
struct Server {
    address: SocketAddr,
    /// Value of the `Host` header.
    host: String,
    path: Option<String>,
    /// With TLS, the name that the server's certificate is to have.
    tls_name: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Args;

    fn plan(args: &str) -> Result<Plan, PlanError> {
        let args = Args::try_parse_from(args.split_whitespace()).expect("well-formed");
        args.scenario.into_plan()
    }

    #[test]
    fn open_loop_spins_and_closed_loop_sleeps_unless_told_otherwise() {
        for (args, spin) in [
            ("loadgen fanout", false),
            ("loadgen fanout --spin", true),
            ("loadgen fanout --rate 20", true),
            ("loadgen fanout --rate 20 --sleep", false),
        ] {
            assert_eq!(plan(args).expect("valid").spin, spin, "{args}");
        }
    }

    #[test]
    fn last_one_of_a_repeated_option_counts() {
        let plan = plan("loadgen fanout -d 1 --threads 3 -d 2 --threads 4").expect("valid");
        assert_eq!((plan.window_seconds, plan.threads), (2.0, 4));
    }

    #[test]
    fn plans_that_contradict_themselves_are_refused_with_a_sentence() {
        for args in [
            "loadgen fanout --payload 61",
            "loadgen fanout --window 0",
            "loadgen fanout --rate 0",
            "loadgen fanout --expiry 0",
            "loadgen fanout -n 0",
            "loadgen send --members 1",
            "loadgen slow -n 10 --slow 10",
            "loadgen slow -n 10 --slow 95%",
            "loadgen broadcast -n 5 --publishers 6",
            "loadgen storm -n 0",
            "loadgen storm --rate=-1",
            "loadgen storm --bystanders 5 --bystander-rate 0",
            "loadgen storm --rate 5 --payload 10",
            "loadgen fanout --drain=-1",
            "loadgen idle -n 1000",
            "loadgen presence --movers 20",
            "loadgen presence --movers 5 --rate 2001",
            "loadgen presence --movers 5 --rate nan",
            "loadgen presence --rate 0",
            "loadgen presence --updates --notices merged",
            "loadgen fanout -d 0",
            "loadgen idle -n 50000 --sources 1",
            "loadgen idle -n 4000000000",
            "loadgen idle --processes 0",
            "loadgen idle --processes 1025",
            "loadgen idle --processes 3 --sources 2",
            "loadgen fanout --driver smoke-signals",
            "loadgen fanout --driver pusher --publishers 1",
            "loadgen fanout --driver pusher --key k --secret s",
            "loadgen send --driver pusher --key k --secret s --echo",
            "loadgen send --driver nchan",
            "loadgen send --driver xano",
            "loadgen fanout --driver xano",
            "loadgen presence --driver xano --movers 2",
            "loadgen presence --driver channelstream --secret s --polling",
            "loadgen storm --resume --driver socketio",
            "loadgen fanout --triggers --driver nats",
            "loadgen fanout --triggers --threads 2",
            "loadgen fanout --triggers --publish-http --secret s",
            "loadgen fanout --driver channelstream",
            "loadgen send --driver channelstream --secret s --echo",
            "loadgen fanout --url wss://127.0.0.1 --ca /nowhere",
            "loadgen fanout --url wss://127.0.0.1 --ca /dev/null",
            "loadgen fanout --publish-http",
            "loadgen send --publish-http --secret s",
            "loadgen broadcast --publish-http --secret s",
            "loadgen fanout --driver xano --publishers 1 --publish-http",
            "loadgen fanout --polling",
            "loadgen send --driver agnost --polling",
            "loadgen send --driver centrifugo",
            "loadgen broadcast --driver nats",
            "loadgen presence --driver plain",
            "loadgen presence --driver socketio --updates",
            "loadgen connect --driver nchan --no-join",
            "loadgen connect --rate 0",
            "loadgen fanout --server-pid 4194305",
            "loadgen fanout --pin 4095",
            "loadgen fanout --pin 0,1000000",
            "loadgen fanout -n 4294967295",
            "loadgen fanout --publishers 4294967295",
            "loadgen broadcast -n 4294967295 --publishers 4294967295",
            "loadgen send --channels 100000 --members 100000",
            "loadgen send --channels 4294967295 --members 4294967295",
            "loadgen slow --slow 4294967295",
            "loadgen storm -n 4294967295",
            "loadgen storm --members 4294967295",
            "loadgen storm --bystanders 4294967295 --bystander-rate 1",
            "loadgen presence --channels 65536 --members 65537",
            "loadgen presence --members 4294967295",
            "loadgen connect --cycles 4294967295",
            "loadgen idle -n 4294967295 --base 4294967294",
            "loadgen idle --settle inf",
            "loadgen idle --settle=-1",
            "loadgen idle --sources 4294967295",
            "loadgen idle -n 5000 --base 10 --threads 4294967295",
            "loadgen connect --rate nan",
            "loadgen storm --rate nan",
            "loadgen fanout -d nan",
            "loadgen connect --rate 10 --to 0",
            "loadgen connect --rate 10 --cycles 1 --threads 2",
            "loadgen fanout --driver plain --send {channel}",
        ] {
            let error = plan(args).expect("parses").check().expect_err(args);
            assert!(error.0.ends_with('.') && !error.0.contains('\n'), "{error}");
        }
    }

    #[test]
    fn urls_that_name_no_server_are_refused() {
        for url in [
            "http://127.0.0.1",
            "wss://",
            "wss:/127.0.0.1",
            "ws",
            "ws://:",
            "ws://",
            "ws://:80",
            "ws:///path",
            "ws://::1:8080",
            "ws://[::1",
            "ws://127.0.0.1:99999",
            "ws://127.0.0.1:",
            "ws://user@127.0.0.1",
            "ws://127.0.0.1/#there",
        ] {
            assert!(resolve(url).is_err(), "{url}");
        }
        for (url, address, host, path) in [
            ("ws://127.0.0.1:9/", "127.0.0.1:9", "127.0.0.1:9", None),
            ("WS://127.0.0.1", "127.0.0.1:80", "127.0.0.1", None),
            ("wss://127.0.0.1/x", "127.0.0.1:443", "127.0.0.1", Some("/x")),
            ("WSS://127.0.0.1:9", "127.0.0.1:9", "127.0.0.1:9", None),
            ("ws://[::1]:8080", "[::1]:8080", "[::1]:8080", None),
            ("ws://[::1]/", "[::1]:80", "[::1]", None),
            ("ws://127.0.0.1:9/a/b?c=d", "127.0.0.1:9", "127.0.0.1:9", Some("/a/b?c=d")),
        ] {
            let server = resolve(url).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((server.address, server.host.as_str()), (address.parse().expect("an address"), host));
            assert_eq!(server.path.as_deref(), path);
            let tls_name = url.to_lowercase().starts_with("wss:").then_some("127.0.0.1");
            assert_eq!(server.tls_name.as_deref(), tls_name);
        }
        let path =
            plan("loadgen fanout --driver plain --url ws://127.0.0.1:9/chat").expect("valid").driver.path;
        assert_eq!(path.as_deref(), Some("/chat"));
        for line in [
            "loadgen fanout --url ws://127.0.0.1:9/chat",
            "loadgen fanout --driver plain --path /x --url ws://127.0.0.1:9/chat",
            "loadgen fanout --insecure",
            "loadgen fanout --resumption",
            "loadgen fanout --ca /etc/hosts",
        ] {
            assert!(plan(line).is_err(), "{line}");
        }
    }
}

//! From options to a plan: what is left out gets its value, and what options mean together is worked out. Whether the
//! plan makes sense is the plan's business.

use std::net::{SocketAddr, ToSocketAddrs};

use super::{
    Args,
    options::{Connect, DriverArgs, PaceArgs, Scenario},
};
use crate::{
    clock::now_ns,
    plan::{
        ConnectPlan, DriverPlan, IdlePlan, Pace, Plan, PlanError, PresencePlan, PublishPlan, Rate, Scope,
        StormPlan, Work,
    },
};

/// Cycles under way at one time if the command line does not say how many.
const MIN_CYCLES: u32 = 32;
const MAX_CYCLES: u32 = 16_384;

impl Args {
    /// The plan of a scenario, not checked yet.
    pub(super) fn into_plan(self) -> Result<Plan, PlanError> {
        let common = self.common;
        let Some(work) = self.scenario.into_work() else {
            return Err(PlanError("A mix is made of scenarios.".into()));
        };
        let (address, host) = resolve(&common.url)?;
        if common.prefix.bytes().any(|byte| !byte.is_ascii_alphanumeric() && !b"-._:/".contains(&byte)) {
            let sentence = "A prefix of channels has letters, digits and - . _ : / only.";
            return Err(PlanError(sentence.into()));
        }
        let seed = common.seed.unwrap_or_else(|| now_ns() ^ u64::from(std::process::id()) << 40);
        let mixed = (seed ^ seed >> 33).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        Ok(Plan {
            spin: common.spin || (work.is_open_loop() && !common.sleep),
            lower_bound: common.lower_bound,
            work,
            address,
            host,
            driver: common.driver.into_plan(),
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
    fn into_plan(self) -> DriverPlan {
        DriverPlan {
            name: self.driver,
            app: self.app,
            key: self.key,
            secret: self.secret,
            path: self.path,
            publish_path: self.publish_path,
            welcome: self.welcome,
            join: self.join,
            joined: self.joined,
            send: self.send,
        }
    }
}

impl Scenario {
    /// None for what is no scenario.
    fn into_work(self) -> Option<Work> {
        Some(match self {
            Self::Mix(_) | Self::Compare(_) | Self::Child => return None,
            Self::Fanout(args) => Work::Fanout(args.pace.into_publish(1, args.subscribers, args.publishers)),
            Self::Send(args) => Work::Send(PublishPlan {
                publishers_join: true,
                echo: args.echo,
                ..args.pace.into_publish(args.channels, args.members, 1)
            }),
            Self::Broadcast(args) => Work::Broadcast(PublishPlan {
                publishers_join: true,
                scope: Scope::Everyone,
                ..args.pace.into_publish(1, args.connections, args.publishers)
            }),
            Self::Slow(args) => Work::Slow(PublishPlan {
                slow: args.slow.of(args.subscribers),
                ..args.pace.into_publish(1, args.subscribers, args.publishers)
            }),
            Self::Storm(args) => Work::Storm(StormPlan {
                connections: args.connections,
                members: args.members,
                rate: args.rate,
                bystanders: args.bystanders,
                bystander_rate: args.bystander_rate,
                payload: args.payload,
            }),
            Self::Idle(args) => Work::Idle(IdlePlan {
                base: args.base,
                connections: args.connections,
                members: args.members,
                settle_seconds: args.settle,
            }),
            Self::Connect(args) => Work::Connect(args.into_connect()),
            Self::Presence(args) => Work::Presence(PresencePlan {
                channels: args.channels,
                watchers: args.members.saturating_sub(args.movers),
                movers: args.movers,
                updates: args.updates,
                queries: args.queries,
            }),
        })
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

/// Host and port of a `ws://` URL, resolved.
fn resolve(url: &str) -> Result<(SocketAddr, String), PlanError> {
    let wrong = |why: &str| PlanError(format!("The URL {url:?} {why}."));
    let host = url.strip_prefix("ws://").ok_or_else(|| wrong("does not begin with ws://"))?;
    let host = host.trim_end_matches('/');
    if host.contains(['/', '?', '#', '@']) {
        return Err(wrong("has more than a host and a port"));
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
    let address = with_port.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    Ok((address.ok_or_else(|| wrong("names no host that can be found"))?, host.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(args: &str) -> Result<Plan, PlanError> {
        let args = Args::try_parse_from(args.split_whitespace()).expect("well-formed");
        args.into_plan()
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
            "loadgen send --driver centrifugo",
            "loadgen broadcast --driver nats",
            "loadgen presence --driver plain",
            "loadgen presence --driver socketio --updates",
            "loadgen connect --driver nchan --no-join",
            "loadgen connect --rate 0",
            "loadgen fanout --server-pid 4194305",
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
        for url in ["http://127.0.0.1", "ws://127.0.0.1/path", "ws://:", "ws://"] {
            assert!(resolve(url).is_err(), "{url}");
        }
        let (address, host) = resolve("ws://127.0.0.1:9/").expect("valid");
        assert_eq!((address.port(), host.as_str()), (9, "127.0.0.1:9"));
    }
}

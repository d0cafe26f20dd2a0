//! The loss detector against a server that loses, repeats, reorders, misdelivers, changes and hangs up on
//! purpose, and every scenario against one that does not.

mod stub;

use fanfare_loadgen::{
    ConnectPlan, DriverPlan, Faults, Gate, IdlePlan, Notices, Pace, Plan, PresencePlan, PublishPlan, Rate,
    Report, Row, Scope, StormPlan, Verdict, Work, run,
};
use stub::{Mischief, Stub};

const CLOSED: Pace = Pace::Closed { window: 8 };
const OPEN: Pace = Pace::Open { rate: 500.0 };

fn plan(stub: &Stub, threads: u32, work: Work) -> Plan {
    Plan {
        work,
        address: stub.address(),
        host: stub.address().to_string(),
        tls: None,
        driver: DriverPlan {
            name: "native".into(),
            app: "default".into(),
            key: "key".into(),
            ..DriverPlan::default()
        },
        server_pids: Vec::new(),
        processes: 1,
        threads,
        pin: Vec::new(),
        spin: false,
        // A stub is no server to find the ceiling of.
        lower_bound: true,
        fail_if: Vec::new(),
        shared: false,
        rivals: 0,
        warmup_seconds: 0.05,
        window_seconds: 0.1,
        windows: 3,
        drain_seconds: 0.5,
        sources: 0,
        parallel: 16,
        prefix: "c".into(),
        seed: 7,
        run: 42,
    }
}

fn publish(channels: u32, members: u32, pace: Pace) -> PublishPlan {
    let is_fanout = channels == 1;
    let publishers = if is_fanout { 4 } else { 1 };
    PublishPlan {
        channels,
        members,
        publishers,
        publishers_join: !is_fanout,
        echo: false,
        payload: 100,
        pace,
        scope: Scope::Channel,
        slow: 0,
        expiry_seconds: 2.0,
    }
}

fn fanout(pace: Pace) -> Work {
    Work::Fanout(publish(1, 20, pace))
}

/// With messages while everyone comes back, and bystanders.
fn storm() -> StormPlan {
    StormPlan {
        connections: 30,
        members: 5,
        rate: 600.0,
        resume: false,
        bystanders: 4,
        bystander_rate: 200.0,
        payload: 64,
    }
}

fn presence(channels: u32, watchers: u32, movers: u32) -> PresencePlan {
    let notices = Notices::Every;
    PresencePlan { channels, watchers, movers, updates: false, queries: false, rate: None, notices }
}

fn broadcast(pace: Pace) -> Work {
    let scope = Scope::Everyone;
    Work::Broadcast(PublishPlan { publishers_join: true, scope, ..publish(1, 20, pace) })
}

fn run_against(mischief: Mischief, threads: u32, work: Work) -> Report {
    let stub = Stub::start(mischief);
    let mut plan = plan(&stub, threads, work);
    let is_good =
        matches!(mischief, Mischief::None | Mischief::Recover | Mischief::Resume | Mischief::TellLate);
    // The stub itself echoes nothing, and recovers nothing: there the drain would last to its end.
    let is_whole = match &plan.work {
        Work::Send(work) => !work.echo,
        Work::Storm(work) => work.rate == 0.0 || matches!(mischief, Mischief::Recover | Mischief::Resume),
        _ => true,
    };
    if is_good && is_whole {
        // Everything comes in the end, however busy the machine is: the drain ends when it has. Windows are
        // so long that no pause of the machine empties one.
        (plan.drain_seconds, plan.window_seconds) = (30.0, 0.4);
    }
    if matches!(mischief, Mischief::Dawdle { .. }) {
        plan.window_seconds = 0.5;
    }
    if matches!(plan.work, Work::Slow(_)) {
        // A message is long.
        plan.window_seconds = 1.0;
    }
    if matches!(plan.work, Work::Storm(_)) || matches!(mischief, Mischief::HangUpOnJoin { .. }) {
        // All are to be back before the next one breaks, and some cycles to succeed, also on a machine that
        // is busy.
        plan.window_seconds = 0.4;
    }
    plan.check().expect("a plan that fits");
    run(&plan, &Gate::new(1), &mut |_| {})
}

/// The generator shares its cores with the rest of the test suite here: being late is no failure.
fn assert_clean(report: &Report) {
    let problems: Vec<_> = report.problems.iter().filter(|problem| !problem.contains("late")).collect();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(report.windows.len(), 3);
    assert_eq!(report.faults, Faults::default());
}

#[test]
fn good_server_is_found_good_in_every_scenario_with_one_thread_and_with_several() {
    for threads in [1, 3] {
        for work in [
            fanout(CLOSED),
            fanout(OPEN),
            Work::Send(publish(5, 3, CLOSED)),
            Work::Send(publish(5, 2, OPEN)),
            broadcast(CLOSED),
            broadcast(OPEN),
        ] {
            let report = run_against(Mischief::None, threads, work);
            assert_clean(&report);
            assert!(report.summary.deliveries_per_second > 100.0, "{}", report.table());
        }
        for work in [
            Work::Connect(ConnectPlan { parallel: 6, join: true, rate: None }),
            Work::Connect(ConnectPlan { parallel: 6, join: false, rate: None }),
            Work::Presence(PresencePlan { queries: true, ..presence(4, 3, 2) }),
            Work::Presence(PresencePlan { rate: Some(400.0), ..presence(4, 3, 6) }),
            Work::Storm(StormPlan { rate: 0.0, bystanders: 0, ..storm() }),
        ] {
            let report = run_against(Mischief::None, threads, work);
            assert_clean(&report);
            assert!(report.summary.operations_per_second > 10.0, "{}", report.table());
        }
    }
}

fn ramp(parallel: u32, from: f64, to: f64) -> Work {
    Work::Connect(ConnectPlan { parallel, join: true, rate: Some(Rate { from, to }) })
}

#[test]
fn connections_are_opened_by_a_schedule_and_every_one_counts() {
    for threads in [1, 3] {
        let report = run_against(Mischief::None, threads, ramp(200, 200.0, 800.0));
        assert_clean(&report);
        let asked: Vec<_> = report.windows.iter().filter_map(|row| row.due_per_second).collect();
        assert!(asked.is_sorted() && asked[0] >= 200.0 && asked[2] <= 800.0 && asked.len() == 3, "{asked:?}");
        let sum = |of: fn(&Row) -> f64| report.windows.iter().map(|row| of(row) * row.seconds).sum::<f64>();
        let (asked, done) =
            (sum(|row| row.due_per_second.unwrap_or_default()), sum(|row| row.operations_per_second));
        assert!(asked > 100.0 && (done / asked - 1.0).abs() < 0.3, "{}", report.table());
        assert!(report.table().contains("cycles/s"), "{}", report.table());
        assert_eq!((report.failed, report.unfinished), (0, 0));
    }
}

#[test]
fn server_that_does_not_keep_up_with_connections_is_told_from_a_late_generator() {
    // Each handshake takes 25 milliseconds of sleep, one after the other: 40 a second, and never more. In the
    // first window 35 are due, which joining can be measured by; then three times and four times as many.
    let report = run_against(Mischief::Dawdle { milliseconds: 25 }, 1, ramp(4, 2.0, 200.0));
    let last = report.windows[2];
    assert!(report.held_up > 0, "{}", report.table());
    // What begins in the last window has waited for the server: the generator was not late with it.
    assert!(last.late_share < 0.5, "{}", report.table());
    assert!(last.operations_per_second < 60.0 && last.due_per_second > Some(150.0), "{}", report.table());
    assert!(report.kept_up_per_second.is_none_or(|rate| rate < 60.0), "{}", report.table());
    // Four at a time would take some 100 ms each; counted from when they were due, the wait is in it.
    assert!(last.latency.p50_us > 150_000.0, "{}", report.table());
    assert!(report.table().contains("fell behind"), "{}", report.table());
}

#[test]
fn server_that_is_behind_in_the_first_window_already_never_kept_up() {
    // 25 milliseconds for each handshake, of which 120 a second are due: the first window's wait for most of
    // it, and their latencies do not tell how long one takes.
    let report = run_against(Mischief::Dawdle { milliseconds: 25 }, 1, ramp(64, 120.0, 120.0));
    assert_eq!(report.kept_up_per_second, None, "{}", report.table());
    assert!(report.windows.iter().all(|row| row.kept_up == Some(false)), "{}", report.table());
    assert!(report.behind_share < Some(0.6), "{}", report.table());
    assert!(report.table().contains("never kept up"), "{}", report.table());
}

#[test]
fn cycles_that_fail_are_counted_and_the_others_go_on() {
    let report = run_against(Mischief::HangUpOnJoin { every: 10 }, 1, ramp(200, 500.0, 500.0));
    let errors: u64 = report.windows.iter().map(|row| row.errors).sum();
    assert!(errors > 5 && report.failed >= errors && !report.partial, "{}", report.table());
    assert!(report.windows.iter().all(|row| row.operations_per_second > 0.0), "{}", report.table());
    assert!(report.problems[0].contains("closed a connection"), "{:?}", report.problems);
    assert_eq!(report.kept_up_per_second, None);
    // Before the first one has succeeded, there is no reason to try again.
    let report = run_against(Mischief::Refuse, 1, ramp(200, 500.0, 500.0));
    assert!(report.partial && report.problems[0].contains("401"), "{:?}", report.problems);
}

#[test]
fn worker_knows_how_busy_it_was() {
    for (spin, threads) in [(true, 1), (true, 2), (false, 1)] {
        let stub = Stub::start(Mischief::None);
        let mut plan = Plan { spin, ..plan(&stub, threads, fanout(OPEN)) };
        plan.check().expect("a plan that fits");
        let report = run(&plan, &Gate::new(1), &mut |_| {});
        for row in &report.windows {
            assert!(row.busy_share.is_some_and(|share| 0.0 < share && share < 1.1), "{}", report.table());
        }
    }
}

#[test]
fn idle_connections_are_weighed() {
    let work = Work::Idle(IdlePlan { base: 20, connections: 120, members: 5, settle_seconds: 0.05 });
    let report = run_against(Mischief::None, 2, work);
    assert_clean(&report);
    assert!(report.idle_cpu_us_per_second.is_some() && report.table().contains("of CPU a second"));
    assert!(report.idling.is_some_and(|idling| idling.base.is_some() && idling.full.is_some()));
}

type Count = fn(&Faults) -> u64;

#[test]
fn each_kind_of_mischief_is_counted_as_what_it_is() {
    let kinds: [(Mischief, Count); 6] = [
        (Mischief::Lose { every: 97 }, |faults| faults.lost),
        (Mischief::Repeat { every: 97 }, |faults| faults.repeated),
        (Mischief::Reorder { every: 97 }, |faults| faults.reordered),
        (Mischief::Misdeliver { every: 7 }, |faults| faults.misdelivered),
        (Mischief::Corrupt { every: 97 }, |faults| faults.corrupt),
        (Mischief::Skip { every: 10 }, |faults| faults.holes),
    ];
    for (mischief, count) in kinds {
        for threads in [1, 2] {
            let work = match mischief {
                Mischief::Misdeliver { .. } => Work::Send(publish(5, 3, OPEN)),
                // One publisher: what comes late then is one of its own.
                Mischief::Reorder { .. } => {
                    Work::Fanout(PublishPlan { publishers: 1, ..publish(1, 20, OPEN) })
                }
                _ => fanout(OPEN),
            };
            let report = run_against(mischief, threads, work);
            assert!(count(&report.faults) > 0, "{mischief:?}: {}", report.table());
            assert!(!report.is_clean());
            let mut others = report.faults;
            match mischief {
                Mischief::Skip { .. } => others.holes = 0,
                Mischief::Lose { .. } => others.lost = 0,
                Mischief::Repeat { .. } => others.repeated = 0,
                // What is held back when the run ends never comes.
                Mischief::Reorder { .. } => (others.reordered, others.lost) = (0, 0),
                Mischief::Misdeliver { .. } => others.misdelivered = 0,
                Mischief::Corrupt { .. } => others.corrupt = 0,
                _ => {}
            }
            assert!(others.is_clean(), "{mischief:?} on {threads}: {:?}", report.faults);
        }
    }
}

#[test]
fn echo_is_verified_when_asked_for_and_noticed_when_not() {
    let send = |echo| Work::Send(PublishPlan { echo, ..publish(5, 3, CLOSED) });
    for threads in [1, 2] {
        let asked_for = run_against(Mischief::Echo, threads, send(true));
        assert_clean(&asked_for);
        let unasked = run_against(Mischief::Echo, threads, send(false));
        assert!(unasked.faults.misdelivered > 0 && unasked.faults.lost == 0, "{}", unasked.table());
        let missing = run_against(Mischief::None, threads, send(true));
        assert!(missing.faults.lost > 0 && missing.faults.misdelivered == 0, "{}", missing.table());
    }
}

#[test]
fn templates_speak_a_protocol_they_do_not_know() {
    let some = |text: &str| Some(text.to_owned());
    for work in [fanout(CLOSED), Work::Send(publish(5, 3, OPEN))] {
        let stub = Stub::start(Mischief::None);
        let driver = DriverPlan {
            name: "plain".into(),
            path: some("/v1/ws?key=key"),
            welcome: some("\"welcome\""),
            join: some(r#"{"type":"join","id":1,"channel":"{channel}"}"#),
            joined: some("\"ok\""),
            send: some(r#"{"type":"send","channel":"{channel}","event":"m","message":{payload}}"#),
            ..DriverPlan::default()
        };
        let mut plan = Plan { driver, window_seconds: 0.4, drain_seconds: 30.0, ..plan(&stub, 1, work) };
        plan.check().expect("a plan that fits");
        let report = run(&plan, &Gate::new(1), &mut |_| {});
        assert_clean(&report);
        assert!(report.summary.deliveries_per_second > 100.0, "{}", report.table());
    }
}

#[test]
fn order_between_publishers_is_the_same_for_all() {
    for threads in [1, 2] {
        let report = run_against(Mischief::Reorder { every: 97 }, threads, fanout(OPEN));
        assert!(report.faults.reordered > 0 && report.faults.repeated == 0, "{}", report.table());
    }
}

#[test]
fn slow_readers_are_left_out_and_looked_after_in_the_end() {
    // What they do not read is more than fits their sockets.
    let work = Work::Slow(PublishPlan { slow: 5, payload: 100_000, ..publish(1, 20, CLOSED) });
    for threads in [1, 2] {
        let report = run_against(Mischief::None, threads, work.clone());
        assert_clean(&report);
        // The stub has patience.
        assert_eq!((report.slow.readers, report.slow.disconnected), (5, 0));
        assert!(report.summary.deliveries_per_second > 100.0);
    }
}

#[test]
fn slow_readers_that_slow_nobody_down_are_no_result() {
    let work = Work::Slow(PublishPlan { slow: 5, ..publish(1, 20, Pace::Open { rate: 20.0 }) });
    let report = run_against(Mischief::None, 1, work);
    assert_eq!((report.slow.readers, report.slow.backlogged), (5, Some(0)));
    assert_eq!(report.verdict, Verdict::Generator);
    assert!(report.problems.iter().any(|problem| problem.contains("slowed the server down")), "{report:?}");
}

#[test]
fn losses_are_exactly_counted() {
    let stub = Stub::start(Mischief::Lose { every: 50 });
    let plan = plan(&stub, 1, fanout(OPEN));
    let report = run(&plan, &Gate::new(1), &mut |_| {});
    // 0.35 s of 500 messages a second, to 20 each; the notices of joining (190) count as deliveries to the
    // stub.
    let delivered = report.windows.iter().map(|row| row.latency.count).sum::<u64>();
    let share = report.faults.lost as f64 / (delivered as f64 * 3.5 / 3.0);
    assert!((0.01..0.03).contains(&share), "{share}: {}", report.table());
}

#[test]
fn closed_loop_goes_on_when_messages_are_lost() {
    let mut work = publish(1, 20, CLOSED);
    work.pace = Pace::Closed { window: 2 };
    let stub = Stub::start(Mischief::Lose { every: 301 });
    let mut plan = plan(&stub, 1, Work::Fanout(work));
    plan.window_seconds = 2.5;
    plan.windows = 2;
    let report = run(&plan, &Gate::new(1), &mut |_| {});
    assert!(report.faults.lost > 1, "{}", report.table());
    assert!(report.windows.iter().all(|row| row.deliveries_per_second > 0.0), "{}", report.table());
}

#[test]
fn lost_and_repeated_notices_are_told_apart() {
    let work = || Work::Presence(PresencePlan { updates: true, queries: true, ..presence(2, 3, 1) });
    let report = run_against(Mischief::Repeat { every: 50 }, 1, work());
    assert!(report.faults.repeated > 0 && report.faults.lost == 0, "{}", report.table());
    let report = run_against(Mischief::Lose { every: 50 }, 1, work());
    assert!(report.faults.repeated == 0 && report.faults.lost > 0, "{}", report.table());
}

#[test]
fn late_notice_of_a_fellow_watcher_is_no_fault() {
    let work = Work::Presence(presence(3, 2, 1));
    let report = run_against(Mischief::TellLate, 1, work);
    assert_clean(&report);
    assert!(report.summary.operations_per_second > 10.0, "{}", report.table());
}

#[test]
fn storm_is_recovered_from_without_loss_and_bystanders_hear_everything() {
    for threads in [1, 2, 3] {
        let report = run_against(Mischief::Recover, threads, Work::Storm(storm()));
        assert_clean(&report);
        // All were dropped at the beginning of each window.
        assert_eq!((report.returns.recovered, report.returns.unrecovered), (90, 0), "{}", report.table());
        assert!(report.summary.bystander_latency.is_some_and(|latency| latency.count > 20));
        // Each of them was welcomed and joined once after each drop, in this order.
        let stages: Vec<_> = report.storm_stages.iter().map(|row| (row.stage, row.latency.count)).collect();
        assert_eq!(stages, [("welcomed", 90), ("joined", 90), ("with what they missed", 90)]);
        let p50: Vec<_> = report.storm_stages.iter().map(|row| row.latency.p50_us).collect();
        assert!(p50.is_sorted(), "{p50:?}");
    }
}

#[test]
fn what_is_wrong_at_the_seam_of_a_storm_is_counted() {
    // So many messages that some are sent while anyone is away, however short that is.
    let storm = || Work::Storm(StormPlan { rate: 6000.0, ..storm() });
    let report = run_against(Mischief::RecoverTooFew, 1, storm());
    let Faults { lost, repeated, holes, .. } = report.faults;
    assert!(lost > 0 && holes == 0 && repeated == 0, "{}", report.table());
    let report = run_against(Mischief::RecoverTooMany, 1, storm());
    let Faults { lost, repeated, .. } = report.faults;
    assert!(lost == 0 && repeated > 0, "{}", report.table());
    let report = run_against(Mischief::Forget, 1, storm());
    assert!(report.returns.unrecovered == 90 && report.returns.recovered == 0, "{}", report.table());
    assert!(!report.is_clean() && report.faults.repeated == 0);
}

#[test]
fn sessions_go_on_after_a_storm_and_what_they_lack_is_counted() {
    let resuming = |rate| Work::Storm(StormPlan { resume: true, rate, ..storm() });
    for threads in [1, 3] {
        let report = run_against(Mischief::Resume, threads, resuming(6000.0));
        assert_clean(&report);
        let returns = report.returns;
        assert_eq!((returns.resumed, returns.lapsed, returns.recovered), (90, 0, 0), "{}", report.table());
        assert!(returns.missed > 0, "{}", report.table());
        // Who comes back to its session joins nothing.
        let stages: Vec<_> = report.storm_stages.iter().map(|row| (row.stage, row.latency.count)).collect();
        assert_eq!(stages, [("welcomed", 90), ("with what they missed", 90)]);
    }
    let report = run_against(Mischief::ResumeTooLittle, 1, resuming(6000.0));
    let Faults { lost, repeated, .. } = report.faults;
    assert!(report.returns.resumed == 90 && lost > 0 && repeated == 0, "{}", report.table());
    let report = run_against(Mischief::Lapse, 1, resuming(0.0));
    assert_eq!((report.returns.resumed, report.returns.lapsed), (0, 90), "{}", report.table());
    assert!(report.problems.iter().any(|why| why.contains("90 of those that came back found")));
    // A server without tickets is not one to resume at.
    let report = run_against(Mischief::None, 1, resuming(0.0));
    assert!(report.partial && report.problems[0].contains("no tickets"), "{:?}", report.problems);
}

#[test]
fn what_triggers_refuse_replace_and_answer_is_counted_and_nobody_misses_it() {
    let judge = Mischief::Judge { refused: 5, replaced: 7, answered: 9 };
    let works = [
        fanout(OPEN),
        fanout(CLOSED),
        Work::Send(publish(4, 3, OPEN)),
        Work::Slow(PublishPlan { slow: 2, ..publish(1, 20, OPEN) }),
    ];
    for work in works {
        let is_slow = matches!(work, Work::Slow(_));
        let report = run_triggered(judge, work);
        assert_eq!(report.faults, Faults::default(), "{}", report.table());
        let verdicts = report.verdicts.expect("triggers were asked for");
        let all = verdicts.passed + verdicts.refused;
        assert!(all > 40 && verdicts.failed == 0, "{}", report.table());
        assert_eq!((verdicts.refused, verdicts.answered), (all / 5, all / 9), "{}", report.table());
        assert!(verdicts.replaced > 0, "{}", report.table());
        let problems = report.problems.iter().filter(|why| !why.contains("late") && !is_slow);
        assert_eq!(problems.count(), 0, "{:?}", report.problems);
        assert!(report.table().contains(&format!("{} refused", verdicts.refused)), "{}", report.table());
    }
    let report = run_triggered(Mischief::RefuseInVain { every: 10 }, fanout(OPEN));
    let refused = report.verdicts.expect("triggers were asked for").refused;
    assert!(refused > 0 && report.faults.misdelivered == refused * 20, "{}", report.table());
}

fn run_triggered(mischief: Mischief, work: Work) -> Report {
    let stub = Stub::start(mischief);
    let mut plan = plan(&stub, 1, work);
    plan.driver.triggers = true;
    (plan.drain_seconds, plan.window_seconds) = (30.0, 0.4);
    plan.check().expect("a plan that fits");
    run(&plan, &Gate::new(1), &mut |_| {})
}

#[test]
fn without_recovery_what_was_missed_while_away_is_not_asked_for() {
    let report = run_against(Mischief::None, 2, Work::Storm(storm()));
    assert_clean(&report);
    assert_eq!(report.returns.adrift, 90);
    assert!(report.remarks.iter().any(|remark| remark.contains("no recovery")), "{:?}", report.remarks);
}

#[test]
fn refusals_and_hang_ups_end_the_run_with_one_sentence() {
    let report = run_against(Mischief::Refuse, 1, fanout(CLOSED));
    assert!(report.partial && report.problems[0].contains("401"), "{:?}", report.problems);
    let report = run_against(Mischief::HangUp { every: 2000 }, 1, fanout(CLOSED));
    assert!(report.partial && report.problems[0].contains("closed a connection"), "{:?}", report.problems);
    let report = run_against(Mischief::Overloaded, 1, fanout(OPEN));
    assert!(report.refused > 0 && !report.is_clean() && !report.partial, "{}", report.table());
}

#[test]
fn server_that_is_not_there_is_named() {
    let stub = Stub::start(Mischief::None);
    let plan = plan(&stub, 1, fanout(CLOSED));
    drop(stub);
    let report = run(&plan, &Gate::new(1), &mut |_| {});
    assert!(report.partial && report.problems[0].contains("cannot be reached"), "{:?}", report.problems);
}

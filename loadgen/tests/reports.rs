//! Reports as files: what is saved can be read, compared and drawn.

mod stub;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Parser;
use fanfare_loadgen::{Args, Comparison, Gate, Job, Report, Tolerances, run, to_hlog, to_html, to_json};
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    },
};
use stub::{Mischief, Stub};

fn run_line(stub: &Stub, line: &str) -> Report {
    let url = format!("--url=ws://{}", stub.address());
    let words =
        line.split_whitespace().chain([url.as_str(), "-d=0.1", "--warmup=0.05", "--sleep", "--lower-bound"]);
    let args = Args::try_parse_from(["loadgen"].into_iter().chain(words)).expect("well-formed");
    let (Job::Run(mut phases), _) = args.into_job().expect("valid") else { panic!("a run") };
    let mut plan = phases.remove(0).plans.remove(0);
    plan.check().expect("a plan that fits");
    run(&plan, &Gate::new(1), &mut |_| {})
}

fn save(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("fanfare-loadgen-{}-{name}.json", std::process::id()));
    fs::write(&path, text).expect("written");
    path
}

fn comparison(before: &Path, after: &Path, force: bool) -> Comparison {
    let gate = Tolerances::read(&["1e6".into()]).expect("a gate");
    Comparison { sides: vec![vec![before.to_owned()], vec![after.to_owned()]], gate, force }
}

#[test]
fn saved_reports_are_compared_unless_they_are_of_different_work() {
    let stub = Stub::start(Mischief::None);
    let small = save("small", &to_json(&[(String::new(), run_line(&stub, "fanout -n 5 -w 4"))]));
    let large = save("large", &to_json(&[(String::new(), run_line(&stub, "fanout -n 9 -w 4"))]));
    let garbage = save("garbage", "{\"format\":2,\"runs\":[");
    let newer = save("newer", "{\"format\":3,\"runs\":[]}");

    let again = save("again", &to_json(&[(String::new(), run_line(&stub, "fanout -n 5 -w 4"))]));
    let text = comparison(&small, &again, false).judge().expect("comparable").text();
    assert!(text.contains("deliveries/s"), "{text}");
    let refusal = comparison(&small, &small, false).judge().expect_err("one run");
    assert!(refusal.0.contains("is there twice"), "{refusal}");
    let refusal = comparison(&small, &large, false).judge().expect_err("different plans");
    assert!(refusal.0.contains("different plans"), "{refusal}");
    comparison(&small, &large, true).judge().expect("forced");
    let refusal = comparison(&small, &garbage, true).judge().expect_err("unreadable");
    assert!(refusal.0.contains("cannot be read"), "{refusal}");
    let refusal = comparison(&small, &newer, true).judge().expect_err("unreadable");
    assert!(refusal.0.contains("of format 3"), "{refusal}");
    for path in [small, again, large, garbage, newer] {
        fs::remove_file(path).expect("removed");
    }
}

#[test]
fn runs_of_different_machines_are_compared_only_when_told_to() {
    let stub = Stub::start(Mischief::None);
    let json = to_json(&[(String::new(), run_line(&stub, "fanout -n 5 -w 4"))]);
    let here = save("here", &json);
    let cores = |json: &str| json.find("\"cores\": ").expect("a machine") + 9;
    let mut elsewhere = json.clone();
    elsewhere.insert(cores(&json), '9');
    // Another run, not the same one on two machines.
    elsewhere = elsewhere.replacen("\"started_unix_ns\": 1", "\"started_unix_ns\": 2", 1);
    let elsewhere = save("elsewhere", &elsewhere);
    let refusal = comparison(&here, &elsewhere, false).judge().expect_err("different machines");
    assert!(refusal.0.contains("different machines"), "{refusal}");
    comparison(&here, &elsewhere, true).judge().expect("forced");
    for path in [here, elsewhere] {
        fs::remove_file(path).expect("removed");
    }
}

#[test]
fn several_sides_are_compared_with_the_first() {
    let stub = Stub::start(Mischief::None);
    let paths = ["one", "two", "three", "four"]
        .map(|name| save(name, &to_json(&[(String::new(), run_line(&stub, "fanout -n 5 -w 4"))])));
    let [one, two, three, four] = paths.each_ref();
    let line =
        format!("loadgen compare {} {},{} {}", one.display(), two.display(), three.display(), four.display());
    let args = Args::try_parse_from(line.split_whitespace()).expect("well-formed");
    let (Job::Compare(comparison), _) = args.into_job().expect("valid") else { panic!("a comparison") };
    let text = comparison.judge().expect("comparable").text();
    assert!(
        text.contains(&format!("{},{} against {}", two.display(), three.display(), one.display())),
        "{text}"
    );
    assert!(text.contains(&format!("{} against {}", four.display(), one.display())), "{text}");
    assert_eq!(text.matches("deliveries/s").count(), 2, "{text}");
    paths.iter().for_each(|path| fs::remove_file(path).expect("removed"));
}

#[test]
fn failed_run_is_not_compared() {
    let stub = Stub::start(Mischief::Lose { every: 50 });
    let report = run_line(&stub, "fanout -n 20 --rate 300 --drain 0.3");
    let runs = [(String::new(), report)];
    let log = to_hlog(&runs);
    assert!(
        String::from_utf8_lossy(&log).contains("#fanout is failed: Deliveries went wrong"),
        "it says so itself"
    );
    let path = save("failed", &to_json(&runs));
    let refusal = comparison(&path, &path, true).judge().expect_err("a failed run");
    assert!(refusal.0.contains("failed") && refusal.0.contains(path.to_str().expect("text")), "{refusal}");
    fs::remove_file(path).expect("removed");
}

#[test]
fn interval_log_has_an_interval_for_each_window_and_the_page_is_one_file() {
    let stub = Stub::start(Mischief::None);
    let runs = [("first".to_owned(), run_line(&stub, "fanout -n 5 -w 4"))];
    let log = to_hlog(&runs);
    let entries: Result<Vec<_>, _> = IntervalLogIterator::new(&log).collect();
    let intervals = entries.expect("a readable log");
    let intervals = intervals.iter().filter(|entry| matches!(entry, LogEntry::Interval(_)));
    assert_eq!(intervals.count(), 3);

    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("#plan of first-1-fanout: {\"work\":{\"scenario\":\"fanout\""), "{text}");

    let page = to_html(&runs);
    assert!(page.contains("closed loop, 4 in flight") && page.contains("3 windows of 0.1 s"), "{page}");
    assert_eq!(page.matches("<svg role=img aria-label=").count(), 4);
    assert!(page.contains(">clean<") || page.contains(">failed: "), "{page}");
    assert!(!page.contains("http:") && !page.contains("NaN"), "{page}");
}

/// Values of each tag's intervals.
fn counts_by_tag(log: &[u8]) -> BTreeMap<String, Vec<u64>> {
    let mut counts = BTreeMap::<_, Vec<u64>>::new();
    for entry in IntervalLogIterator::new(log) {
        let LogEntry::Interval(interval) = entry.expect("a readable log") else { continue };
        let bytes = BASE64_STANDARD.decode(interval.encoded_histogram()).expect("base 64");
        let histogram: Histogram<u64> =
            Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram");
        let tag = interval.tag().map_or_else(String::new, |tag| tag.as_str().to_owned());
        counts.entry(tag).or_default().push(histogram.len());
    }
    counts
}

#[test]
fn bystanders_of_a_storm_are_a_series_of_their_own_in_every_report() {
    let stub = Stub::start(Mischief::None);
    let line = "storm -n 20 --members 5 --bystanders 4 --bystander-rate 200 -d 0.3";
    let runs = [(String::new(), run_line(&stub, line))];
    let report = &runs[0].1;
    let counts = counts_by_tag(&to_hlog(&runs));
    let of = |tag: &str| counts[tag].clone();
    let rows = report.windows.iter();
    assert_eq!(of(""), rows.clone().map(|row| row.latency.count).collect::<Vec<_>>());
    let bystanders = rows.map(|row| row.bystander_latency.expect("bystanders").count).collect::<Vec<_>>();
    assert_eq!(of("bystanders"), bystanders);
    assert_eq!(counts.len(), 2);

    let json: serde_json::Value = serde_json::from_str(&to_json(&runs)).expect("JSON");
    let saved = &json["runs"][0]["report"];
    assert_eq!(saved["summary"]["bystander_latency"]["count"].as_u64(), Some(bystanders.iter().sum()));
    assert!(saved["bystander_curve"].as_array().is_some_and(|curve| curve.len() > 5), "{saved}");
    let page = to_html(&runs);
    assert!(page.contains("<polyline class=c") && page.contains(">bystanders</span>"), "{page}");
}

#[test]
fn parts_of_a_mix_have_tags_of_their_own() {
    let stub = Stub::start(Mischief::None);
    let phase = |line| ("a, b".to_owned(), run_line(&stub, line));
    let runs = [phase("fanout -n 3 -w 2"), phase("fanout -n 5 -w 2")];
    let counts = counts_by_tag(&to_hlog(&runs));
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["a--b-1-fanout", "a--b-2-fanout"]);
    let page = to_html(&runs);
    assert!(page.contains("<h2>a, b, part 1: fanout ·") && page.contains("a, b, part 2: fanout"), "{page}");
}

#[test]
fn interval_log_begins_with_the_first_window_also_if_another_part_never_had_one() {
    let refusing = Stub::start(Mischief::Refuse);
    let stub = Stub::start(Mischief::None);
    let run = |stub, line| ("p".to_owned(), run_line(stub, line));
    let runs = [run(&refusing, "fanout -n 3"), run(&stub, "fanout -n 3 -w 2")];
    assert!(runs[0].1.windows.is_empty());
    let log = to_hlog(&runs);
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("\nTag=p-2-fanout,0.000,"), "{text}");
    let start = text.split_once("#[StartTime: ").expect("a start").1;
    let seconds: f64 = start[..start.find(' ').expect("a space")].parse().expect("a number");
    assert!((seconds - runs[1].1.started_unix_ns as f64 / 1e9).abs() < 0.01, "{seconds}");
}

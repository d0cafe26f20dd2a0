//! `compare` as it is used: exit status, text, JSON, Markdown and page of what is the same, worse, or cannot
//! be said.

mod stub;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use stub::{Mischief, Stub};

/// A folder of its own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fanfare-compare-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("created");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A report of a short run.
fn template(folder: &Folder) -> Value {
    let stub = Stub::start(Mischief::None);
    let path = folder.path("template.json");
    let status = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
        .args("fanout -n 5 -w 4 --warmup 0.05 -d 0.2 --windows 2 --lower-bound -q".split_whitespace())
        .args([format!("--url=ws://{}", stub.address()), format!("--json={}", path.display())])
        .status()
        .expect("it runs");
    assert!(status.success());
    serde_json::from_str(&fs::read_to_string(path).expect("written")).expect("JSON")
}

/// Reports of runs whose CPU time and 99th percentile are these; the paths with commas between.
fn side(folder: &Folder, name: &str, template: &Value, runs: &[(f64, f64)]) -> String {
    let write = |(number, (cpu, p99)): (usize, &(f64, f64))| {
        let mut file = template.clone();
        let report = &mut file["runs"][0]["report"];
        report["started_unix_ns"] = json!(1_000_000 + number + 1000 * name.len());
        report["summary"]["server_s_per_million_deliveries"] = json!(cpu);
        report["summary"]["latency"]["p99_us"] = json!(p99);
        let path = folder.path(&format!("{name}-{number}.json"));
        fs::write(&path, file.to_string()).expect("written");
        path.display().to_string()
    };
    runs.iter().enumerate().map(write).collect::<Vec<_>>().join(",")
}

struct Compared {
    status: Option<i32>,
    text: String,
    errors: String,
    json: Value,
    markdown: String,
    page: String,
}

fn compare(folder: &Folder, before: &str, after: &str, gate: &str) -> Compared {
    let path = |kind: &str| folder.path(&format!("comparison.{kind}"));
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
        .args(["compare", before, after, "--gate", gate])
        .args([format!("--json={}", path("json").display()), format!("--html={}", path("html").display())])
        .arg(format!("--markdown={}", path("md").display()))
        .output()
        .expect("it runs");
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    Compared {
        status: output.status.code(),
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        json: serde_json::from_str(&read(&path("json"))).unwrap_or_default(),
        markdown: read(&path("md")),
        page: read(&path("html")),
    }
}

const STEADY: [f64; 5] = [0.98, 1.0, 1.01, 1.02, 0.99];

fn steady(cpu: f64, p99: f64) -> Vec<(f64, f64)> {
    STEADY.iter().map(|factor| (cpu * factor, p99 * factor)).collect()
}

#[test]
fn same_worse_and_inconclusive_have_a_status_each_in_every_report() {
    let folder = Folder::new("verdicts");
    let template = template(&folder);
    let base = side(&folder, "a", &template, &steady(1.0, 100.0));
    let same = side(&folder, "bb", &template, &steady(1.01, 99.0));
    let slower = side(&folder, "ccc", &template, &steady(1.1, 100.0));
    // Every run of the candidate stopped for a second.
    let stopped = side(&folder, "dddd", &template, &steady(1.0, 900_000.0));
    let noisy: Vec<_> = [0.6, 1.5, 0.8, 1.4, 1.1].iter().map(|factor| (*factor, 100.0 * factor)).collect();
    let noisy = side(&folder, "eeeee", &template, &noisy);
    for (after, gate, status, finding, word) in [
        (&same, "cpu-deliveries=5,p99=20%", 0, "same", "passed"),
        (&slower, "cpu-deliveries=5", 1, "worse", "FAILED"),
        (&stopped, "p99=20", 1, "worse", "FAILED"),
        (&noisy, "cpu-deliveries=5", 3, "inconclusive", "INCONCLUSIVE"),
    ] {
        let compared = compare(&folder, &base, after, gate);
        assert_eq!(compared.status, Some(status), "{}{}", compared.text, compared.errors);
        assert_eq!(compared.json["finding"], finding, "{}", compared.json);
        assert!(compared.text.contains(word), "{}", compared.text);
        assert!(compared.text.lines().all(|line| line.chars().count() <= 110), "{}", compared.text);
        assert!(
            compared.markdown.starts_with("**Gate: ") && compared.markdown.contains("| latency p99 µs |")
        );
        assert!(
            compared.page.contains("Gate: ") && compared.page.contains("<svg role=img"),
            "{}",
            compared.page
        );
    }
    let compared = compare(&folder, &base, &noisy, "cpu-deliveries=5");
    for text in [&compared.text, &compared.markdown, &compared.page] {
        assert!(text.contains("runs a side would do") && text.contains("% or more"), "{text}");
    }
    let numbers = compared.json["sections"][0]["numbers"].as_array().expect("a list");
    let cpu = numbers.iter().find(|number| number["key"] == "cpu-deliveries").expect("it is there");
    assert!(cpu["runs_needed"].as_u64() > Some(20) && cpu["samples"] == json!([5, 5]), "{cpu}");
}

#[test]
fn one_run_a_side_says_nothing_and_one_run_twice_is_refused() {
    let folder = Folder::new("few");
    let template = template(&folder);
    let base = side(&folder, "a", &template, &[(1.0, 100.0)]);
    let after = side(&folder, "bb", &template, &[(1.0, 418.9)]);
    let compared = compare(&folder, &base, &after, "20");
    assert_eq!(compared.status, Some(3), "{}", compared.text);
    assert!(
        compared.text.contains("one run of a side") && compared.text.contains("5 runs a side"),
        "{}",
        compared.text
    );
    let compared = compare(&folder, &format!("{base},{base}"), &after, "20");
    assert_eq!(compared.status, Some(2));
    assert!(compared.errors.contains("is there twice"), "{}", compared.errors);
    // Also under another name.
    let copy = folder.path("copy.json");
    fs::copy(&base, &copy).expect("copied");
    assert_eq!(compare(&folder, &base, &copy.display().to_string(), "20").status, Some(2));
    // And a number that no run has.
    let compared = compare(&folder, &base, &after, "bytes=5");
    assert_eq!(compared.status, Some(2));
    assert!(compared.errors.contains("No run has the number bytes"), "{}", compared.errors);
}

#[test]
fn server_that_died_in_one_run_leaves_the_number_out_and_the_gate_open_to_doubt() {
    let folder = Folder::new("dead");
    let template = template(&folder);
    let base = side(&folder, "a", &template, &steady(1.0, 100.0));
    let mut runs = steady(1.0, 100.0);
    runs[2].0 = 0.0;
    let after = side(&folder, "bb", &template, &runs);
    let compared = compare(&folder, &base, &after, "cpu-deliveries=5");
    assert_eq!(compared.status, Some(3), "{}", compared.text);
    assert!(compared.text.contains("measured in 5 of 5 and 4 of 5 runs"), "{}", compared.text);
}

/// A port that nobody has now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

#[test]
fn two_servers_take_turns_and_are_compared_and_ended() {
    let folder = Folder::new("ab");
    let port = free_port();
    let plan = folder.path("plan.toml");
    let part = "part = [{ scenario = \"fanout\", subscribers = 3, window = 2 }]";
    fs::write(
        &plan,
        format!("lower_bound = true\nduration = 0.2\nwarmup = 0.1\n[[phase]]\nname = \"p\"\n{part}\n"),
    )
    .expect("written");
    // The stub, which this test's binary is beside of, takes the place of both.
    let stub = Path::new(env!("CARGO_BIN_EXE_fanfare-loadgen")).with_file_name("examples").join("stub");
    let server = format!("{} 127.0.0.1:{port}", stub.display());
    let ab = |b: &str| {
        Command::new(env!("CARGO_BIN_EXE_fanfare-loadgen"))
            .args(["ab", "--a", &server, "--b", b, "--rounds=1", "--gate=deliveries=100000"])
            .args([format!("--ready=ws://127.0.0.1:{port}"), format!("--url=ws://127.0.0.1:{port}")])
            .args([format!("--out={}", folder.path("runs").display()), plan.display().to_string()])
            .output()
            .expect("it runs")
    };
    let output = ab(&server);
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Two runs a side may be too few to say anything.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}{errors}");
    assert!(text.contains("(2 and 2 runs)") && errors.contains("run 4 of 4: a"), "{text}{errors}");
    for name in ["a-1", "a-2", "b-1", "b-2"] {
        assert!(folder.path("runs").join(format!("{name}.json")).exists());
    }
    let output = ab("false");
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("\"false\" ended before it was ready"), "{errors}");
    let _other = std::net::TcpListener::bind(("127.0.0.1", port)).expect("no server is left");
    let output = ab(&server);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && errors.contains("answers at ws://"), "{errors}");
}

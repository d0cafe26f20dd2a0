use super::*;

fn small() -> Budget {
    Budget { cpu: Duration::from_millis(50), memory_bytes: 4 << 20, state_bytes: 64, output_bytes: 4096 }
}

fn sandbox(source: &str) -> Sandbox {
    Sandbox::new(source, small(), 7).unwrap_or_else(|error| panic!("{error}: {source}"))
}

const HEAD: &str = r#"{"action":"message","channel":"room","time":1750000000000}"#;

fn call<'a>(payload: &'a str) -> Call<'a> {
    Call {
        action: Action::Message,
        head: HEAD,
        payload: Payload::Json(payload),
        channel: Some("room"),
        state: None,
    }
}

fn run(body: &str, payload: &str) -> Result<Run, RunError> {
    sandbox(&format!("export function message(input) {{ {body} }}")).run(&call(payload))
}

/// The decision as text: `pass`, the replaced payload, or `refused: why`.
fn decision(run: &Run) -> String {
    match &run.decision {
        Decision::Pass => "pass".into(),
        Decision::Fail => "fail".into(),
        Decision::Refuse(why) => format!("refused: {why}"),
        Decision::Replace(payload) => match payload.view() {
            Payload::Json(text) => text.into(),
            Payload::Binary(bytes) => format!("{bytes:?}"),
        },
    }
}

fn decided(body: &str, payload: &str) -> String {
    decision(&run(body, payload).unwrap_or_else(|error| panic!("{error}: {body}")))
}

#[test]
fn a_payload_that_was_not_read_or_for_which_nothing_is_returned_passes_as_it_was_sent() {
    for body in ["", "return undefined", "return 1", "return input", "input.payload.a = 2", "input.payload"] {
        assert_eq!(decided(body, r#"{"a": 1.0}"#), "pass", "{body}");
    }
    assert!(run("return 1", "null").expect("it runs").is_ignored);
    assert!(!run("return input", "null").expect("it runs").is_ignored);
}

#[test]
fn what_a_script_returns_replaces_the_payload_that_it_read() {
    for (body, replaced) in [
        ("input.payload.a = 2; return input.payload", r#"{"a":2}"#),
        ("input.payload.a = 2; return input", r#"{"a":2}"#),
        ("input.payload = [1]; return input", "[1]"),
        ("input.payload; return null", "null"),
        ("input.payload; return 'x'", r#""x""#),
        ("const p = input.payload; return input.payload === p", "true"),
        ("input.payload; return new Uint8Array([1, 255])", "[1, 255]"),
        ("input.payload; return new Uint8Array([1, 2, 3]).subarray(1)", "[2, 3]"),
        ("input.payload; return '\\ud800'", r#""\ud800""#),
    ] {
        assert_eq!(decided(body, r#"{"a": 1}"#), replaced, "{body}");
    }
}

#[test]
fn a_binary_payload_is_bytes() {
    let mut sandbox = sandbox("export function message(input) { return input.payload.length }");
    let call = Call { payload: Payload::Binary(&[1, 2, 3]), ..call("null") };
    assert_eq!(decision(&sandbox.run(&call).expect("it runs")), "3");
}

#[test]
fn a_refusal_stands_even_if_the_script_catches_it() {
    assert_eq!(decided("refuse('no')", "1"), "refused: no");
    assert_eq!(decided("try { refuse('no') } catch {} return input.payload", "1"), "refused: no");
    assert_eq!(decided("try { refuse('no') } catch {} refuse('other')", "1"), "refused: no");
    assert_eq!(decided("refuse()", "1"), "refused: A trigger refused this.");
    let long = decided("refuse('x'.repeat(100000))", "1");
    assert_eq!(long.len(), "refused: ".len() + REFUSAL_CHARS);
}

#[test]
fn a_join_is_vetoed_by_false_alone() {
    for (value, outcome) in
        [("false", "refused: A trigger refused this."), ("0", "pass"), ("undefined", "pass"), ("[]", "pass")]
    {
        let mut sandbox = sandbox(&format!("export const join = (input) => {value}"));
        let call = Call { action: Action::Join, ..call("null") };
        assert_eq!(decision(&sandbox.run(&call).expect("it runs")), outcome, "{value}");
        let message = Call { action: Action::Message, ..call };
        assert_eq!(decision(&sandbox.run(&message).expect("it runs")), "pass", "it has no such handler");
    }
}

#[test]
fn a_script_answers_publishes_logs_and_keeps_state() {
    let source = "export function message(input) {
        state.n = (state.n ?? 0) + 1;
        answer('count', state.n);
        publish('log', 'line', {channel: input.channel});
        log('number', state.n, {a: 1});
    }";
    let run = sandbox(source).run(&Call { state: Some(r#"{"n":4}"#), ..call("1") }).expect("it runs");
    assert_eq!(run.state.as_deref(), Some(r#"{"n":5}"#));
    assert_eq!(run.log, [r#"number 5 {"a":1}"#]);
    let said = |said: &Said| {
        (said.channel.clone(), said.event.to_string(), said.payload.view() == Payload::Json("5"))
    };
    assert_eq!(said(&run.answers[0]), (Some("room".into()), "count".into(), true));
    assert_eq!(said(&run.publications[0]), (Some("log".into()), "line".into(), false));
}

#[test]
fn an_async_handler_is_awaited_and_one_that_never_settles_fails() {
    let asynchronous = |body| sandbox(&format!("export async function message(input) {{ {body} }}"));
    let mut sandbox = asynchronous("await 1; return [await input.payload]");
    assert_eq!(decision(&sandbox.run(&call("1")).expect("it runs")), "[1]");
    let mut sandbox = asynchronous("await 1; refuse('no')");
    assert_eq!(decision(&sandbox.run(&call("1")).expect("it runs")), "refused: no");
    assert!(asynchronous("const f = () => Promise.resolve().then(f); await f()").run(&call("1")).is_err());
    for body in ["await new Promise(() => {})", "throw 1", "await Promise.reject(new Error('x'))"] {
        assert!(matches!(asynchronous(body).run(&call("1")), Err(RunError::Thrown(_))), "{body}");
    }
    for body in ["for (;;) await 1", "while (true);"] {
        assert_eq!(asynchronous(body).run(&call("1")).map(|_| ()), Err(RunError::Time), "{body}");
    }
}

#[test]
fn the_clock_is_the_inputs_and_randomness_is_seeded() {
    assert_eq!(
        decided("input.payload; return [Date.now(), +new Date(), +new Date(5)]", "1"),
        "[1750000000000,1750000000000,5]"
    );
    assert_eq!(decided("input.payload; return +new (new Date(1)).constructor()", "1"), "1750000000000");
    let body = "input.payload; return [Math.random(), Math.random()]";
    assert_eq!(decided(body, "1"), decided(body, "1"));
    assert_eq!(
        decided(
            "input.payload; return [typeof performance, typeof setTimeout, typeof require, \
        typeof std, typeof os, typeof fetch, typeof console]",
            "1"
        )
        .matches("undefined")
        .count(),
        7
    );
}

/// Each budget fails its own run alone, and the next call of the same script is served.
#[test]
fn hostile_scripts_are_stopped_within_their_budgets() {
    let hostile = [
        ("for (;;);", "time"),
        ("(function f() { f() })()", "thrown"),
        ("const a = []; for (;;) a.push(new Array(1000).fill(1))", "memory"),
        ("const a = []; for (;;) a.push(new Uint8Array(1 << 20))", "memory"),
        ("let s = 'x'; for (;;) s += s", "any"),
        ("/^(a+)+$/.test('a'.repeat(40) + 'b')", "time"),
        ("[...Array(1e9).keys()].length", "any"),
        ("'x'.repeat(2 ** 29)", "any"),
        ("JSON.parse('['.repeat(1e6))", "thrown"),
        ("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; input.payload; return a", "any"),
        ("input.payload; return 'x'.repeat(5000)", "output"),
        ("input.payload; let a = []; for (let i = 0; i < 200; i++) a = [a]; return a", "output"),
        ("for (let i = 0; i < 17; i++) publish('c', 'e', 1)", "thrown"),
        ("for (let i = 0; i < 17; i++) answer('e', 1)", "thrown"),
        ("answer('e', 'x'.repeat(5000))", "output"),
        ("state.a = 'x'.repeat(100)", "output"),
        ("state = () => 1", "thrown"),
        ("throw 1", "thrown"),
        ("throw {toString() { for (;;); }}", "thrown"),
        ("throw Symbol('x')", "thrown"),
        ("throw new Proxy({}, {get() { for (;;); }})", "any"),
        ("throw null", "thrown"),
        ("input.payload; return Symbol('x')", "thrown"),
        ("input.payload; return 1n", "thrown"),
        ("input.payload; const a = {}; a.a = a; return a", "thrown"),
        ("input.payload; return {toJSON() { for (;;); }}", "time"),
        ("input.payload; return new Proxy({}, {ownKeys() { throw 1 }})", "thrown"),
        ("refuse({toString() { throw 1 }})", "thrown"),
        ("Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)", "any"),
        ("return import('os')", "thrown"),
        ("eval('for (;;);')", "time"),
        ("new Function('for (;;);')()", "time"),
        ("try { for (;;); } catch {} finally { for (;;); }", "time"),
        ("function* g() { for (;;) yield 1 } for (const x of g());", "time"),
    ];
    for (body, kind) in hostile {
        let mut sandbox = sandbox(&format!(
            "export function message(input) {{ if (input.payload === 'calm') return 'served'; {body} }}"
        ));
        let result = sandbox.run(&call("1"));
        let is_expected = match kind {
            "time" => matches!(result, Err(RunError::Time)),
            "memory" => matches!(result, Err(RunError::Memory)),
            "output" => matches!(result, Err(RunError::Output(_))),
            "thrown" => matches!(result, Err(RunError::Thrown(_))),
            _ => result.is_err(),
        };
        assert!(is_expected, "{body}: {result:?}, not {kind}");
        if !matches!(result, Err(RunError::Memory)) {
            let served =
                sandbox.run(&call("\"calm\"")).unwrap_or_else(|error| panic!("{body}: then {error}"));
            assert_eq!(decision(&served), "\"served\"", "{body}");
        }
    }
}

/// A script may spoil its own globals, and its decision is still one payload or a failure.
#[test]
fn prototype_tricks_and_getters_reach_nothing_else() {
    for body in [
        "JSON.stringify = () => 'not JSON'; input.payload; return {a: 1}",
        "Object.prototype.toJSON = () => 1; input.payload; return {a: 1}",
        "Array.prototype.push = () => { throw 1 }; answer('e', 1); input.payload; return {a: 1}",
        "let n = 0; input.payload; return {get a() { return ++n }}",
        "Object.prototype.payload = 1; Promise = undefined; Date = undefined; input.payload; return {a: 1}",
        "String.prototype.slice = () => { throw 1 }; answer('e', 1); input.payload; return {a: 1}",
        "input.payload; delete globalThis.refuse; globalThis.refuse = 1; return {a: 1}",
    ] {
        let mut sandbox = sandbox(&format!(
            "export function message(input) {{
                try {{ {body} }} catch (e) {{ if (e instanceof TypeError) return {{a: 1}}; throw e }}
            }}"
        ));
        let text = decision(&sandbox.run(&call("2")).unwrap_or_else(|error| panic!("{body}: {error}")));
        assert!(matches!(&*text, r#"{"a":1}"# | "1"), "{body}: {text}");
    }
    let mut sandbox = sandbox(
        "let n = 0; export function message(input) { globalThis.n = n += 1; input.payload; return n }",
    );
    let numbers: Vec<_> = (0..3).map(|_| decision(&sandbox.run(&call("0")).expect("it runs"))).collect();
    assert_eq!(numbers, ["1", "2", "3"], "a module's variables are the script's own");
}

#[test]
fn a_source_that_does_not_compile_is_refused_with_its_place() {
    let error = |source| match Sandbox::new(source, small(), 7) {
        Ok(_) => panic!("{source} compiles"),
        Err(error) => error,
    };
    let syntax = error("export function message(input) {\n  return input..payload\n}");
    assert_eq!(syntax.line, 2, "{syntax}");
    assert!(syntax.column > 0 && syntax.message.contains("SyntaxError"), "{syntax}");
    let thrown = error("\n\nnull.x; export function message() {}");
    assert_eq!((thrown.line, thrown.message.contains("TypeError")), (3, true), "{thrown}");
    assert!(error("import 'x'; export function message() {}").message.contains("x"));
    assert!(error("const message = 1").message.contains("exports no function"));
    assert!(error("export const message = 1").message.contains("exports no function"));
    assert!(error("for (;;); export function message() {}").message.contains("interrupted"));
    assert!(error("await new Promise(() => {}); export function message() {}").message.len() > 3);
}

#[test]
fn log_lines_are_bounded() {
    let run = run("for (let i = 0; i < 1000; i++) log('x'.repeat(5000))", "1").expect("it runs");
    assert_eq!(run.log.len(), LOG_LINES);
    assert!(run.log.iter().all(|line| line.len() == LOG_CHARS));
}

#[test]
fn a_script_goes_on_in_another_thread() {
    let source = "let n = 0;
        const deep = (depth) => depth ? deep(depth - 1) : 0;
        export async function message(input) { await 1; input.payload; deep(500); return n += 1 }";
    let mut sandbox = sandbox(source);
    for n in 1..4 {
        let thread = std::thread::Builder::new().stack_size(4 << 20).spawn(move || {
            let run = sandbox.run(&call("1"));
            (sandbox, run.map(|run| decision(&run)))
        });
        let run;
        (sandbox, run) = thread.expect("a thread can be made").join().expect("it does not panic");
        assert_eq!(run, Ok(n.to_string()));
    }
    let run = sandbox.run(&call("1")).map(|run| decision(&run));
    assert_eq!(run, Ok("4".to_owned()));
    let endless = "let n = 0; export function message(input) { n += 1; message(input) }";
    let mut sandbox = self::sandbox(endless);
    let thread = std::thread::Builder::new().stack_size(4 << 20).spawn(move || sandbox.run(&call("1")).err());
    let error = thread.expect("a thread can be made").join().expect("it does not panic");
    assert!(matches!(&error, Some(RunError::Thrown(text)) if text.starts_with("RangeError")), "{error:?}");
}

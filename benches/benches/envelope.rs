//! Question: what does it cost to prove one message's envelope well-formed and find its members?
//!
//! Baselines, in the same run and finding the same spans: the simd-json tape, and serde_json into borrowed
//! `RawValue`s. Unit: one envelope; throughput counts its bytes.
//!
//! Payloads come in two kinds, the extremes of real ones: `text`, one long string, and `tree`, small numbers,
//! short strings and literals in nested arrays and objects. The size named is the payload's, about; the
//! envelope adds some 90 bytes. `batch` is an array of 16 envelopes.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::mem;
use std::ops::Range;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_benches::payload::{batch, envelope, text, tree};
use fanfare_core::json::{Document, Element, MAX_DEPTH, Object, Scanner};
use serde_json::value::RawValue;
use simd_json::{Buffers, INPUT_PADDING, Node, Tape, fill_tape_padded};

const PAYLOADS: [(&str, usize); 5] =
    [("16B", 16), ("64B", 64), ("512B", 512), ("4KiB", 4 << 10), ("64KiB", 64 << 10)];
const BATCH: usize = 16;

/// The fields a dispatcher reads, so that every candidate does a dispatcher's work and not only a parser's.
#[derive(Clone, Debug, Default, PartialEq)]
struct Command<'a> {
    kind: &'a str,
    channel: &'a str,
    event: &'a str,
    message: &'a str,
    id: &'a str,
}

impl<'a> Command<'a> {
    fn set(&mut self, key: &str, value: &'a str) {
        match key {
            "type" => self.kind = value,
            "channel" => self.channel = value,
            "event" => self.event = value,
            "message" => self.message = value,
            "id" => self.id = value,
            _ => {}
        }
    }

    fn from_object(object: Object<'_, 'a>) -> Self {
        let mut command = Command::default();
        for (key, value) in object.members() {
            command.set(&key.name(), value.as_str());
        }
        command
    }
}

fn shipped<'a>(scanner: &mut Scanner, text: &'a str, mut visit: impl FnMut(Command<'a>)) {
    match scanner.scan(text).expect("the bench's text is valid") {
        Document::Object(object) => visit(Command::from_object(object)),
        Document::Array(array) => array.elements().for_each(|element| match element {
            Element::Object(object) => visit(Command::from_object(object)),
            Element::Other(_) => {}
        }),
        Document::Other(_) => {}
    }
}

/// The simd-json candidate: the tape is filled from a padded scratch copy, since unescaping works in place,
/// and the addresses of its keys say where in the original each member lies.
struct TapeScanner {
    scratch: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
    marks: Vec<Mark>,
}

/// Where a key's text starts, or the end of the object it belongs to, after the object's last key.
enum Mark {
    Key(usize),
    End,
}

impl TapeScanner {
    fn new() -> Self {
        TapeScanner {
            scratch: Vec::new(),
            buffers: Buffers::with_max_depth(0, MAX_DEPTH),
            tape: Tape(Vec::new()),
            marks: Vec::new(),
        }
    }

    fn fill(&mut self, text: &str) -> Result<(), simd_json::Error> {
        self.scratch.clear();
        self.scratch.extend_from_slice(text.as_bytes());
        self.scratch.resize(text.len() + INPUT_PADDING, 0);
        let base = self.scratch.as_ptr() as usize;
        let mut tape = mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        fill_tape_padded(&mut self.scratch, text.len(), &mut self.buffers, &mut tape)?;
        self.marks.clear();
        let skipped = usize::from(matches!(tape.0.first(), Some(Node::Array { .. })));
        mark_objects(&tape.0[skipped..], base, &mut self.marks);
        self.tape = tape.reset();
        Ok(())
    }

    fn scan<'a>(&mut self, text: &'a str, mut visit: impl FnMut(Command<'a>)) {
        self.fill(text).expect("the bench's text is valid");
        let mut command = Command::default();
        for (mark, next) in self.marks.iter().zip(&self.marks[1..]) {
            let Mark::Key(start) = *mark else { continue };
            let (key, value) = member_spans(text.as_bytes(), start, next);
            command.set(&text[key], &text[value]);
            if let Mark::End = next {
                visit(mem::take(&mut command));
            }
        }
    }
}

/// Notes the keys of each object among `nodes`: the elements of a batch, or the one object of a lone
/// envelope.
fn mark_objects(nodes: &[Node<'_>], base: usize, marks: &mut Vec<Mark>) {
    let mut at = 0;
    while let Some(Node::Object { len, count }) = nodes.get(at) {
        let mut member = at + 1;
        for _ in 0..*len {
            if let Node::String(key) = nodes[member] {
                marks.push(Mark::Key(key.as_ptr() as usize - base));
            }
            member += 2 + match nodes[member + 1] {
                Node::Object { count, .. } | Node::Array { count, .. } => count,
                _ => 0,
            };
        }
        marks.push(Mark::End);
        at += count + 1;
    }
}

/// The spans of a key and its value in the original text, whose grammar is proved. The bench's keys have no
/// escapes and its envelopes no whitespace, which spares this candidate some work.
fn member_spans(text: &[u8], start: usize, next: &Mark) -> (Range<usize>, Range<usize>) {
    let key_end = start + text[start..].iter().position(|&byte| byte == b'"').expect("the key is closed");
    let value_start = key_end + 2;
    let value_end = match next {
        Mark::Key(next) => next - 2,
        // The last member's value: in these envelopes, a number.
        Mark::End => value_start + text[value_start..].iter().position(|&byte| byte == b'}').expect("closed"),
    };
    (start..key_end, value_start..value_end)
}

fn serde_raw_value<'a>(text: &'a str, mut visit: impl FnMut(Command<'a>)) {
    type Members<'a> = BTreeMap<&'a str, &'a RawValue>;
    let mut dispatch = |members: Members<'a>| {
        let mut command = Command::default();
        members.iter().for_each(|(key, value)| command.set(key, value.get()));
        visit(command);
    };
    if text.starts_with('[') {
        let batch: Vec<Members<'a>> = serde_json::from_str(text).expect("the bench's text is valid");
        batch.into_iter().for_each(dispatch);
    } else {
        dispatch(serde_json::from_str(text).expect("the bench's text is valid"));
    }
}

fn envelopes(c: &mut Criterion) {
    for (kind, payload) in [("text", text as fn(usize) -> String), ("tree", tree)] {
        for (name, size) in PAYLOADS {
            candidates(c, kind, name, &envelope(&payload(size)));
        }
    }
    candidates(c, "batch", "16x64B", &batch(BATCH, &tree(64)));
}

fn candidates(c: &mut Criterion, kind: &str, name: &str, text: &str) {
    let (mut scanner, mut tape) = (Scanner::new(), TapeScanner::new());
    assert_same_commands(&mut scanner, &mut tape, text);

    let mut group = c.benchmark_group(format!("envelope/{kind}"));
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_with_input(BenchmarkId::new("shipped", name), text, |b, text| {
        b.iter(|| shipped(&mut scanner, black_box(text), consume));
    });
    group.bench_with_input(BenchmarkId::new("simd-json-tape", name), text, |b, text| {
        b.iter(|| tape.scan(black_box(text), consume));
    });
    group.bench_with_input(BenchmarkId::new("serde-rawvalue", name), text, |b, text| {
        b.iter(|| serde_raw_value(black_box(text), consume));
    });
    group.finish();
}

/// A candidate that finds other spans is answering another question.
fn assert_same_commands(scanner: &mut Scanner, tape: &mut TapeScanner, text: &str) {
    let mut expected = Vec::new();
    serde_raw_value(text, |command| expected.push(command));
    let mut found = Vec::new();
    shipped(scanner, text, |command| found.push(command));
    assert_eq!(found, expected);
    found.clear();
    tape.scan(text, |command| found.push(command));
    assert_eq!(found, expected);
}

fn consume(command: Command<'_>) {
    black_box(command);
}

criterion_group!(benches, envelopes);
criterion_main!(benches);

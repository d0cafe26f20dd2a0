//! What does a WebSocket message cost to decode and encode, against tungstenite in the same run?
//!
//! - `decode`: masked text frames of 64 B, 512 B and 16 KiB, batched in one 64 KiB read. Both sides copy the
//!   batch once (the read) and then yield every message; the baseline is tungstenite's `WebSocket` over a
//!   stream in memory. Unit: wire bytes a second.
//! - `large`: one masked message of 16 MiB in reads of 64 KiB, against the same baseline. Here the baseline
//!   wins by about two: it reserves what the header claims. Ours grows with what arrives, and perf shows
//!   three quarters of its time in memmove: appending each read, and moving what is there at each doubling.
//! - `header`: reading 1,000 frames without payload, against tungstenite's `FrameHeader::parse` alone;
//!   writing 1,000 headers, against `FrameHeader::format`. Unit: frames a second.
//! - `mask`: the wide loop against the byte loop. Unit: payload bytes a second.
//! - `handshake`: our check by way of tungstenite's `create_response`, against comparing the headers by hand
//!   and `derive_accept_key`. Unit: handshakes.

use std::hint::black_box;
use std::io::{self, Cursor, Read, Write};

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_benches::frames::{MASK, UPGRADE_HEADERS, decode_all, text_frames};
use fanfare_core::ws::{Decoder, Fin, OpCode, Upgrade, apply_mask, apply_mask_plain, put_header};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::{self, WebSocket};

const READ_LEN: usize = 64 << 10;
const LARGE_LEN: usize = 16 << 20;

/// A socket whose peer has sent `bytes` and then pauses.
struct Memory {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Memory {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.bytes.len() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = (&self.bytes[self.at..]).read(out)?;
        self.at += read;
        Ok(read)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn baseline(stream: &[u8]) -> WebSocket<Memory> {
    let memory = Memory { bytes: stream.to_vec(), at: 0 };
    WebSocket::from_raw_socket(memory, protocol::Role::Server, None)
}

/// Reads the stream of `socket` from its start; yields the payload bytes seen.
fn read_baseline(socket: &mut WebSocket<Memory>) -> usize {
    socket.get_mut().at = 0;
    let mut seen = 0;
    while let Ok(message) = socket.read() {
        seen += black_box(&message).len();
    }
    seen
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for payload_len in [64, 512, 16 << 10] {
        let count = READ_LEN / (payload_len + 8);
        let stream = text_frames(payload_len, count);
        group.throughput(Throughput::Bytes(stream.len() as u64));

        let mut socket = baseline(&stream);
        assert_eq!(read_baseline(&mut socket), payload_len * count);
        group.bench_function(BenchmarkId::new("tungstenite", payload_len), |b| {
            b.iter(|| read_baseline(&mut socket));
        });

        let mut buffer = vec![0; READ_LEN];
        let mut decoder = Decoder::new();
        assert_eq!(decode_all(&mut decoder, &stream, &mut buffer), payload_len * count);
        group.bench_function(BenchmarkId::new("ours", payload_len), |b| {
            b.iter(|| decode_all(&mut decoder, &stream, &mut buffer));
        });
    }
    group.finish();
}

fn large(c: &mut Criterion) {
    let stream = text_frames(LARGE_LEN, 1);
    let mut group = c.benchmark_group("large");
    group.sample_size(20).throughput(Throughput::Bytes(stream.len() as u64));
    let mut socket = baseline(&stream);
    group.bench_function("tungstenite", |b| b.iter(|| read_baseline(&mut socket)));
    let mut buffer = vec![0; READ_LEN];
    let mut decoder = Decoder::new();
    group.bench_function("ours", |b| b.iter(|| decode_all(&mut decoder, &stream, &mut buffer)));
    group.finish();
}

fn header(c: &mut Criterion) {
    const COUNT: usize = 1000;
    let stream = text_frames(0, COUNT);
    let mut group = c.benchmark_group("header");
    group.throughput(Throughput::Elements(COUNT as u64));
    group.bench_function("decode/tungstenite", |b| {
        b.iter(|| {
            let mut cursor = Cursor::new(black_box(&stream));
            while let Ok(Some(parsed)) = FrameHeader::parse(&mut cursor) {
                black_box(parsed);
            }
        });
    });
    let mut buffer = vec![0; READ_LEN];
    let mut decoder = Decoder::new();
    group.bench_function("decode/ours", |b| b.iter(|| decode_all(&mut decoder, &stream, &mut buffer)));

    let mut out = BytesMut::with_capacity(READ_LEN);
    group.bench_function("encode/tungstenite", |b| {
        b.iter(|| {
            out.clear();
            for payload_len in 0..COUNT {
                let opcode = (OpCode::Text as u8).into();
                let header = FrameHeader { opcode, ..FrameHeader::default() };
                let mut writer = bytes::BufMut::writer(&mut out);
                header.format(black_box(payload_len) as u64, &mut writer).expect("memory takes everything");
            }
        });
    });
    group.bench_function("encode/ours", |b| {
        b.iter(|| {
            out.clear();
            for payload_len in 0..COUNT {
                put_header(&mut out, OpCode::Text, Fin::Last, black_box(payload_len), None);
            }
        });
    });
    group.finish();
}

fn mask(c: &mut Criterion) {
    let mut group = c.benchmark_group("mask");
    for len in [64, 1024, 16 << 10] {
        let mut payload = vec![0x55; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("plain", len), |b| {
            b.iter(|| apply_mask_plain(black_box(&mut payload), black_box(MASK), black_box(1)));
        });
        group.bench_function(BenchmarkId::new("wide", len), |b| {
            b.iter(|| apply_mask(black_box(&mut payload), black_box(MASK), black_box(1)));
        });
    }
    group.finish();
}

/// What the check would be without tungstenite's.
fn accept_by_hand(headers: &[(&str, &[u8])]) -> Option<String> {
    let find = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| *value)
    };
    let asks = find("connection")?
        .split(|byte| *byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    let websocket = find("upgrade")?.eq_ignore_ascii_case(b"websocket");
    let version = find("sec-websocket-version")? == b"13";
    let key = find("sec-websocket-key")?;
    (asks && websocket && version && key.len() == 24).then(|| derive_accept_key(key))
}

fn handshake(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake");
    group.bench_function("by hand", |b| b.iter(|| accept_by_hand(black_box(&UPGRADE_HEADERS))));
    group.bench_function("create_response", |b| {
        b.iter(|| Upgrade::new("GET", 1, black_box(UPGRADE_HEADERS)).accept());
    });
    group.finish();
}

criterion_group!(benches, decode, large, header, mask, handshake);
criterion_main!(benches);

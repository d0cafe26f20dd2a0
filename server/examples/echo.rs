//! An echo server on Fanfare's own loop and codec, for conformance suites such as Autobahn's.
//!
//!     cargo run --release --example echo -- 127.0.0.1:9001
//!
//! It listens at `ws://127.0.0.1:9001/v1/ws?key=conformance-client-key` and allows messages of 16 MiB in
//! 65,536 fragments.

use fanfare_core::{
    engine::{Engine, Flow},
    id::SessionSlot,
    ws::{Message, OpCode, put_frame},
};
use fanfare_server::{Greeting, MessageHandler, Server, config::Config};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends every message back.
const ECHO: MessageHandler = MessageHandler {
    greeting: Greeting::Silence,
    on_messages: |engine, session, messages| {
        messages.for_each(|message| send_back(engine, session, message));
        Flow::Continue
    },
    on_message: |engine, session, message| {
        send_back(engine, session, message);
        Flow::Continue
    },
};

fn send_back(engine: &mut Engine, session: SessionSlot, message: Message<'_>) {
    let (opcode, payload) = match message {
        Message::Text(text) => (OpCode::Text, text.as_bytes()),
        Message::Binary(bytes) => (OpCode::Binary, bytes),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return,
    };
    engine.reply(session, |out| put_frame(out, opcode, payload));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".into());
    let config = Config::from_toml(&format!(
        r#"
        [server]
        listen = ["{address}"]
        admin_listen = "off"
        workers = 1
        [server.limits]
        frame_bytes = 16777216
        fragments = 65536
        [apps.default]
        client_key = "conformance-client-key"
        server_key = "conformance-server-key"
        [apps.default.limits]
        outbound_bytes = 268435456
        "#
    ))?;
    let server = Server::start_with(config, ECHO)?;
    println!("listening on {}", server.addresses()[0]);
    loop {
        std::thread::park();
    }
}

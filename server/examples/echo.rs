//! An echo server on Fanfare's own loop and codec, for conformance suites such as Autobahn's.
//!
//!     cargo run --release --example echo -- 127.0.0.1:9001
//!
//! It listens at `ws://127.0.0.1:9001/v1/ws?key=conformance-client-key` and allows messages of 16 MiB in 65,536
//! fragments.

use fanfare_core::{
    engine::{Engine, Flow},
    id::SessionSlot,
    ws::{Message, OpCode, put_frame},
};
use fanfare_server::{Handler, Server, config::Config};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends every message back.
#[derive(Copy, Clone)]
struct Echo;

impl Handler for Echo {
    const WELCOMES: bool = false;

    fn on_messages<'m>(
        &mut self,
        engine: &mut Engine,
        session: SessionSlot,
        messages: impl Iterator<Item = Message<'m>>,
    ) -> Flow {
        for message in messages {
            let (opcode, payload) = match message {
                Message::Text(text) => (OpCode::Text, text.as_bytes()),
                Message::Binary(bytes) => (OpCode::Binary, bytes),
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) => continue,
            };
            engine.reply(session, |out| put_frame(out, opcode, payload));
        }
        Flow::Continue
    }
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
    let server = Server::start_with(config, Echo)?;
    println!("listening on {}", server.addresses()[0]);
    loop {
        std::thread::park();
    }
}

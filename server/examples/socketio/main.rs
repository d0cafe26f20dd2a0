//! An Engine.IO and Socket.IO server on Fanfare's protocol layers alone: one thread, one loop, no engine, no
//! channels.
//!
//!     cargo run --example socketio -- 127.0.0.1:3000 [PING_INTERVAL_MS PING_TIMEOUT_MS]
//!
//! `/engine.io/` sends every message back. `/socket.io/` has the namespaces `/` and `/custom` and the events
//! of [`application`]. The times are those that the official protocol suites ask for: pings after 300 ms, 200
//! ms to answer, 1000 ms to connect, payloads of at most 1,000,000 bytes.

mod answer;
mod application;
mod server;
mod session;
mod socket;

use std::{env, error::Error, net::SocketAddr};

use fanfare_core::{engineio, socketio};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:3000").parse()?;
    let mut milliseconds = |default: u32| arguments.next().map_or(Ok(default), |argument| argument.parse());
    let engine = engineio::Config {
        ping_interval_ms: milliseconds(300)?,
        ping_timeout_ms: milliseconds(200)?,
        ..engineio::Config::default()
    };
    let connection = socketio::Config { connect_timeout_ms: 1000, ..socketio::Config::default() };
    let mut server = server::Server::bind(address, engine, connection)?;
    println!("listening on {}", server.address()?);
    server.run()
}

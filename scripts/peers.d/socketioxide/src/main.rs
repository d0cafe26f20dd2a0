//! Channels on socketioxide, with Agnost's events. Usage: peers-socketioxide PORT. With ANNOUNCE=1 members
//! are told who joins and leaves.

use std::env;

use axum::serve::ListenerExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use socketioxide::{
    SocketIo, TransportType,
    extract::{Data, SocketRef},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Auth {
    echo_messages: bool,
}

#[derive(Deserialize)]
struct Membership {
    channel: String,
    echo: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    channel: Option<String>,
    event_name: String,
    message: Value,
}

#[derive(Serialize)]
struct Publication {
    channel: Option<String>,
    message: Value,
}

fn main() {
    let port = env::args().nth(1).and_then(|port| port.parse::<u16>().ok()).expect("a port");
    let announces = env::var("ANNOUNCE").is_ok_and(|value| value == "1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let (layer, io) = SocketIo::builder()
            .transports([TransportType::Websocket])
            .max_buffer_size(65_536)
            .build_layer();
        io.ns("/", async move |socket: SocketRef, Data(auth): Data<Auth>| accept(socket, auth, announces));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a socket"));
        axum::serve(listener, axum::Router::new().layer(layer)).await.expect("a server");
    });
}

fn accept(socket: SocketRef, auth: Auth, announces: bool) {
    let echoes = auth.echo_messages;
    socket.on("join", async move |socket: SocketRef, Data(Membership { channel, echo }): Data<Membership>| {
        socket.join(channel.clone());
        notify(&socket, "channel:join", &channel, echo.unwrap_or(echoes), announces).await;
    });
    socket.on("leave", async move |socket: SocketRef, Data(Membership { channel, echo }): Data<Membership>| {
        socket.leave(channel.clone());
        notify(&socket, "channel:leave", &channel, echo.unwrap_or(echoes), announces).await;
    });
    socket.on("message", async move |socket: SocketRef, Data(sent): Data<Message>| {
        let Message { channel, event_name, message } = sent;
        let receivers = match (&channel, echoes) {
            (Some(channel), true) => socket.within(channel.clone()),
            (Some(channel), false) => socket.to(channel.clone()),
            (None, _) => socket.broadcast(),
        };
        // A receiver that is gone or full is not the sender's problem.
        receivers.emit(event_name, &Publication { channel, message }).await.ok();
    });
}

async fn notify(socket: &SocketRef, event: &str, channel: &str, echo: bool, announces: bool) {
    let notice = json!({ "channel": channel, "message": { "id": socket.id } });
    if announces {
        socket.to(channel.to_owned()).emit(event, &notice).await.ok();
    }
    if echo {
        socket.emit(event, &notice).ok();
    }
}

//! The tests' stub server, listening on the address given: something to try the generator on, and to find its
//! own ceiling with.

#[path = "../tests/stub/mod.rs"]
mod stub;

fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let stub = stub::Stub::listen(address.parse().expect("an address"), stub::Mischief::None);
    println!("listening on {}", stub.address());
    loop {
        std::thread::park();
    }
}

//! Whether the processes that listen on the server's port are the server: what the kernel's tables of TCP
//! sockets say of them.

use std::{collections::HashSet, fmt, fs, net::SocketAddr};

use crate::procfs::ProcessSet;

/// Connections onward that a server may have for itself: to a database, to others of its kind.
const FEW: u64 = 4;

const ESTABLISHED: &str = "01";
const LISTENING: &str = "0A";

/// Why the processes of a server are not known, or are perhaps not those that do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It has another address than this machine's loopback.
    Remote,
    /// Nothing in this network namespace listens on the port.
    Absent(u16),
    /// A process of this user listens, which cannot be looked into.
    Hidden(u32),
    /// The processes have about as many connections onward as they accepted.
    PassesOn { accepted: u64, onward: u64 },
}

impl Doubt {
    /// What is to be doubted of these processes, which are said to be the server at this address.
    pub(crate) fn of(server: &ProcessSet, address: SocketAddr) -> Option<Self> {
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
        let sockets: Vec<_> =
            tables.iter().flat_map(|table| table.lines().filter_map(Socket::read)).collect();
        if server.pids().is_empty() {
            let listens =
                |socket: &&Socket<'_>| socket.state == LISTENING && socket.local_port == address.port();
            return Some(match sockets.iter().find(listens) {
                _ if !address.ip().is_loopback() => Self::Remote,
                None => Self::Absent(address.port()),
                Some(socket) => Self::Hidden(socket.uid),
            });
        }
        judge(&sockets, &server.socket_inodes(), address.port())
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote => f.write_str(
                "The server's process is not known, since its address is not this machine's loopback: no \
                 CPU time and memory of it (--server-pid).",
            ),
            Self::Absent(port) => write!(
                f,
                "The server's process is not known: no socket in this network namespace listens on port \
                 {port}, so a container has it, or connections are forwarded. No CPU time and memory of it \
                 (--server-pid)."
            ),
            Self::Hidden(uid) => write!(
                f,
                "The server's process is not known: it is of the user with id {uid}, and hidden from this \
                 one. No CPU time and memory of it."
            ),
            Self::PassesOn { accepted, onward } => write!(
                f,
                "The server's processes accepted {accepted} connections and have {onward} onward: if they \
                 are a proxy, their CPU time is the proxy's (--server-pid names the server's own)."
            ),
        }
    }
}

/// A line of the kernel's table.
struct Socket<'a> {
    local_port: u16,
    remote_port: u16,
    state: &'a str,
    uid: u32,
    inode: u64,
}

impl<'a> Socket<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().take(10).collect();
        let port = |at: usize| u16::from_str_radix(fields.get(at)?.rsplit_once(':')?.1, 16).ok();
        Some(Self {
            local_port: port(1)?,
            remote_port: port(2)?,
            state: fields.get(3)?,
            uid: fields.get(7)?.parse().ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    }
}

/// Whether the owner of these sockets passes on what it accepts on a port.
fn judge(sockets: &[Socket<'_>], own: &HashSet<u64>, port: u16) -> Option<Doubt> {
    let established = |socket: &&Socket<'_>| socket.state == ESTABLISHED && own.contains(&socket.inode);
    let (mut accepted, mut onward) = (0, 0);
    for socket in sockets.iter().filter(established) {
        accepted += u64::from(socket.local_port == port);
        // A generator in the server's own process is no proxy.
        onward += u64::from(socket.local_port != port && socket.remote_port != port);
    }
    (onward > FEW && onward * 2 >= accepted && accepted > 0).then_some(Doubt::PassesOn { accepted, onward })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(accepted: u16, onward: u16) -> String {
        let mut table = String::from("  sl  local_address rem_address   st tx_queue rx_queue …\n");
        let mut put = |(local, remote): (u16, u16), state: &str, inode: u16| {
            table += &format!(
                "   0: 0100007F:{local:04X} 0100007F:{remote:04X} {state} 00000000:00000000 00:00000000 \
                 00000000 1000        0 {inode} 1 0000000000000000 20 4 30 10 -1\n"
            );
        };
        put((8080, 0), LISTENING, 1);
        (0..accepted).for_each(|at| put((8080, 40_000 + at), ESTABLISHED, 100 + at));
        (0..onward).for_each(|at| put((50_000 + at, 9090), ESTABLISHED, 1000 + at));
        // The other ends, and a stranger's connections.
        (0..accepted).for_each(|at| put((40_000 + at, 8080), ESTABLISHED, 5000 + at));
        (0..50).for_each(|at| put((60_000 + at, 443), ESTABLISHED, 9000 + at));
        table
    }

    #[test]
    fn proxy_has_a_connection_onward_for_each_that_it_accepts() {
        let judged = |accepted, onward| {
            let table = table(accepted, onward);
            let sockets: Vec<_> = table.lines().filter_map(Socket::read).collect();
            judge(&sockets, &(1..2000).collect(), 8080)
        };
        assert_eq!(judged(100, 100), Some(Doubt::PassesOn { accepted: 100, onward: 100 }));
        assert_eq!(judged(100, 60), Some(Doubt::PassesOn { accepted: 100, onward: 60 }));
        assert_eq!(judged(100, 20), None, "a pool of connections to a database");
        assert_eq!(judged(3, 4), None);
        assert_eq!(judged(0, 30), None, "nobody is connected yet");
    }

    #[test]
    fn server_that_cannot_be_seen_has_a_sentence() {
        let nobody = ProcessSet::default();
        let loopback = "127.0.0.1:1".parse().expect("an address");
        assert_eq!(Doubt::of(&nobody, loopback), Some(Doubt::Absent(1)));
        let remote = "192.0.2.1:80".parse().expect("an address");
        assert_eq!(Doubt::of(&nobody, remote), Some(Doubt::Remote));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        // Who it is cannot be seen here: nobody was looked for.
        let hidden = Doubt::of(&nobody, address).expect("somebody listens");
        assert!(matches!(hidden, Doubt::Hidden(_)) && hidden.to_string().ends_with("memory of it."));
    }
}

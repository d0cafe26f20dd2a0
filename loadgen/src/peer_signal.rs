//! What workers tell each other while they measure: messages that all receivers of one of them have.
//!
//! Each worker has a datagram socket of an abstract address (unix(7)), and its poll wakes it when something
//! came. It makes no difference whether two workers are threads of one process or of two: what one says
//! reaches the other by one system call and one wake, with nobody in between. Datagrams between such sockets
//! are neither lost nor reordered; what does not fit the receiver's queue is kept and sent later.

use std::{
    io::{self, ErrorKind},
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use crate::net::Net;

/// Which message: publisher and sequence.
pub(crate) type Message = (u32, u32);

const MESSAGE_BYTES: usize = 8;
/// Messages of one datagram.
const MOST: usize = 512;

/// One worker's signal box, and what it has for others.
pub(crate) struct PeerSignal {
    socket: UnixDatagram,
    /// By worker: its address, and what is to be told to it.
    others: Vec<(SocketAddr, Vec<Message>)>,
    buffer: Box<[u8]>,
}

impl PeerSignal {
    /// The box of one of so many workers, looked after by its poll. `name` tells runs apart.
    pub(crate) fn open(net: &Net, name: &str, worker: usize, workers: usize) -> io::Result<Self> {
        let address = |worker| SocketAddr::from_abstract_name(format!("{name}-{worker}"));
        let socket = UnixDatagram::bind_addr(&address(worker)?)?;
        socket.set_nonblocking(true)?;
        net.watch_signal(socket.as_raw_fd())?;
        let others =
            (0..workers).map(|other| Ok((address(other)?, Vec::new()))).collect::<io::Result<_>>()?;
        Ok(Self { socket, others, buffer: vec![0; MOST * MESSAGE_BYTES].into_boxed_slice() })
    }

    /// Something to tell another worker, with the next [`PeerSignal::send`].
    pub(crate) fn put(&mut self, worker: usize, message: Message) {
        self.others[worker].1.push(message);
    }

    /// Sends what there is. False if some of it has to wait, because another worker reads too slowly.
    pub(crate) fn send(&mut self) -> io::Result<bool> {
        let mut is_all = true;
        for (address, messages) in &mut self.others {
            while !messages.is_empty() {
                let count = messages.len().min(MOST);
                for (place, (publisher, sequence)) in
                    self.buffer.chunks_exact_mut(MESSAGE_BYTES).zip(&messages[..count])
                {
                    place[..4].copy_from_slice(&publisher.to_ne_bytes());
                    place[4..].copy_from_slice(&sequence.to_ne_bytes());
                }
                match self.socket.send_to_addr(&self.buffer[..count * MESSAGE_BYTES], address) {
                    Ok(_) => drop(messages.drain(..count)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        is_all = false;
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // It has ended: either the run is over, or whoever looks after that worker says why.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => messages.clear(),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(is_all)
    }

    /// Takes everything that came.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(Message)) -> io::Result<()> {
        loop {
            match self.socket.recv(&mut self.buffer) {
                Ok(read) => self.buffer[..read].chunks_exact(MESSAGE_BYTES).for_each(|place| {
                    let number = |at: usize| {
                        u32::from_ne_bytes([place[at], place[at + 1], place[at + 2], place[at + 3]])
                    };
                    each((number(0), number(4)));
                }),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Target;

    fn boxes(name: &str, count: usize) -> Vec<PeerSignal> {
        let name = format!("fanfare-signal-{name}-{}", std::process::id());
        let open = |worker| {
            let address = "127.0.0.1:1".parse().expect("an address");
            let target = Target { address, host: String::new(), tls: None, sources: 0..0, parallel: 1 };
            let net = Net::new(target, 1).expect("a poll");
            PeerSignal::open(&net, &name, worker, count).expect("a free name")
        };
        (0..count).map(open).collect()
    }

    fn received(signal: &mut PeerSignal) -> Vec<Message> {
        let mut all = Vec::new();
        signal.receive(|message| all.push(message)).expect("readable");
        all
    }

    #[test]
    fn everything_arrives_once_and_in_order_however_full_the_queue_is() {
        let [one, other] = &mut boxes("full", 2)[..] else { panic!("two boxes") };
        let (mut sent, mut heard) = (0, Vec::new());
        let mut had_to_wait = false;
        for round in 0..200 {
            for _ in 0..700 {
                one.put(1, (round, sent));
                sent += 1;
            }
            had_to_wait |= !one.send().expect("writable");
            if round % 50 == 49 {
                heard.extend(received(other));
            }
        }
        assert!(had_to_wait, "a queue is not that long");
        while !one.send().expect("writable") {
            heard.extend(received(other));
        }
        heard.extend(received(other));
        assert!(heard.iter().map(|(_, sequence)| *sequence).eq(0..sent));
        assert!(received(one).is_empty() && received(other).is_empty());
    }

    #[test]
    fn nothing_is_told_to_one_that_has_ended() {
        let mut both = boxes("ended", 2);
        drop(both.pop());
        both[0].put(1, (1, 2));
        assert!(both[0].send().expect("no failure"));
    }
}

//! A network between the program and a server: it carries, stops without a word, or breaks.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// What the network does.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub(crate) enum Network {
    /// It carries everything.
    Carries,
    /// It carries nothing more, and says so to nobody.
    Silent,
    /// Connections that are there are as good as dead; new ones are carried.
    HasForgotten,
    /// It breaks every connection off (RST).
    Breaks,
}

const ALL: [Network; 4] =
    [Network::Carries, Network::Silent, Network::HasForgotten, Network::Breaks];

/// A port of its own that leads to another one, for as long as the process lives.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
}

struct State {
    network: AtomicU8,
    /// How often it has forgotten all connections.
    epoch: AtomicU64,
    carried: AtomicU64,
    /// Everything is silent as soon as so much was carried.
    silent_after: AtomicU64,
}

impl State {
    fn network(&self) -> Network {
        ALL[usize::from(self.network.load(Ordering::SeqCst))]
    }

    /// What happens to a connection of an epoch.
    fn of(&self, epoch: u64) -> Network {
        match self.network() {
            Network::HasForgotten if self.epoch.load(Ordering::SeqCst) == epoch => Network::Carries,
            Network::HasForgotten => Network::Silent,
            other => other,
        }
    }
}

impl Proxy {
    /// In front of a port of this machine.
    pub(crate) fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let state = Arc::new(State {
            network: AtomicU8::new(Network::Carries as u8),
            epoch: AtomicU64::new(0),
            carried: AtomicU64::new(0),
            silent_after: AtomicU64::new(u64::MAX),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                let epoch = state.epoch.load(Ordering::SeqCst);
                std::thread::spawn(move || carry(client, target, &state, epoch));
            }
        });
        Proxy { port, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A URL with this port instead of that of the server.
    pub(crate) fn instead(&self, url: &str, port: u16) -> String {
        let through = url.replace(&format!(":{port}/"), &format!(":{}/", self.port));
        assert_ne!(through, url);
        through
    }

    pub(crate) fn becomes(&self, network: Network) {
        if network == Network::HasForgotten {
            self.state.epoch.fetch_add(1, Ordering::SeqCst);
        }
        self.state.network.store(network as u8, Ordering::SeqCst);
    }

    /// Becomes this once so many bytes were carried.
    pub(crate) fn is_silent_after(&self, bytes: u64) {
        self.state.silent_after.store(bytes, Ordering::SeqCst);
    }

    /// How many bytes were carried.
    pub(crate) fn carried(&self) -> u64 {
        self.state.carried.load(Ordering::SeqCst)
    }
}

fn carry(client: TcpStream, target: u16, state: &Arc<State>, epoch: u64) {
    let server = TcpStream::connect(("127.0.0.1", target)).expect("the server");
    let back = (server.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
    let other = Arc::clone(state);
    std::thread::spawn(move || pump(&back.0, &back.1, &other, epoch));
    pump(&client, &server, state, epoch);
}

/// Carries one direction until an end closes it; a silent one is never closed.
fn pump(mut from: &TcpStream, mut to: &TcpStream, state: &State, epoch: u64) {
    let mut buffer = vec![0; 1 << 14];
    loop {
        let read = from.read(&mut buffer);
        loop {
            if state.carried.load(Ordering::SeqCst) >= state.silent_after.load(Ordering::SeqCst) {
                state.network.store(Network::Silent as u8, Ordering::SeqCst);
            }
            match state.of(epoch) {
                Network::Carries => break,
                Network::Breaks => {
                    for stream in [from, to] {
                        // closed without a word but RST
                        let _ =
                            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
                        let _ = stream.shutdown(std::net::Shutdown::Both);
                    }
                    return;
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        match read {
            Ok(length @ 1..) if to.write_all(&buffer[..length]).is_ok() => {
                state.carried.fetch_add(length as u64, Ordering::SeqCst);
            }
            _ => break,
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

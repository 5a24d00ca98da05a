//! A socket that speaks the first words of PostgreSQL's protocol: an error, a login without answers, or nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a client is told that connects.
#[derive(Clone)]
pub(crate) enum Says {
    /// A fatal error with this SQLSTATE and these words, as the answer to the startup packet.
    Fatal { state: String, words: String },
    /// A login without a password, and no answer to any query, as a pooler does that has no connection left.
    WelcomeOnly,
    /// Nothing.
    Nothing,
}

/// A listener on a port of its own, for as long as the process lives.
pub(crate) struct Speaker {
    port: u16,
    met: Arc<AtomicUsize>,
}

impl Speaker {
    pub(crate) fn new(says: Says) -> Speaker {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let met = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&met);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let says = says.clone();
                std::thread::spawn(move || answer(stream, &says));
            }
        });
        Speaker { port, met }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many clients have connected.
    pub(crate) fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, says: &Says) {
    if matches!(says, Says::Nothing) {
        // until the client goes
        let _ = stream.read_to_end(&mut Vec::new());
        return;
    }
    let mut packet = packet(&mut stream);
    if packet.starts_with(&[4, 210, 22, 47]) {
        // the request for TLS
        let _ = stream.write_all(b"N");
        packet = self::packet(&mut stream);
    }
    assert_eq!(packet.get(..2), Some([0, 3].as_slice()), "the startup packet");
    let message = match says {
        Says::Fatal { state, words } => {
            let fields = format!("SFATAL\0VFATAL\0C{state}\0M{words}\0\0");
            message(b'E', fields.as_bytes())
        }
        Says::WelcomeOnly => [message(b'R', &[0, 0, 0, 0]), message(b'Z', b"I")].concat(),
        Says::Nothing => Vec::new(),
    };
    let _ = stream.write_all(&message);
    if matches!(says, Says::WelcomeOnly) {
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// What a client sends at first: a length and so many bytes, itself included.
fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a length");
    let mut packet = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut packet).expect("a packet");
    packet
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message").to_be_bytes();
    [&[kind], length.as_slice(), body].concat()
}

//! A commit whose answer is lost: the history tells what became of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::*;

/// A port that leads to the server, and cuts its first connection at the commit, which the server gets or not.
fn cutting(port: u16, delivers: bool) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().flatten().enumerate() {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || pump(client, server, (number == 0).then_some(delivers)));
            std::thread::spawn(move || pump(from, to, None));
        }
    });
    own
}

/// Passes bytes on until the commit, if it is to be cut there.
fn pump(mut from: TcpStream, mut to: TcpStream, cut: Option<bool>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..length];
        if let Some(delivers) = cut
            && bytes.windows(7).any(|window| window == b"COMMIT\0")
        {
            let _ = from.shutdown(Shutdown::Both);
            if delivers {
                let _ = to.write_all(bytes);
                std::thread::sleep(Duration::from_millis(300));
            }
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_commit_whose_answer_is_lost_is_asked_for() {
    for delivers in [true, false] {
        let name = format!("lost_commit_{delivers}");
        let (database, scratch) = (empty(OWNER, &name), Scratch::new(&name));
        let port = cutting(database.port(), delivers);
        let url = database.url().replace(&format!(":{}/", database.port()), &format!(":{port}/"));
        let done =
            import(&archive(&scratch, &session(1, 10..13)), &format!("{url}?sslmode=disable"), &[]);
        let (events, batch) = match delivers {
            true => {
                done.success();
                ("3", "import|sqlite|completed|4|")
            }
            false => {
                done.fails_with(8).stderr_has("nothing was changed");
                ("0", "import|sqlite|failed|0|the commit failed")
            }
        };
        assert_eq!(database.psql("SELECT count(*) FROM chronicle_events"), events);
        let found = database.psql(BATCHES);
        assert!(found.starts_with(batch), "{found}");
    }
}

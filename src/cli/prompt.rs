//! A password that is typed on the terminal, which does not show it.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};

use futures::future::BoxFuture;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::{Mutex, oneshot};

/// One question at a time: a command may have two databases.
static ASKING: Mutex<()> = Mutex::const_new(());

/// Asks for the password of a database, on the terminal itself: stdin and stdout may be pipes. None where nobody
/// watches (stderr is no terminal), and if nothing is typed.
pub(super) fn password(place: String) -> BoxFuture<'static, Option<String>> {
    Box::pin(async move {
        let _alone = ASKING.lock().await;
        let terminal = std::io::stderr()
            .is_terminal()
            .then(|| File::options().read(true).write(true).open("/dev/tty").ok())??;
        let mut quiet = Quiet::make(terminal)?;
        write!(quiet.terminal, "Password for {place}: ").ok()?;
        let reader = quiet.terminal.try_clone().ok()?;
        let (done, typed) = oneshot::channel();
        // Ctrl-C drops what waits here, not the thread, which ends with the process
        std::thread::spawn(move || {
            let _ = done.send(read_line(reader));
        });
        let typed = typed.await.ok()?;
        let _ = writeln!(quiet.terminal);
        typed.filter(|password| !password.is_empty())
    })
}

fn read_line(terminal: File) -> Option<String> {
    let mut line = String::new();
    BufReader::new(terminal).read_line(&mut line).ok()?;
    Some(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn make(terminal: File) -> Option<Quiet> {
        let before = tcgetattr(&terminal).ok()?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &modes).ok()?;
        Some(Quiet { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

//! Signals, and what they mean for `run`.
//!
//! ```text
//! SIGINT ──▶ finish ─┐ any ┌▶ abort ─┐ any ┌▶ the process ends
//! SIGTERM ─▶ abort ──┴─────┘         └─────┘
//! ```

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::worker::Control;

/// Exit code of a worker that was told to go at once.
const TERMINATED: u8 = 72;

/// A signal that asks to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGINT
    Interrupt,
    /// SIGTERM
    Terminate,
    /// SIGHUP: the terminal is gone.
    HangUp,
}

impl Asked {
    /// The exit code that a shell would show for it.
    pub fn shell_code(self) -> u8 {
        match self {
            Self::HangUp => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// The signals that arrive, from now on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    /// Listens to SIGINT and SIGTERM.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hang_up: None })
    }

    /// And to SIGHUP, for commands that belong to a terminal.
    pub fn listen_at_terminal() -> io::Result<Self> {
        Ok(Self { hang_up: Some(signal(SignalKind::hangup())?), ..Self::listen()? })
    }

    /// The next one. Cancel safe.
    pub async fn next(&mut self) -> Asked {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased; // No order matters: whoever sends two at once means the stronger, and the second follows.
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = hang_up => Asked::HangUp,
        }
    }
}

/// What the `count`th signal (from 1) means for a worker.
fn meaning(count: u32, asked: Asked) -> Meaning {
    match (count, asked) {
        (1, Asked::Interrupt) => Meaning::Finish,
        (1 | 2, _) => Meaning::Abort,
        _ => Meaning::Exit,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Finish,
    Abort,
    Exit,
}

/// Hands signals to a worker, for as long as it is polled.
pub async fn steer(mut signals: Signals, control: Control) {
    for count in 1.. {
        match meaning(count, signals.next().await) {
            Meaning::Finish => control.finish(),
            Meaning::Abort => control.abort(),
            Meaning::Exit => {
                tracing::warn!("Told to go for the third time: ending at once; what runs is left to the end of its claim");
                std::process::exit(i32::from(TERMINATED));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_only_get_stronger() {
        use Asked::{Interrupt, Terminate};
        assert_eq!(meaning(1, Interrupt), Meaning::Finish);
        assert_eq!(meaning(1, Terminate), Meaning::Abort);
        for asked in [Interrupt, Terminate] {
            assert_eq!(meaning(2, asked), Meaning::Abort);
            assert_eq!(meaning(3, asked), Meaning::Exit);
        }
    }
}

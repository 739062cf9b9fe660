//! The worker's own log: lines on standard error, in the form that log shippers and monitors of pools parse.
//!
//! A line is `YYYY/MM/DD HH:MM:SSZ message` in UTC. Levels, fields and spans are left out: programs read what follows
//! `WORKER_METRICS ` up to the end of the line. An event is written in one piece, so that others cannot cut its lines.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt as _},
};

use crate::{
    log::format,
    seam::{Clock, SystemClock},
};

/// The environment variable that chooses what is logged.
pub const FILTER_VARIABLE: &str = "TC_WORKER_LOG";

/// How much is logged unless the environment says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// What a service says.
    Everything,
    /// What somebody should know who only wants to run a task.
    Trouble,
}

/// Starts logging. A filter that cannot be read is reported and left out.
pub fn start(amount: Amount) {
    start_on(amount, io::stderr());
}

/// The same with another place for the lines.
pub fn start_on(amount: Amount, out: impl Write + Send + 'static) {
    let usual = match amount {
        Amount::Everything => "warn,tc_worker=info,tc_engine=info,tc_engine_native=info,tc_sys=info",
        Amount::Trouble => "warn",
    };
    let asked = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let asked = asked.trim();
    let mut complaint = None;
    let filter = EnvFilter::try_new(if asked.is_empty() { usual } else { asked }).unwrap_or_else(|error| {
        complaint = Some(error.to_string());
        EnvFilter::new(usual)
    });
    let subscriber = tracing_subscriber::registry().with(filter).with(Lines::new(Arc::new(SystemClock), out));
    // Only the first call in a process counts, and there is only one.
    drop(tracing::subscriber::set_global_default(subscriber));
    if let Some(complaint) = complaint {
        tracing::warn!("{FILTER_VARIABLE} is not understood and does not count: {complaint}");
    }
}

/// Writes events as lines.
struct Lines<W> {
    clock: Arc<dyn Clock>,
    out: Mutex<W>,
}

impl<W> Lines<W> {
    fn new(clock: Arc<dyn Clock>, out: W) -> Self {
        Self { clock, out: Mutex::new(out) }
    }
}

impl<S: Subscriber, W: Write + Send + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        // Complete before the lock is taken, so that whatever formats itself slowly holds up nobody else.
        let lines = lines(self.clock.wall(), &message.0);
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody reads it: then nobody misses it, least of all a task.
        drop(out.write_all(lines.as_bytes()));
    }
}

/// The lines of a message. Each has the date: a shipper makes a record of each, and sorts them by it. Control characters are shown.
fn lines(at: Timestamp, message: &str) -> String {
    let date = at.strftime("%Y/%m/%d %H:%M:%SZ").to_string();
    let mut lines = String::new();
    for line in message.trim_end_matches('\n').split('\n') {
        lines.extend([&date, " ", &format::shown(line, |c| c.is_control() && c != '\t'), "\n"]);
    }
    lines
}

/// Takes the message out of an event.
struct Message(String);

impl tracing::field::Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::TestClock;

    /// Keeps each write apart.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<String>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").push(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_write_and_each_of_its_lines_has_the_date() {
        let clock = TestClock::starting_at("2026-01-02T03:04:05.678+02:00".parse().expect("a date"));
        let writes = Writes::default();
        let layer = Lines::new(Arc::new(clock), writes.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _span = tracing::info_span!("a span is left out", task = "x").entered();
            tracing::info!(field = "left out", "WORKER_METRICS {}", "{\"a\":1}");
            tracing::error!("first\nsecond\u{1b}[2J\n");
        });
        let written = writes.0.lock().expect("not poisoned");
        let date = "2026/01/02 01:04:05Z";
        assert_eq!(
            *written,
            [format!("{date} WORKER_METRICS {{\"a\":1}}\n"), format!("{date} first\n{date} second\\u{{1b}}[2J\n")]
        );
        let rest = written[0].split_once("WORKER_METRICS ").expect("a metrics line").1;
        assert_eq!(serde_json::from_str::<serde_json::Value>(rest).expect("JSON"), serde_json::json!({ "a": 1 }));
    }
}

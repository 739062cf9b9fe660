//! The worker's own log: one line per event on standard error, in the reference's form.

use std::{fmt, io::Write as _};

use jiff::Timestamp;
use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt as _},
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
    let subscriber = tracing_subscriber::registry().with(filter).with(Lines);
    // Only the first call in a process counts, and there is only one.
    drop(tracing::subscriber::set_global_default(subscriber));
    if let Some(complaint) = complaint {
        tracing::warn!("{FILTER_VARIABLE} is not understood and does not count: {complaint}");
    }
}

/// Writes events as lines.
struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        // Nobody reads it: then nobody misses it, least of all a task.
        drop(std::io::stderr().lock().write_all(line(Timestamp::now(), &message.0).as_bytes()));
    }
}

/// One line. A message of several lines stays so: some hold what a task's author has to see whole.
fn line(at: Timestamp, message: &str) -> String {
    format!("{} {}\n", at.strftime("%Y/%m/%d %H:%M:%SZ"), message.trim_end_matches('\n'))
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

    #[test]
    fn a_line_has_the_date_in_utc_and_one_newline() {
        let at: Timestamp = "2026-01-02T03:04:05.678+02:00".parse().expect("a date");
        assert_eq!(line(at, "hello\n"), "2026/01/02 01:04:05Z hello\n");
    }
}

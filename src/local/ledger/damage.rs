//! Records that make no sense. They are passed over and stay where they are: a queue that does not start helps nobody.

use super::Kind;

/// How many there were. What they hold is never shown, as it may be secret.
#[derive(Default)]
pub(crate) struct Damage {
    records: u64,
    first: Option<String>,
}

impl Damage {
    /// What was read of this record; nothing is damage.
    pub(crate) fn unless<T>(&mut self, kind: Kind, key: &str, read: Option<T>) -> Option<T> {
        if read.is_none() {
            self.records += 1;
            self.first.get_or_insert_with(|| format!("{kind} \"{key}\""));
        }
        read
    }

    /// Whether there was none.
    pub(crate) fn is_none(&self) -> bool {
        self.records == 0
    }

    /// Says so in the log.
    pub(crate) fn tell(&self) {
        if let Some(first) = &self.first {
            tracing::warn!(
                "{} records of the data directory make no sense and are passed over, the first is {first}",
                self.records
            );
        }
    }
}

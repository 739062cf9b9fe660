//! What could not be stored.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// Counts the task's bytes that found no room, and tells whoever waits for that. Nothing is ever found again.
#[derive(Debug, Default)]
pub(super) struct Loss {
    reason: OnceLock<String>,
    bytes: AtomicU64,
    happened: Notify,
}

impl Loss {
    /// Whether this is the first loss.
    pub(super) fn add(&self, bytes: u64, reason: impl FnOnce() -> String) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut first = false;
        self.reason.get_or_init(|| {
            first = true;
            reason()
        });
        if first {
            self.happened.notify_waiters();
        }
        first
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Resolves with the reason of the first loss; never, if there is none.
    pub(super) async fn wait(&self) -> String {
        let mut happened = std::pin::pin!(self.happened.notified());
        happened.as_mut().enable();
        if self.reason().is_none() {
            happened.await;
        }
        self.reason().unwrap_or_default().to_owned()
    }
}

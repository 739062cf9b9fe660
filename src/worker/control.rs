//! Telling the worker to go. Requests only ever get stronger.

use tokio::sync::watch;

/// How urgently the worker has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Urgency {
    /// Not at all.
    #[default]
    Stay,
    /// When the running tasks are done.
    Finish,
    /// Now; running tasks are ended and handed to another worker.
    Abort,
}

/// Held by whoever may tell the worker to go.
#[derive(Debug, Clone)]
pub struct Control(std::sync::Arc<watch::Sender<Urgency>>);

/// Held by the worker.
#[derive(Debug)]
pub struct ControlInput(watch::Receiver<Urgency>);

impl Control {
    /// Both ends.
    pub fn new() -> (Self, ControlInput) {
        let (sender, receiver) = watch::channel(Urgency::Stay);
        (Self(std::sync::Arc::new(sender)), ControlInput(receiver))
    }

    /// Take no more tasks; end when the running ones are done.
    pub fn finish(&self) {
        self.raise(Urgency::Finish);
    }

    /// Take no more tasks and end the running ones.
    pub fn abort(&self) {
        self.raise(Urgency::Abort);
    }

    fn raise(&self, to: Urgency) {
        self.0.send_if_modified(|urgency| {
            let stronger = to > *urgency;
            *urgency = to.max(*urgency);
            stronger
        });
    }
}

impl ControlInput {
    /// Waits for a stronger request; for ever if nobody can make one any more.
    pub async fn changed(&mut self) -> Urgency {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.0.borrow_and_update()
    }
}

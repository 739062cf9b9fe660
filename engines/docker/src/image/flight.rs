//! One acquisition per image, however many wait for it.
//!
//! ```text
//! first waiter ──▶ flying ──result──▶ landed: every waiter has it
//! further ones ───────┘  │  └─failed, and its first waiter has gone──▶ the next waiter begins another
//!                        └──last waiter gone──▶ aborted
//! ```
//!
//! An acquisition is made with the means of its first waiter: his credentials, which nobody renews once he has gone. So its
//! failure then says nothing about what others may have.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tc_engine::{EngineError, Fault, Image, Progress};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, MissedTickBehavior},
};

/// Least time between two lines in a task's log.
const PACE: Duration = Duration::from_secs(5);

type Outcome = Option<Result<Image, (Fault, String)>>;

/// The acquisitions that go on.
#[derive(Debug)]
pub struct Flights<K> {
    open: Mutex<(u64, HashMap<K, Flight>)>,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    outcome: watch::Receiver<Outcome>,
    report: Arc<Report>,
    task: AbortHandle,
    waiters: usize,
    /// Whether the waiter who began it does not wait any more.
    orphaned: Arc<AtomicBool>,
}

/// What an acquisition tells those who wait for it.
pub struct Report {
    state: Mutex<Said>,
}

struct Said {
    listeners: Vec<(u64, Arc<dyn Progress>)>,
    last: Option<Instant>,
    now: String,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").finish_non_exhaustive()
    }
}

impl Report {
    fn new() -> Self {
        Self { state: Mutex::new(Said { listeners: Vec::new(), last: None, now: String::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what is told when it is next time for a line.
    pub fn now(&self, text: String) {
        self.lock().now = text;
    }

    /// Warns of something that must not be lost, as soon as the pace allows, within five seconds.
    pub async fn warn(&self, text: &str) {
        let last = self.lock().last;
        if let Some(last) = last {
            tokio::time::sleep_until(last + PACE).await;
        }
        self.each(|listener| listener.warning(text));
    }

    fn tick(&self) {
        let due = {
            let mut said = self.lock();
            let early = said.last.is_some_and(|last| last.elapsed() < PACE);
            if early || said.now.is_empty() { None } else { Some(std::mem::take(&mut said.now)) }
        };
        if let Some(text) = due {
            self.line(&text);
        }
    }

    fn line(&self, text: &str) {
        self.each(|listener| listener.line(text));
    }

    fn each(&self, say: impl Fn(&dyn Progress)) {
        let listeners: Vec<_> = {
            let mut said = self.lock();
            said.last = Some(Instant::now());
            said.listeners.iter().map(|(_, listener)| listener.clone()).collect()
        };
        for listener in listeners {
            say(listener.as_ref());
        }
    }
}

/// A waiter's place. Giving it up may end the acquisition.
struct Place<'a, K: Eq + Hash> {
    flights: &'a Flights<K>,
    key: &'a K,
    flight: u64,
    waiter: u64,
}

impl<K: Eq + Hash> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let mut open = self.flights.lock();
        let Some(flight) = open.1.get_mut(self.key).filter(|flight| flight.number == self.flight) else { return };
        flight.waiters -= 1;
        if self.waiter == self.flight && flight.outcome.borrow().is_none() {
            flight.orphaned.store(true, Ordering::Relaxed);
        }
        flight.report.lock().listeners.retain(|(waiter, _)| *waiter != self.waiter);
        if flight.waiters == 0 {
            flight.task.abort();
            open.1.remove(self.key);
        }
    }
}

impl<K> Default for Flights<K> {
    fn default() -> Self {
        Self { open: Mutex::new((0, HashMap::new())) }
    }
}

impl<K> Flights<K> {
    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<K, Flight>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> Flights<K> {
    /// Waits for the acquisition under this key, which begins if there is none.
    pub async fn join<F>(
        &self,
        key: &K,
        progress: Arc<dyn Progress>,
        begin: impl FnOnce(Arc<Report>) -> F,
    ) -> Result<Image, EngineError>
    where
        F: Future<Output = Result<Image, EngineError>> + Send + 'static,
    {
        let mut begin = Some(begin);
        loop {
            let (place, mut outcome, orphaned) = self.board(key, &progress, &mut begin)?;
            // Bounded by the acquisition itself; if its task dies, the sender goes with it.
            let landed = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
            drop(place);
            match landed {
                // Each round takes the means of a waiter who is still there, so there are no more rounds than waiters.
                Some(Err((_, message))) if begin.is_some() && orphaned.load(Ordering::Relaxed) => {
                    tracing::info!("An image is acquired anew, since whoever had begun to has gone: {message}");
                }
                Some(result) => return result.map_err(|(fault, message)| EngineError::new(fault, message)),
                None => return Err(EngineError::new(Fault::Worker, "the acquisition of the image panicked")),
            }
        }
    }

    /// Takes a place in the acquisition that goes on, or in one that begins now.
    #[expect(clippy::type_complexity, reason = "what it returns is taken apart at once")]
    fn board<'a, F>(
        &'a self,
        key: &'a K,
        progress: &Arc<dyn Progress>,
        begin: &mut Option<impl FnOnce(Arc<Report>) -> F>,
    ) -> Result<(Place<'a, K>, watch::Receiver<Outcome>, Arc<AtomicBool>), EngineError>
    where
        F: Future<Output = Result<Image, EngineError>> + Send + 'static,
    {
        let vanished = || EngineError::new(Fault::Worker, "an acquisition vanished");
        let mut open = self.lock();
        open.0 += 1;
        let number = open.0;
        // One that has landed is over for newcomers: what it found may be gone.
        let flying = open.1.get_mut(key).filter(|flight| flight.outcome.borrow().is_none());
        let flight = if let Some(flight) = flying {
            flight
        } else {
            let flight = fly(number, begin.take().ok_or_else(vanished)?);
            open.1.insert(key.clone(), flight);
            open.1.get_mut(key).ok_or_else(vanished)?
        };
        flight.waiters += 1;
        flight.report.lock().listeners.push((number, Arc::clone(progress)));
        let place = Place { flights: self, key, flight: flight.number, waiter: number };
        Ok((place, flight.outcome.clone(), Arc::clone(&flight.orphaned)))
    }

    /// Whether one goes on under this key.
    #[cfg(test)]
    fn waiters(&self, key: &K) -> usize {
        self.lock().1.get(key).map_or(0, |flight| flight.waiters)
    }
}

fn fly<F>(number: u64, begin: impl FnOnce(Arc<Report>) -> F) -> Flight
where
    F: Future<Output = Result<Image, EngineError>> + Send + 'static,
{
    let report = Arc::new(Report::new());
    let work = begin(report.clone());
    let (sender, outcome) = watch::channel(None);
    let told = report.clone();
    let task = tokio::spawn(async move {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval_at(Instant::now() + PACE, PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let result = loop {
            tokio::select! {
                // The result first: nothing needs to be told about what is done.
                biased;
                result = &mut work => break result,
                _ = ticks.tick() => told.tick(),
            }
        };
        sender.send_replace(Some(result.map_err(|error| (error.fault, error.message))));
    });
    Flight { number, outcome, report, task: task.abort_handle(), waiters: 0, orphaned: Arc::default() }
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;

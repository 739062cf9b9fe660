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
    /// Waits for the acquisition under this key, which is count if there is none.
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
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<(Duration, String)>>, Option<Instant>);

    impl Lines {
        fn new() -> Arc<Self> {
            Arc::new(Self(Mutex::default(), Some(Instant::now())))
        }
        fn taken(&self) -> Vec<(Duration, String)> {
            self.0.lock().unwrap().clone()
        }
    }

    impl Progress for Lines {
        fn line(&self, text: &str) {
            self.0.lock().unwrap().push((self.1.unwrap().elapsed(), text.to_owned()));
        }
    }

    fn image() -> Image {
        Image { id: "sha256:1".to_owned(), name: None, artifact_sha256: None, was_there: false }
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_one_line_in_five_seconds_and_everyone_hears_it() {
        let flights = Flights::default();
        let (first, second) = (Lines::new(), Lines::new());
        let started = AtomicUsize::new(0);
        let begin = |report: Arc<Report>| {
            started.fetch_add(1, Ordering::SeqCst);
            async move {
                for step in 0..230 {
                    report.now(format!("step {step}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if step == 170 {
                        report.warn("important").await;
                    }
                }
                Ok(image())
            }
        };
        let (one, two) = tokio::join!(flights.join(&1, first.clone(), begin), flights.join(&1, second.clone(), begin));
        assert_eq!((one.unwrap(), two.unwrap()), (image(), image()));
        assert_eq!(started.load(Ordering::SeqCst), 1, "one acquisition for both");
        let lines = first.taken();
        assert_eq!(lines, second.taken());
        assert!(lines.len() >= 4, "{lines:?}");
        assert!(lines.iter().any(|(_, text)| text == "important"));
        for pair in lines.windows(2) {
            assert!(pair[1].0 >= pair[0].0 + PACE, "{lines:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn quick_ones_are_silent() {
        let (flights, lines) = (Flights::default(), Lines::new());
        let begin = |report: Arc<Report>| async move {
            report.now("half".to_owned());
            tokio::time::sleep(Duration::from_secs(4)).await;
            Ok(image())
        };
        flights.join(&1, lines.clone(), begin).await.unwrap();
        assert_eq!(lines.taken(), []);
    }

    struct Bell(Arc<Notify>);
    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_waiter_ends_it_and_no_other_one() {
        let flights = Arc::new(Flights::default());
        let ended = Arc::new(Notify::new());
        let spawn = || {
            let (flights, ended) = (flights.clone(), ended.clone());
            tokio::spawn(async move {
                let begin = move |_| async move {
                    let _bell = Bell(ended);
                    std::future::pending::<Result<Image, EngineError>>().await
                };
                flights.join(&1, Lines::new(), begin).await
            })
        };
        let (first, second) = (spawn(), spawn());
        while flights.waiters(&1) < 2 {
            tokio::task::yield_now().await;
        }
        first.abort();
        first.await.unwrap_err();
        let quiet = tokio::time::timeout(Duration::from_secs(60), ended.notified()).await;
        assert!(quiet.is_err(), "somebody still waits");
        second.abort();
        second.await.unwrap_err();
        tokio::time::timeout(Duration::from_secs(60), ended.notified()).await.expect("the acquisition ends");
        assert_eq!(flights.waiters(&1), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_others_do_not_fail_for_one_who_has_gone() {
        let flights = Arc::new(Flights::default());
        let begun = Arc::new(Mutex::new(Vec::new()));
        // Whose means are renewed no more fails, sooner or later.
        let spawn = |who: &'static str, ends: Result<Image, &'static str>| {
            let (flights, begun) = (flights.clone(), begun.clone());
            tokio::spawn(async move {
                let begin = move |_| async move {
                    begun.lock().unwrap().push(who);
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    ends.map_err(|message| EngineError::new(Fault::Resource, message))
                };
                flights.join(&1, Lines::new(), begin).await
            })
        };
        let first = spawn("first", Err("expired"));
        while flights.waiters(&1) < 1 {
            tokio::task::yield_now().await;
        }
        let (second, third) = (spawn("second", Ok(image())), spawn("third", Ok(image())));
        while flights.waiters(&1) < 3 {
            tokio::task::yield_now().await;
        }
        first.abort();
        first.await.unwrap_err();
        assert_eq!((second.await.unwrap().unwrap(), third.await.unwrap().unwrap()), (image(), image()));
        assert_eq!(begun.lock().unwrap().len(), 2, "one after the other, and once for both who stayed");
    }

    #[tokio::test(start_paused = true)]
    async fn errors_reach_everyone_and_panics_are_noticed() {
        let flights = Flights::default();
        let begun = AtomicUsize::new(0);
        let fail = |_| {
            begun.fetch_add(1, Ordering::SeqCst);
            async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Err(EngineError::new(Fault::Resource, "no"))
            }
        };
        let (one, two) = tokio::join!(flights.join(&1, Lines::new(), fail), flights.join(&1, Lines::new(), fail));
        for error in [one.unwrap_err(), two.unwrap_err()] {
            assert_eq!((error.fault, error.message.as_str()), (Fault::Resource, "no"));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1, "nobody has gone, so it is the same for all");
        let panics = |_| async { panic!("on purpose") };
        assert_eq!(flights.join(&1, Lines::new(), panics).await.unwrap_err().fault, Fault::Worker);
    }
}

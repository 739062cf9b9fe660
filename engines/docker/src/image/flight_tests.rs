//! Acquisitions on a paused clock.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

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
    let flown = Arc::new(Mutex::new(Vec::new()));
    // Whose means are renewed no more fails, sooner or later.
    let spawn = |who: &'static str, ends: Result<Image, &'static str>| {
        let (flights, flown) = (flights.clone(), flown.clone());
        tokio::spawn(async move {
            let begin = move |_| async move {
                flown.lock().unwrap().push(who);
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
    assert_eq!(flown.lock().unwrap().len(), 2, "one after the other, and once for both who stayed");
}

#[tokio::test(start_paused = true)]
async fn errors_reach_everyone_and_panics_are_noticed() {
    let flights = Flights::default();
    let flown = AtomicUsize::new(0);
    let fail = |_| {
        flown.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Err(EngineError::new(Fault::Resource, "no"))
        }
    };
    let (one, two) = tokio::join!(flights.join(&1, Lines::new(), fail), flights.join(&1, Lines::new(), fail));
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!((error.fault, error.message.as_str()), (Fault::Resource, "no"));
    }
    assert_eq!(flown.load(Ordering::SeqCst), 1, "nobody has gone, so it is the same for all");
    let panics = |_| async { panic!("on purpose") };
    assert_eq!(flights.join(&1, Lines::new(), panics).await.unwrap_err().fault, Fault::Worker);
}

//! Prefetch: images that the pool usually needs are brought while the worker waits for work, and never in a task's way.
//!
//! ```text
//!         idle and one is due                 done, failed
//! Waiting ───────────────────▶ Bringing ─────────────────────▶ Waiting (that image is due again after the time to live,
//!    ▲                            │                                      or soon, if it was not to blame)
//!    │                            │ a claim
//!    │   another image, or none   ▼
//!    └──────────────────────── Claimed ── the run asks for this very image: it joins, and nothing is dropped
//! ```
//!
//! [`Plan`] decides, the driver below does. What goes wrong is a line in the worker log and nothing else.

use std::{sync::Arc, time::Duration};

use tc_engine::{Engine, Fault, ImageBytes, ImageWant, Progress};
use tc_payload::docker::ImageForm;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use crate::{
    api::CredentialsCell,
    feature::image::{Found, find},
    log::format::one_line,
    run::{context::Workshop, outcome::Blame},
};

/// An image is brought, or tried, at most this often.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(3600);
/// The same after an attempt that failed because a registry, the queue or the like could not be reached.
const UNREACHED: Duration = Duration::from_secs(300);
/// The same after one for which there was no engine: it may only be starting, as the machine is.
const NO_ENGINE: Duration = Duration::from_secs(20);
/// Longest time between a claim and the question for its image; after it, what is brought is in the way.
const ASK_BOUND: Duration = Duration::from_secs(5);

/// When which image that was tried is due again.
#[derive(Debug, Default)]
pub struct Plan {
    /// By canonical form: an image with several names is brought once.
    tried: Vec<(ImageForm, Instant)>,
}

/// What is to be done next while nothing runs.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Bring this one.
    Bring(ImageForm),
    /// Nothing before this moment.
    Until(Instant),
    /// Nothing, until a task brings something new.
    Nothing,
}

impl Plan {
    /// The first image that is due, in the order of `wanted`.
    pub fn next(&mut self, now: Instant, wanted: &[ImageForm]) -> Next {
        let names: Vec<ImageForm> = wanted.iter().map(ImageForm::canonical).collect();
        self.tried.retain(|(known, _)| names.contains(known));
        let mut soonest = None;
        for (form, name) in wanted.iter().zip(&names) {
            match self.tried.iter().find(|(known, _)| known == name) {
                None => return Next::Bring(form.clone()),
                Some((_, due)) => {
                    let due = *due;
                    if due <= now {
                        return Next::Bring(form.clone());
                    }
                    soonest = Some(soonest.map_or(due, |soonest: Instant| soonest.min(due)));
                }
            }
        }
        soonest.map_or(Next::Nothing, Next::Until)
    }

    /// Notes that an image was brought, or could not be, and when it is due again.
    pub fn tried(&mut self, form: &ImageForm, due: Instant) {
        let name = form.canonical();
        self.tried.retain(|(known, _)| *known != name);
        self.tried.push((name, due));
    }
}

/// The driver; it ends when it is dropped.
pub struct Prefetch {
    _task: AbortOnDropHandle<()>,
}

impl Prefetch {
    /// Brings the `configured` images, and after them those that were used lately, whenever `idle` says that no task runs or
    /// is about to. Nothing if the worker has no engine for containers.
    pub fn start(shop: Arc<Workshop>, configured: Vec<ImageForm>, idle: watch::Receiver<bool>) -> Option<Self> {
        let docker = Arc::clone(shop.docker.as_ref()?);
        let task = tokio::spawn(drive(shop, docker, configured, idle));
        Some(Self { _task: AbortOnDropHandle::new(task) })
    }
}

async fn drive(shop: Arc<Workshop>, docker: Arc<dyn Engine>, configured: Vec<ImageForm>, mut idle: watch::Receiver<bool>) {
    let mut plan = Plan::default();
    // The sender is gone when the worker ends, and with it the reason to go on.
    while idle.wait_for(|idle| *idle).await.is_ok() {
        let mut wanted = configured.clone();
        wanted.extend(shop.images.recent());
        let until = match plan.next(Instant::now(), &wanted) {
            Next::Bring(form) => {
                if let Some(pause) = bring(&shop, docker.as_ref(), &form, &mut idle).await {
                    plan.tried(&form, Instant::now() + pause);
                }
                continue;
            }
            Next::Until(when) => when,
            // Longer than anybody waits.
            Next::Nothing => Instant::now() + TIME_TO_LIVE,
        };
        // The end of a task may have brought something new, so a claim is waited for as well. Either may come first.
        tokio::select! {
            biased;
            changed = idle.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

/// Brings one image. Returns for how long it need not be tried again, or none if it was dropped for a task.
async fn bring(shop: &Workshop, docker: &dyn Engine, form: &ImageForm, idle: &mut watch::Receiver<bool>) -> Option<Duration> {
    let mut asked = shop.images.asked();
    let credentials = CredentialsCell::anonymous();
    let found = tokio::select! {
        biased; // A task comes first.
        _ = idle.wait_for(|idle| !*idle) => return None,
        found = find(form, &shop.services, &credentials, shop.images.as_they_are) => found,
    };
    let Found { want, archive } = match found {
        Ok(found) => found,
        Err(error) => {
            info!("Could not bring an image before it is needed: {error}");
            return Some(if error.blame == Blame::Service { UNREACHED } else { TIME_TO_LIVE });
        }
    };
    debug!("Bringing {want} before it is needed");
    let bytes = archive.map(|archive| Arc::new(archive) as Arc<dyn ImageBytes>);
    let mut acquiring = docker.image(&want, bytes, Arc::new(Unheard));
    let ended = tokio::select! {
        biased; // What is done is done, also when a task came in the same moment.
        ended = &mut acquiring => Some(ended),
        _ = idle.wait_for(|idle| !*idle) => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        tokio::select! {
            biased; // As above.
            ended = &mut acquiring => ended,
            goes_on = is_asked_for(&mut asked, &want) => {
                if !goes_on {
                    debug!("{want} is left for a task");
                    return None;
                }
                // The task waits for the same; the engine bounds it.
                acquiring.await
            }
        }
    };
    Some(match ended {
        Ok(image) => {
            if image.was_there {
                debug!("{want} is there");
            } else {
                info!("Brought {} before it is needed", one_line(&want.to_string()));
            }
            TIME_TO_LIVE
        }
        Err(error) => {
            let pause = match error.fault {
                Fault::Lost => NO_ENGINE,
                Fault::Resource => UNREACHED,
                Fault::Payload | Fault::Task | Fault::Worker => TIME_TO_LIVE,
            };
            // The gate says in the meantime what is the matter with an engine.
            if error.fault == Fault::Lost {
                debug!("Could not bring {want} before it is needed: {error}");
            } else {
                info!("{}", one_line(&format!("Could not bring {want} before it is needed: {error}")));
            }
            pause
        }
    })
}

/// Whether the run that was claimed asks for this image.
async fn is_asked_for(asked: &mut watch::Receiver<Option<ImageWant>>, want: &ImageWant) -> bool {
    match timeout(ASK_BOUND, asked.changed()).await {
        Ok(Ok(())) => asked.borrow_and_update().as_ref().is_some_and(|asked| asked.key() == want.key()),
        _ => false,
    }
}

/// Nobody waits for it, so nobody is told how it goes.
struct Unheard;

impl Progress for Unheard {
    fn line(&self, _text: &str) {}
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tc_engine::fake::Fate;

    use super::*;
    use crate::feature::image::tests::Rig;

    fn name(name: &str) -> ImageForm {
        ImageForm::Registry(name.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn each_image_is_due_once_per_time_to_live_in_the_order_of_the_list() {
        let hour = Duration::from_secs(3600);
        let (mut plan, start) = (Plan::default(), Instant::now());
        assert_eq!(plan.next(start, &[]), Next::Nothing);
        let wanted = [name("a"), name("b")];
        assert_eq!(plan.next(start, &wanted), Next::Bring(name("a")));
        plan.tried(&name("a"), start + hour);
        let later = start + Duration::from_secs(60);
        assert_eq!(plan.next(later, &wanted), Next::Bring(name("b")));
        plan.tried(&name("b"), later + hour);
        assert_eq!(plan.next(later, &wanted), Next::Until(start + hour));
        assert_eq!(plan.next(start + hour, &wanted), Next::Bring(name("a")));
        plan.tried(&name("a"), start + hour + hour);
        assert_eq!(plan.next(start + hour, &wanted), Next::Until(later + hour));
        assert_eq!(plan.next(later, &[name("c"), name("a")]), Next::Bring(name("c")));
        // What is not wanted any more is forgotten.
        assert_eq!(plan.next(later, &[name("b")]), Next::Bring(name("b")));
    }

    #[test]
    fn an_image_with_several_names_is_brought_once() {
        let (mut plan, start) = (Plan::default(), Instant::now());
        let due = start + TIME_TO_LIVE;
        plan.tried(&name("debian:12"), due);
        let wanted = ["docker.io/library/debian:12", "debian:12", "index.docker.io/debian:12"].map(name);
        assert_eq!(plan.next(start, &wanted), Next::Until(due));
        assert_eq!(plan.next(start, &[name("debian:12"), name("quay.io/debian:12")]), Next::Bring(name("quay.io/debian:12")));
        assert_eq!(plan.next(due, &wanted), Next::Bring(wanted[0].clone()), "in the words of the list");
    }

    /// Waits until the engine's journal satisfies a condition.
    async fn until(rig: &Rig, what: &str, holds: impl Fn(&[String]) -> bool) {
        let patience = std::time::Instant::now() + Duration::from_secs(20);
        while !holds(&rig.engine.journal()) {
            assert!(std::time::Instant::now() < patience, "{what}: {:?}", rig.engine.journal());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn want(shown: &str) -> ImageWant {
        let name = tc_payload::Reference::parse(shown).expect("a name").canonical();
        ImageWant::Registry { name, shown: shown.to_owned(), as_it_is: false }
    }

    #[tokio::test]
    async fn images_are_brought_one_after_another_while_nothing_runs() {
        let rig = Rig::start().await;
        let public = rig.published("public/image.tar", b"archive", json!({})).await;
        let private = rig.published("private/image.tar", b"archive", json!({})).await;
        let of = |task_id: &str, path: &str| ImageForm::Task { task_id: task_id.to_owned(), path: path.to_owned() };
        let shop = rig.shop(true);
        shop.images.used(&name("recent"));
        shop.images.used(&name("a"));
        let (idle, watched) = watch::channel(false);
        let configured = vec![name("a"), of(&private, "private/image.tar"), of(&public, "public/image.tar")];
        let _prefetch = Prefetch::start(shop, configured, watched).expect("there is an engine");
        tokio::task::yield_now().await;
        assert!(rig.engine.journal().is_empty(), "not while something may run");
        idle.send(true).expect("somebody listens");
        until(&rig, "all are brought", |journal| journal.len() >= 3).await;
        let journal = rig.engine.journal();
        assert_eq!(journal[0], "want image \"a\"");
        assert!(journal[1].contains(&public) && journal[2] == "want image \"recent\"", "the private one is left: {journal:?}");
        idle.send(false).expect("somebody listens");
        idle.send(true).expect("somebody listens");
        tokio::task::yield_now().await;
        assert_eq!(rig.engine.journal().len(), 3, "each once per time to live");
    }

    /// One that takes for ever has begun, and a task is claimed.
    async fn claimed() -> (Rig, Arc<Workshop>, watch::Sender<bool>, Prefetch) {
        let rig = Rig::start().await;
        rig.engine.set_images(Fate::Hangs);
        let shop = rig.shop(true);
        let (idle, watched) = watch::channel(true);
        let prefetch = Prefetch::start(Arc::clone(&shop), vec![name("a")], watched).expect("there is an engine");
        until(&rig, "it begins", |journal| !journal.is_empty()).await;
        idle.send(false).expect("somebody listens");
        (rig, shop, idle, prefetch)
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_for_another_image_ends_it_at_once() {
        let (rig, shop, idle, _prefetch) = claimed().await;
        let began = Instant::now();
        shop.images.ask(&want("other"));
        until(&rig, "it is dropped", |journal| journal == ["want image \"a\"", "drop image \"a\""]).await;
        assert!(began.elapsed() < ASK_BOUND / 2, "{:?}", began.elapsed());
        // It was not tried to the end, so it is due again.
        idle.send(true).expect("somebody listens");
        until(&rig, "it begins again", |journal| journal.len() == 3).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_for_the_same_image_does_not_end_it() {
        let (rig, shop, _idle, _prefetch) = claimed().await;
        // However it is written.
        shop.images.ask(&want("docker.io/library/a:latest"));
        tokio::time::sleep(ASK_BOUND * 10).await;
        assert_eq!(rig.engine.journal(), ["want image \"a\""]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_asks_for_no_image_is_not_held_up_for_long() {
        let (rig, _shop, _idle, _prefetch) = claimed().await;
        let claimed = Instant::now();
        until(&rig, "it is dropped", |journal| journal.len() == 2).await;
        let after = claimed.elapsed();
        assert!(after > ASK_BOUND / 2 && after < ASK_BOUND * 2, "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_is_only_starting_is_asked_again_soon() {
        let rig = Rig::start().await;
        rig.engine.set_images(Fate::Fails(Fault::Lost, "nobody answers".to_owned()));
        let (began, shop) = (Instant::now(), rig.shop(true));
        let (_idle, watched) = watch::channel(true);
        let _prefetch = Prefetch::start(shop, vec![name("a")], watched).expect("there is an engine");
        until(&rig, "it was tried", |journal| !journal.is_empty()).await;
        rig.engine.set_images(Fate::Brought);
        until(&rig, "it is tried again", |journal| journal.iter().filter(|line| line.starts_with("want")).count() > 1).await;
        assert!(began.elapsed() < TIME_TO_LIVE / 2, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_worker_without_containers_brings_nothing() {
        let rig = Rig::start().await;
        assert!(Prefetch::start(rig.shop(false), vec![name("a")], watch::channel(true).1).is_none());
    }
}

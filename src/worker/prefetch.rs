//! Prefetch: images that the pool usually needs are brought while the worker waits for work, and never in a task's way.
//!
//! ```text
//!         idle and one is due                 done, failed
//! Waiting ───────────────────▶ Bringing ─────────────────────▶ Waiting (that image is due again after the time to live)
//!    ▲                            │ a claim
//!    │   another image, or none   ▼
//!    └──────────────────────── Claimed ── the run asks for this very image: it joins, and nothing is dropped
//! ```
//!
//! [`Plan`] decides, the driver below does. What goes wrong is a line in the worker log and nothing else.

use std::{sync::Arc, time::Duration};

use tc_engine::{Engine, ImageBytes, ImageWant, Progress};
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
    run::context::Workshop,
};

/// An image is brought, or tried, at most this often.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(3600);
/// Longest time between a claim and the question for its image; after it, what is brought is in the way.
const ASK_BOUND: Duration = Duration::from_secs(5);

/// When which image was tried.
#[derive(Debug)]
pub struct Plan {
    time_to_live: Duration,
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
    /// Nothing was tried yet.
    pub fn new(time_to_live: Duration) -> Self {
        Self { time_to_live, tried: Vec::new() }
    }

    /// The first image that is due, in the order of `wanted`.
    pub fn next(&mut self, now: Instant, wanted: &[ImageForm]) -> Next {
        self.tried.retain(|(form, _)| wanted.contains(form));
        let mut soonest = None;
        for form in wanted {
            match self.tried.iter().find(|(known, _)| known == form) {
                None => return Next::Bring(form.clone()),
                Some((_, when)) => {
                    let due = *when + self.time_to_live;
                    if due <= now {
                        return Next::Bring(form.clone());
                    }
                    soonest = Some(soonest.map_or(due, |soonest: Instant| soonest.min(due)));
                }
            }
        }
        soonest.map_or(Next::Nothing, Next::Until)
    }

    /// Notes that an image was brought, or could not be.
    pub fn tried(&mut self, now: Instant, form: &ImageForm) {
        self.tried.retain(|(known, _)| known != form);
        self.tried.push((form.clone(), now));
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
    let mut plan = Plan::new(TIME_TO_LIVE);
    // The sender is gone when the worker ends, and with it the reason to go on.
    while idle.wait_for(|idle| *idle).await.is_ok() {
        let mut wanted = configured.clone();
        wanted.extend(shop.images.recent().into_iter().filter(|form| !configured.contains(form)));
        let until = match plan.next(Instant::now(), &wanted) {
            Next::Bring(form) => {
                if bring(&shop, docker.as_ref(), &form, &mut idle).await {
                    plan.tried(Instant::now(), &form);
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

/// Brings one image. Returns false if it was dropped for a task.
async fn bring(shop: &Workshop, docker: &dyn Engine, form: &ImageForm, idle: &mut watch::Receiver<bool>) -> bool {
    let mut asked = shop.images.asked();
    let credentials = CredentialsCell::anonymous();
    let found = tokio::select! {
        biased; // A task comes first.
        _ = idle.wait_for(|idle| !*idle) => return false,
        found = find(form, &shop.services, &credentials, shop.images.as_they_are) => found,
    };
    let Found { want, archive } = match found {
        Ok(found) => found,
        Err(error) => {
            info!("Could not bring an image before it is needed: {error}");
            return true;
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
    let ended = match ended {
        Some(ended) => ended,
        None => tokio::select! {
            biased; // As above.
            ended = &mut acquiring => ended,
            goes_on = is_asked_for(&mut asked, &want) => {
                if !goes_on {
                    debug!("{want} is left for a task");
                    return false;
                }
                // The task waits for the same; the engine bounds it.
                acquiring.await
            }
        },
    };
    match ended {
        Ok(image) if image.was_there => debug!("{want} is there"),
        Ok(_) => info!("Brought {want} before it is needed"),
        Err(error) => info!("Could not bring {want} before it is needed: {error}"),
    }
    true
}

/// Whether the run that was claimed asks for this image.
async fn is_asked_for(asked: &mut watch::Receiver<Option<ImageWant>>, want: &ImageWant) -> bool {
    match timeout(ASK_BOUND, asked.changed()).await {
        Ok(Ok(())) => asked.borrow_and_update().as_ref() == Some(want),
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
    use super::*;

    fn name(name: &str) -> ImageForm {
        ImageForm::Registry(name.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn each_image_is_due_once_per_time_to_live_in_the_order_of_the_list() {
        let hour = Duration::from_secs(3600);
        let (mut plan, start) = (Plan::new(hour), Instant::now());
        assert_eq!(plan.next(start, &[]), Next::Nothing);
        let wanted = [name("a"), name("b")];
        assert_eq!(plan.next(start, &wanted), Next::Bring(name("a")));
        plan.tried(start, &name("a"));
        let later = start + Duration::from_secs(60);
        assert_eq!(plan.next(later, &wanted), Next::Bring(name("b")));
        plan.tried(later, &name("b"));
        assert_eq!(plan.next(later, &wanted), Next::Until(start + hour));
        assert_eq!(plan.next(start + hour, &wanted), Next::Bring(name("a")));
        plan.tried(start + hour, &name("a"));
        assert_eq!(plan.next(start + hour, &wanted), Next::Until(later + hour));
        assert_eq!(plan.next(later, &[name("c"), name("a")]), Next::Bring(name("c")));
        // What is not wanted any more is forgotten.
        assert_eq!(plan.next(later, &[name("b")]), Next::Bring(name("b")));
    }
}

//! Whether this machine can take a task now. Asked before each call for work; what is in the way is said, and mended if the
//! worker can: remains of dead runs are swept away, and room is made on disks.
//!
//! ```text
//! engines healthy? ─▶ container engine swept? ─▶ enough disk for tasks? ─▶ and for the container engine? ─▶ open
//!        │                    │                          │                          │
//!        └────────────────────┴──────────────────────────┴──────────────────────────┴─▶ closed, with a sentence;
//!                                                                                       for too long: hopeless
//! ```

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tc_engine::{Engine, Keep, Owner, Room};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    cache::CacheStore,
    config::Config,
    log::format,
    run::{self, context::Workshop},
};

/// Longest time for one look at an engine; then it counts as unhealthy.
const ENGINE_BOUND: Duration = Duration::from_secs(120);
/// Longest time for making room. Deleting much takes long.
const ROOM_BOUND: Duration = Duration::from_secs(1200);
/// Of a small disk that the container engine has for itself, room is made on this part at most: else nothing would be kept there.
const ENGINE_SHARE: u64 = 5;
/// With less than this the container engine can make no container that is good for anything.
const ENGINE_LEAST_BYTES: u64 = 128 << 20;
/// Between two sweeps of the container engine while everything is well: a creation whose answer was lost may come late.
const SWEEP_EVERY: Duration = Duration::from_secs(300);
/// Between two looks at the container engine while tasks run, when nobody may ask for a long time whether it is fit.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Why no task can be taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// A sentence fragment.
    pub why: String,
    /// It has been so for longer than this worker waits.
    pub hopeless: bool,
}

impl Closed {
    fn for_now(why: impl Into<String>) -> Self {
        Self { why: why.into(), hopeless: false }
    }
}

/// The gate before the claims of one worker.
pub struct Gate {
    shop: Arc<Workshop>,
    owner: Owner,
    /// Names of the runs that go on.
    live: Arc<Mutex<BTreeSet<String>>>,
    docker: Mutex<Docker>,
    /// When superfluous caches were last looked for.
    trimmed: Mutex<Instant>,
    when_down: WhenDown,
    /// What is wrong with the container engine, as far as it is known now.
    trouble: watch::Sender<Option<String>>,
}

/// What to do while the container engine is unusable.
#[derive(Debug, Clone, Copy)]
pub struct WhenDown {
    /// Go on with native tasks; container tasks that come all the same go back to the queue, which retries them.
    pub native_only: bool,
    /// End after this long otherwise.
    pub give_up_after: Duration,
}

/// What is known about the container engine.
#[derive(Debug, Default)]
struct Docker {
    down_since: Option<Instant>,
    swept: Option<Instant>,
}

impl Gate {
    /// The gate of the worker with this workshop.
    pub fn new(shop: Arc<Workshop>, when_down: WhenDown) -> Self {
        let owner = owner(&shop.config);
        Self {
            shop,
            owner,
            live: Arc::default(),
            docker: Mutex::default(),
            trimmed: Mutex::new(Instant::now()),
            when_down,
            trouble: watch::Sender::new(None),
        }
    }

    /// What is wrong with the container engine, and when that changes.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// Whether the worker goes on with native tasks when the container engine is in trouble.
    pub fn is_native_only(&self) -> bool {
        self.when_down.native_only
    }

    /// Looks after the container engine for ever while tasks run: with all slots taken no claim would find out.
    pub async fn look_after(&self, idle: watch::Receiver<bool>) {
        let Some(docker) = &self.shop.docker else { return };
        loop {
            sleep(LOOK_EVERY).await;
            if *idle.borrow() {
                continue;
            }
            let health = timeout(ENGINE_BOUND, docker.health()).await;
            match health.unwrap_or_else(|_| Err("the Docker engine does not answer".to_owned())) {
                Ok(()) => {
                    // What a claim has found, perhaps something else, only a claim takes back.
                    if lock(&self.docker).down_since.is_none() {
                        self.note(None);
                    }
                }
                Err(why) => {
                    if self.note(Some(&why)) {
                        warn!("Tasks run, and the Docker engine is not fit: {why}");
                    }
                }
            }
        }
    }

    /// Notes what is wrong with the container engine. Returns whether that is news.
    fn note(&self, trouble: Option<&str>) -> bool {
        self.trouble.send_if_modified(|there| {
            let is_news = there.as_deref() != trouble;
            if is_news {
                *there = trouble.map(str::to_owned);
            }
            is_news
        })
    }

    /// Notes that a run begins: nothing of it is a leftover.
    pub fn began(&self, task_id: &str, run_id: u32) {
        lock(&self.live).extend(run::perform::names(task_id, run_id));
    }

    /// Notes that a run has ended.
    pub fn ended(&self, task_id: &str, run_id: u32) {
        let mut live = lock(&self.live);
        for name in run::perform::names(task_id, run_id) {
            live.remove(&name);
        }
    }

    /// Notes that something of a container run may be left: no further task before it is swept away.
    pub fn sweep_first(&self) {
        lock(&self.docker).swept = None;
    }

    /// Which runs a sweep leaves alone.
    pub fn keep(&self) -> Keep {
        let live = Arc::clone(&self.live);
        Arc::new(move |name| lock(&live).contains(name))
    }

    /// Removes what dead native runs left behind.
    pub async fn sweep_native(&self) {
        for failure in self.shop.engine.sweep(&self.owner, self.keep()).await.failed {
            warn!("{failure}");
        }
    }

    /// Whether tasks may be claimed.
    pub async fn pass(&self) -> Result<(), Closed> {
        self.shop.engine.health().await.map_err(Closed::for_now)?;
        if let Some(docker) = &self.shop.docker {
            let ready = self.ready(docker.as_ref()).await;
            self.judge(ready)?;
        }
        self.disk().await?;
        self.engine_disk().await
    }

    /// Whether the container engine is healthy and nothing of ours is left in it.
    async fn ready(&self, docker: &dyn Engine) -> Result<(), String> {
        let health = timeout(ENGINE_BOUND, docker.health()).await;
        health.unwrap_or_else(|_| Err("the Docker engine does not answer".to_owned()))?;
        let due = lock(&self.docker).swept.is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY);
        if !due {
            return Ok(());
        }
        let swept = timeout(ENGINE_BOUND, docker.sweep(&self.owner, self.keep())).await;
        let swept = swept.map_err(|_| "what earlier runs left in the Docker engine is not removed yet".to_owned())?;
        for name in &swept.removed {
            info!("Removed what an earlier run left in the Docker engine: {name}");
        }
        if let Some(failure) = swept.failed.first() {
            return Err(failure.clone());
        }
        lock(&self.docker).swept = Some(Instant::now());
        Ok(())
    }

    /// What an unready container engine means for the worker.
    fn judge(&self, ready: Result<(), String>) -> Result<(), Closed> {
        let mut docker = lock(&self.docker);
        let Err(why) = ready else {
            if docker.down_since.take().is_some() {
                info!("The Docker engine is back");
            }
            self.note(None);
            return Ok(());
        };
        self.note(Some(&why));
        let first = docker.down_since.is_none();
        let since = *docker.down_since.get_or_insert_with(Instant::now);
        if self.when_down.native_only {
            if first {
                warn!("Only native tasks can be run for now: {why}");
            }
            return Ok(());
        }
        let hopeless = since.elapsed() >= self.when_down.give_up_after;
        Err(Closed { why, hopeless })
    }

    /// Does something with the caches, which blocks.
    async fn caches(&self, act: impl FnOnce(&CacheStore) -> Vec<String> + Send + 'static) -> Vec<String> {
        let caches = Arc::clone(&self.shop.caches);
        let acting = tokio::task::spawn_blocking(move || act(&caches));
        // What goes on after that goes on beside the claims.
        timeout(ROOM_BOUND, acting).await.map(Result::unwrap_or_default).unwrap_or_default()
    }

    /// Whether it is time to look for caches of which there are more than tasks that could use them at once.
    fn trimming_is_due(&self) -> bool {
        let mut trimmed = lock(&self.trimmed);
        let due = trimmed.elapsed() >= SWEEP_EVERY;
        if due {
            *trimmed = Instant::now();
        }
        due
    }

    /// Whether the container engine has any room left on its disk, perhaps after making some. Where that is the disk of the
    /// tasks as well, enough was asked of it before.
    async fn engine_disk(&self) -> Result<(), Closed> {
        let Some(docker) = &self.shop.docker else { return Ok(()) };
        let room = || async { timeout(ENGINE_BOUND, docker.room()).await.ok().flatten() };
        let Some(there) = room().await else { return Ok(()) };
        let wanted = engine_wants(&self.shop.config, there);
        if there.free_bytes >= wanted {
            return Ok(());
        }
        tell(timeout(ROOM_BOUND, docker.make_room(wanted - there.free_bytes)).await.unwrap_or_default());
        let there = room().await.unwrap_or(there);
        if there.free_bytes >= ENGINE_LEAST_BYTES.min(wanted) || self.when_down.native_only {
            return Ok(());
        }
        let free = format::memory_size(there.free_bytes);
        Err(Closed::for_now(format!("the Docker engine's disk is full: {free} are free, and no image can be removed from it")))
    }

    /// Whether there is enough room for a task, perhaps after making some.
    async fn disk(&self) -> Result<(), Closed> {
        let config = &self.shop.config;
        let wanted = u64::from(config.required_disk_space_megabytes) << 20;
        let free = || {
            self.shop
                .disk
                .free_bytes(&config.tasks_dir)
                .map_err(|error| Closed::for_now(format!("look for free space in {}: {error}", config.tasks_dir.display())))
        };
        let mut there = free()?;
        // Images first: they can be had again from where they came. What is in a cache can only be made again.
        if there < wanted
            && let Some(docker) = &self.shop.docker
        {
            tell(timeout(ROOM_BOUND, docker.make_room(wanted - there)).await.unwrap_or_default());
            there = free()?;
        }
        if there < wanted {
            let missing = wanted - there;
            tell(self.caches(move |caches| caches.make_room(missing)).await);
            there = free()?;
        }
        if there >= wanted {
            if self.trimming_is_due() {
                let most = usize::from(config.capacity);
                tell(self.caches(move |caches| caches.trim(most)).await);
            }
            return Ok(());
        }
        Err(Closed::for_now(format!(
            "{} has {} free, and requiredDiskSpaceMegabytes asks for {}",
            config.tasks_dir.display(),
            format::memory_size(there),
            format::memory_size(wanted)
        )))
    }
}

/// How much is to be free on the container engine's disk.
fn engine_wants(config: &Config, disk: Room) -> u64 {
    (u64::from(config.required_disk_space_megabytes) << 20).min(disk.size_bytes / ENGINE_SHARE)
}

fn tell(lines: Vec<String>) {
    for line in lines {
        info!("{line}");
    }
}

/// By which the worker knows what is its own.
pub fn owner(config: &Config) -> Owner {
    Owner { worker: format!("{}/{}", config.worker_group, config.worker_id), tasks_dir: config.tasks_dir.clone() }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

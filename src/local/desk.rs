//! The desk: the books, who waits at them, and the clock on the wall.
//!
//! One lock guards the books, and nothing but the state machine runs under it: no I/O, no cryptography, no JSON. A worker in line holds a
//! [`Seat`]; when it goes away before its runs reached it, they are pending again at once.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    auth::Clients,
    bodies::Bodies,
    faults,
    ledger::{self, Ledger, Unsettled},
    network::Link,
    object::{self, Object},
    purge::Requests,
    secrets::{self, Secret},
    shelf::Shelf,
    state::{Claim, Effect, State, Stored, Ticket, Worker},
    store::Store,
    worker_manager::WorkerManager,
};
use crate::seam::Clock;

/// The expiry driver looks at the clock at least this often, because the wall clock may jump.
const LONGEST_NAP: Duration = Duration::from_secs(60);

struct Books {
    state: State,
    line: HashMap<Ticket, oneshot::Sender<Vec<Claim>>>,
}

/// What all calls share.
pub(crate) struct Desk {
    books: Mutex<Books>,
    sooner: Notify,
    clock: Arc<dyn Clock>,
    pub(crate) clients: Clients,
    pub(crate) store: Store,
    /// What has to survive a restart is noted here.
    pub(crate) ledger: Arc<Ledger>,
    /// Apart from the books: another service, with no influence on them.
    pub(crate) purges: Mutex<Requests>,
    pub(crate) secrets: Shelf<Secret>,
    pub(crate) objects: Shelf<Object>,
    pub(crate) workers: WorkerManager,
    swept: Mutex<Timestamp>,
    pub(crate) scheme: &'static str,
    /// What goes wrong on purpose.
    pub(crate) faults: Option<faults::Layer>,
    /// A network that is not perfect.
    pub(crate) link: Option<Link>,
    pub(crate) started: Timestamp,
    /// The room that bodies of calls have.
    pub(crate) bodies: Bodies,
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Desk {
    pub(crate) fn new(
        state: State,
        clock: Arc<dyn Clock>,
        clients: Clients,
        store: Store,
        ledger: Arc<Ledger>,
        purges: Requests,
        scheme: &'static str,
    ) -> io::Result<Self> {
        Ok(Self {
            books: Mutex::new(Books { state, line: HashMap::new() }),
            sooner: Notify::new(),
            started: clock.wall(),
            clock,
            clients,
            purges: Mutex::new(purges),
            secrets: Shelf::open("secret", &ledger)?,
            objects: object::restore(&ledger, &store.objects_dir())?,
            workers: WorkerManager::open(&ledger)?,
            store,
            ledger,
            swept: Mutex::new(Timestamp::MIN),
            scheme,
            faults: None,
            link: None,
            bodies: Bodies::new(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// The date, to the millisecond: what the API shows is what is compared.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.clock.wall();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// Does something to the books, and tells others what follows from it.
    pub(crate) fn books<R>(&self, act: impl FnOnce(&mut State, Timestamp) -> R) -> R {
        self.locked(|books, now| act(&mut books.state, now))
    }

    fn locked<R>(&self, act: impl FnOnce(&mut Books, Timestamp) -> R) -> R {
        let now = self.now();
        let (result, unstored, sooner) = {
            let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
            let before = books.state.next_wakeup();
            let result = act(&mut books, now);
            let unstored = books.deliver(now, &self.ledger);
            let after = books.state.next_wakeup();
            (result, unstored, after.is_some_and(|after| before.is_none_or(|before| after < before)))
        };
        if sooner {
            self.sooner.notify_one();
        }
        self.discard(unstored);
        result
    }

    /// Removes bytes that belong to nothing any more, once the ledger says so, too. What stays because it does not is removed at the next start.
    fn discard(&self, unstored: Vec<Stored>) {
        if !unstored.is_empty() && tokio::runtime::Handle::try_current().is_ok() {
            let ledger = self.ledger.clone();
            self.tasks.spawn(async move {
                if ledger.settled().await.is_err() {
                    return;
                }
                let remove = move || {
                    for stored in unstored {
                        // A file that is gone already is what we wanted, and any other leftover goes with the store's directory.
                        let _ = fs_err::remove_file(&stored.path);
                    }
                };
                // A panic in there would leave files behind, no more.
                drop(tokio::task::spawn_blocking(remove).await);
            });
        }
    }

    /// Forgets what has expired in the smaller services, at most once in a while.
    fn sweep(&self) {
        let now = self.now();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(*swept).unsigned_abs() < LONGEST_NAP {
            return;
        }
        *swept = now;
        drop(swept);
        secrets::sweep(&self.secrets, now);
        object::sweep(&self.objects, &self.store.objects_dir(), now);
        self.workers.sweep(now);
        self.clients.sweep(now);
        self.books(State::forget_expired);
    }

    /// Claims what is there, or takes a seat in line.
    pub(crate) fn claim_or_wait(
        self: &Arc<Self>,
        queue: &Arc<str>,
        worker: &Arc<Worker>,
        count: usize,
    ) -> Result<Vec<Claim>, Seat> {
        self.locked(|books, now| {
            let claims = books.state.claim(now, queue, worker, count);
            if !claims.is_empty() {
                return Ok(claims);
            }
            let ticket = books.state.wait(now, queue, worker.clone(), count);
            let (sender, receiver) = oneshot::channel();
            books.line.insert(ticket, sender);
            Err(Seat { desk: self.clone(), ticket, receiver })
        })
    }

    /// Waits until the claims are durable. If that fails, or their worker goes away in the meantime, they are pending again.
    pub(crate) async fn heard_of(&self, claims: Vec<Claim>) -> Result<Vec<Claim>, Unsettled> {
        let mut unheard = Unheard { desk: self, claims };
        self.ledger.settled().await?;
        Ok(std::mem::take(&mut unheard.claims))
    }

    /// How many workers are in line.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.locked(|books, _| books.line.len())
    }

    /// Lets things expire when they are due, until the server closes.
    pub(crate) async fn watch_the_clock(self: Arc<Self>) {
        loop {
            self.sweep();
            let next = self.books(|state, now| {
                state.advance(now);
                state.next_wakeup().map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default())
            });
            let nap = next.map_or(LONGEST_NAP, |next| (next + Duration::from_millis(1)).min(LONGEST_NAP));
            // Closing first, so that it never waits; the order of the other two does not matter.
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                () = self.sooner.notified() => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
    }
}

/// Claims of which their worker has not heard.
struct Unheard<'a> {
    desk: &'a Desk,
    claims: Vec<Claim>,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if !self.claims.is_empty() {
            self.desk.locked(|books, now| self.claims.drain(..).for_each(|claim| books.state.give_back(now, &claim)));
        }
    }
}

impl Books {
    /// Notes what has changed, and then hands out what the state machine granted: nobody may hear of a claim before it is noted, as who hears of
    /// it waits for what is noted. Returns what is to be removed from the store.
    fn deliver(&mut self, now: Timestamp, ledger: &Ledger) -> Vec<Stored> {
        let mut unstored = Vec::new();
        loop {
            ledger::books::note_changes(ledger, &mut self.state);
            let effects = self.state.take_effects();
            if effects.is_empty() {
                return unstored;
            }
            for effect in effects {
                match effect {
                    Effect::Granted(ticket, claims) => {
                        let refused = match self.line.remove(&ticket) {
                            Some(sender) => sender.send(claims).err().unwrap_or_default(),
                            None => claims,
                        };
                        for claim in &refused {
                            self.state.give_back(now, claim);
                        }
                    }
                    Effect::Unstored(stored) => unstored.push(stored),
                }
            }
        }
    }
}

/// A place in line.
pub(crate) struct Seat {
    desk: Arc<Desk>,
    ticket: Ticket,
    receiver: oneshot::Receiver<Vec<Claim>>,
}

impl Seat {
    /// Waits for runs, for `patience` at most and until the server closes. No runs is an answer, too.
    pub(crate) async fn served(mut self, patience: Duration) -> Vec<Claim> {
        let closing = self.desk.closing.clone();
        // Runs first: they must not be given back when they are there.
        tokio::select! {
            biased;
            claims = &mut self.receiver => claims.unwrap_or_default(),
            () = closing.cancelled() => Vec::new(),
            () = tokio::time::sleep(patience) => Vec::new(),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self { desk, ticket, receiver } = self;
        desk.locked(|books, now| {
            books.line.remove(ticket);
            books.state.leave(*ticket);
            for claim in receiver.try_recv().into_iter().flatten() {
                books.state.give_back(now, &claim);
            }
        });
    }
}

#[cfg(test)]
mod tests;

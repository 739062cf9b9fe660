//! Deleting what nobody needs any more, in a thread of its own that yields to everything else.
//!
//! What is to go gets a name that says so, in one step; how long the deletion takes then matters to nobody. A worker that
//! dies leaves such names behind, and the next one goes on with them.

use std::{
    collections::VecDeque,
    ffi::{CString, OsStr},
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use tc_engine::Engine;
use tc_sys::removal::{self, What};
use tokio::runtime::Handle;
use tracing::warn;

use super::places::{self, Named};

/// Longest time for one cache. Millions of files on a slow disk take minutes.
const REMOVAL_BOUND: Duration = Duration::from_secs(30 * 60);
/// Names that are kept in mind. If there are more, the directory is listed.
const IN_MIND: usize = 4096;
/// How much less than others the thread gets of a busy processor.
const NICE: i32 = 10;

/// Who can delete files that are not the worker's.
#[derive(Clone)]
pub struct Powers {
    /// It runs containers as root.
    pub engine: Arc<dyn Engine>,
    /// Where its calls run.
    pub runtime: Handle,
}

impl Powers {
    /// Has the engine delete what is in a directory. Blocks, and works in any thread.
    fn empty(&self, path: &Path) -> bool {
        // Made over there: a timer belongs to the runtime in which it is made, and threads of our own have none.
        let emptied = async { tokio::time::timeout(REMOVAL_BOUND, self.engine.remove_tree(path)).await };
        matches!(self.runtime.block_on(emptied), Ok(Ok(())))
    }
}

/// The trash of one directory for caches.
pub struct Trash {
    dir: PathBuf,
    powers: Option<Powers>,
    state: Mutex<State>,
    turn: Condvar,
    /// One deletion at a time: two in one tree would be in each other's way.
    deleting: Mutex<()>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<PathBuf>,
    /// There may be more than `waiting` has.
    list_again: bool,
    /// Something was deleted since the directory was listed; otherwise listing it again brings the same.
    progress: bool,
    /// The last list was as long as a list may be.
    full: bool,
    /// A deletion goes on.
    at_work: bool,
    /// How many of them the engine does, in containers that go when they are done.
    helped: usize,
    closing: bool,
    /// Something could not be deleted, and that was said.
    stuck: bool,
}

impl Trash {
    /// The trash of a directory. `first` is done by the thread before anything else.
    pub fn start(dir: &Path, powers: Option<Powers>, first: impl FnOnce() + Send + 'static) -> Arc<Self> {
        let state = Mutex::new(State { list_again: true, at_work: true, ..State::default() });
        let trash = Arc::new(Self { dir: dir.to_owned(), powers, state, turn: Condvar::new(), deleting: Mutex::default() });
        let thread = {
            let trash = Arc::clone(&trash);
            std::thread::Builder::new().name("cache-trash".to_owned()).spawn(move || {
                // What comes first locks the directory now and then, and nobody should wait for one who yields.
                first();
                // On Linux this is about the calling thread. If it is refused, it competes with the tasks as an equal.
                let _ = rustix::process::setpriority_process(None, NICE);
                trash.work();
            })
        };
        if let Err(error) = thread {
            warn!("Caches are not deleted, a thread could not be started: {error}");
            trash.lock().at_work = false;
        }
        trash
    }

    /// Has something in the trash deleted.
    pub fn add(&self, path: PathBuf) {
        let mut state = self.lock();
        if state.waiting.len() < IN_MIND {
            state.waiting.push_back(path);
        } else {
            state.list_again = true;
        }
        drop(state);
        self.turn.notify_all();
    }

    /// Waits until there is nothing to do, or no time. Whether everything is gone.
    pub fn settle(&self, patience: Duration) -> bool {
        let is_busy = |state: &mut State| state.at_work || state.list_again || !state.waiting.is_empty();
        let (state, time) =
            self.turn.wait_timeout_while(self.lock(), patience, is_busy).unwrap_or_else(PoisonError::into_inner);
        !time.timed_out() && !state.stuck
    }

    /// Ends the thread after the deletion that goes on.
    pub fn close(&self) {
        self.lock().closing = true;
        self.turn.notify_all();
    }

    /// The same, and waits until the engine deletes nothing any more, or there is no time: it would have a container left.
    pub fn leave(&self, patience: Duration) {
        self.close();
        let is_helped = |state: &mut State| state.helped > 0;
        drop(self.turn.wait_timeout_while(self.lock(), patience, is_helped));
    }

    fn work(&self) {
        while let Some(path) = self.next() {
            match self.delete(&path) {
                Ok(()) => self.lock().progress = true,
                Err(why) => self.say_stuck(&path, &why),
            }
        }
    }

    /// What to delete next; nothing once the thread has to end.
    fn next(&self) -> Option<PathBuf> {
        let mut state = self.lock();
        loop {
            if state.closing {
                state.at_work = false;
                self.turn.notify_all();
                return None;
            }
            if let Some(path) = state.waiting.pop_front() {
                state.at_work = true;
                return Some(path);
            }
            let more = state.full && state.progress;
            if std::mem::take(&mut state.list_again) || more {
                state.at_work = true;
                drop(state);
                let listed = self.listed();
                state = self.lock();
                state.full = listed.len() == IN_MIND;
                state.progress = false;
                state.waiting.extend(listed);
                continue;
            }
            state.at_work = false;
            self.turn.notify_all();
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What the directory has of trash, as much as is kept in mind.
    pub fn listed(&self) -> Vec<PathBuf> {
        // A directory that is not there has none.
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let is_trash = |name: &OsStr| name.to_str().is_some_and(|name| places::read(name) == Named::Trash);
        entries.flatten().filter(|entry| is_trash(&entry.file_name())).map(|entry| entry.path()).take(IN_MIND).collect()
    }

    /// Deletes one directory, with the engine's help if it must.
    ///
    /// # Errors
    /// A sentence fragment, if something of it is still there.
    pub fn delete(&self, path: &Path) -> Result<(), String> {
        let _alone = self.deleting.lock().unwrap_or_else(PoisonError::into_inner);
        // Another process that uses the directory may be at it. One that may not be opened can only be tried.
        let _lock = match File::open(path).map(|opened| Flock::lock(opened, FlockArg::LockExclusiveNonblock)) {
            Ok(Err((_, Errno::EAGAIN))) => return Ok(()),
            lock => lock.ok().and_then(Result::ok),
        };
        let why = match delete_ourselves(path) {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        let Some(powers) = &self.powers else { return Err(why) };
        {
            let mut state = self.lock();
            if state.closing {
                // The next start goes on with it.
                return Err(why);
            }
            state.helped += 1;
        }
        let is_empty = powers.empty(path);
        self.lock().helped -= 1;
        self.turn.notify_all();
        // The directory around the files is ours again.
        if is_empty { delete_ourselves(path) } else { Err(why) }
    }

    /// Says once what to do; the next start tries again.
    fn say_stuck(&self, path: &Path, why: &str) {
        if !std::mem::replace(&mut self.lock().stuck, true) {
            warn!(
                "Could not delete the former cache {}: {why}. Whoever may can delete it and others like it with: \
                 sudo rm -rf -- '{}'/trash-*",
                path.display(),
                self.dir.display()
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes a tree; one that is gone already is what was wanted.
fn delete_ourselves(path: &Path) -> Result<(), String> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err("it has no name".to_owned()) };
    let parent = match File::open(parent) {
        Ok(parent) => parent,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let name = CString::new(name.as_bytes()).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + REMOVAL_BOUND;
    removal::remove(parent.as_fd(), &name, What::Everything, deadline)
        .map_err(|left| format!("{} in it: {}", left.path.display(), left.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_asked_from_a_thread_outside_of_its_runtime() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let powers = Powers { engine: Arc::new(tc_engine::fake::FakeEngine::new([])), runtime: runtime.handle().clone() };
        let asked = std::thread::spawn(move || powers.empty(Path::new("/nowhere"))).join();
        // This engine can delete nothing.
        assert!(!asked.expect("the thread goes on"));
    }
}

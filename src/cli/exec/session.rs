//! One session: an embedded queue, the worker on it, the tasks between them, from the first directory to the last.
//!
//! ```text
//! open ─▶ work ─all resolved──────────┐
//!           │                         ├─▶ close: worker, queue, followers, artifacts
//!           └─told to go─▶ stopping ──┘
//!                 nothing runs any more
//! ```

use std::{collections::HashSet, io, path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    Ready, artifacts, colour,
    follow::{Output, Painter, follow},
    setting::{self, Listener, Told, unable},
    settings,
    summary::{EXCEPTION, Outcome, Row, USAGE},
};
use tc_payload::is_container_payload;

use crate::{
    api::{Credentials, CredentialsCell, HttpTransport, Queue, Secret, Services, TaskStatus},
    cli::{
        args::ExecArgs,
        engine,
        problems::{Failure, say},
        signals::{Asked, Signals},
    },
    local::{Options, Server},
    log::LogReader,
    seam::{NoHostActions, SystemClock, SystemDisk, SystemRandom, slugid},
    worker::{self, Control, Ended, Parts, WorkerEvent},
};

const CLIENT_ID: &str = "tc-worker/exec";
/// How long a claim holds. The wall clock counts, and a laptop may sleep: nobody else waits for its tasks.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// How often the queue is looked at, beside when something happens.
const LOOK: Duration = Duration::from_millis(250);
/// Tasks of one status call.
const AT_ONCE: usize = 500;
/// How long a call on loopback takes to arrive, with room to spare.
const CALLS_ON_THEIR_WAY: Duration = Duration::from_millis(25);
/// How long the worker may take to end when nothing runs any more.
const END_BOUND: Duration = Duration::from_secs(30);
/// How long a stalled reader of standard output may hold up the end after Ctrl-C.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// One task of the session.
struct Task {
    number: usize,
    /// The numbers of the tasks that have to be resolved before it is begun.
    waits_for: Vec<usize>,
    /// It is begun also if they fail.
    whatever_comes: bool,
    id: String,
    name: String,
    /// Below the directory for artifacts.
    folder: String,
    end: Option<Outcome>,
    why: Option<String>,
    took: Option<Duration>,
}

/// What is open while tasks run. Fields are dropped in this order: directories last.
pub struct Session {
    tasks: Vec<Task>,
    server: Server,
    queue: Queue,
    control: Control,
    worker: JoinHandle<Ended>,
    events: mpsc::UnboundedReceiver<WorkerEvent>,
    /// Runs that have begun and not ended.
    open_runs: HashSet<(String, u32)>,
    followers: JoinSet<io::Result<()>>,
    /// There until the end.
    output: Option<Output>,
    colours: bool,
    told: Told,
    artifacts: PathBuf,
    trouble: bool,
    _store: TempDir,
    _home: TempDir,
}

/// How a session ended.
pub struct Closed {
    /// A row for each task, with its number.
    pub rows: Vec<(usize, Row)>,
    /// Something went wrong that no row shows.
    pub trouble: bool,
    /// Somebody wanted to stop.
    pub told: Option<Asked>,
}

impl Session {
    /// Starts everything and creates the tasks.
    pub async fn open(arguments: &ExecArgs, ready: Vec<Ready>, listener: Listener) -> Result<Self, Failure> {
        // First of all, so that no signal leaves anything behind.
        let signals = Signals::listen_at_terminal().map_err(|error| unable("listen to signals", &error))?;
        let told = Told::listen(signals);
        let dir = &arguments.artifacts;
        let hidden = tempfile::Builder::new();
        let store = fs_err::create_dir_all(dir).and_then(|()| { hidden }.prefix(".tc-worker-").tempdir_in(dir));
        let store = store.map_err(|error| {
            Failure::new(USAGE, format!("use \"{}\" for artifacts", dir.display()))
                .because(&error)
                .with_hint("--artifacts names another directory")
        })?;
        let home = setting::home()?;
        let token = slugid(&SystemRandom) + &slugid(&SystemRandom);
        let options = Options {
            claim_timeout: CLAIM_TIMEOUT,
            any_queue: true,
            ..Options::new(store.path().to_owned(), (CLIENT_ID.to_owned(), token.clone()))
        };
        let server = Server::start_on(listener.socket, options).map_err(|error| unable("start the embedded queue", &error))?;
        let root_url = server.root_url();
        let transport = HttpTransport::new(None, true)
            .map_err(|error| Failure::new(EXCEPTION, "set up the connection to the embedded queue").because_of(error))?;
        let transport = Arc::new(transport);
        let services = Services::new(&root_url, transport.clone(), Arc::new(SystemClock), Arc::new(SystemRandom));
        let services =
            services.map_err(|error| Failure::new(EXCEPTION, "use the embedded queue's root URL").because_of(error))?;
        let queue = services.queue(CredentialsCell::new(Credentials {
            client_id: CLIENT_ID.to_owned(),
            access_token: Secret::new(token.clone()),
            certificate: None,
        }));
        let engine = engine::engine(tc_engine_native::Containment::Detect).map_err(|failure| failure.with_code(EXCEPTION))?;
        let jobs = arguments.jobs.unwrap_or_else(|| setting::usual_jobs(ready.len()));
        let config = settings::config(&root_url, (CLIENT_ID, &token), home.path(), jobs, settings::caches(arguments));
        let containers = ready.iter().any(|ready| is_container_payload(&ready.defined.definition["payload"]));
        let docker = if containers { Some(setting::container_engine(&config).await?) } else { None };
        let output = Output::start().map_err(|error| unable("start a thread for standard output", &error))?;
        let mut tasks = Vec::with_capacity(ready.len());
        for ready in ready {
            tasks.push(create(&queue, ready).await);
        }
        let (control, input) = Control::new();
        let (send, events) = mpsc::unbounded_channel();
        let worker = tokio::spawn(worker::run(
            Parts {
                config: Arc::new(config),
                clock: Arc::new(SystemClock),
                random: Arc::new(SystemRandom),
                disk: Arc::new(SystemDisk),
                host: Arc::new(NoHostActions),
                transport,
                engine,
                docker,
                events: Some(send),
                // The file is the machine's, and a worker of it may run beside us.
                status_file: None,
                images_as_they_are: true,
                log_header_from_task: true,
            },
            input,
        ));
        Ok(Self {
            tasks,
            server,
            queue,
            control,
            worker,
            events,
            open_runs: HashSet::new(),
            followers: JoinSet::new(),
            output: Some(output),
            colours: colour::wanted(&io::stdout()),
            told,
            artifacts: dir.clone(),
            trouble: false,
            _store: store,
            _home: home,
        })
    }

    /// Waits until every task is resolved, or until somebody wants to stop and nothing runs any more.
    pub async fn work(&mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = false;
        loop {
            let running = self.look().await;
            self.give_up_waiting();
            if self.tasks.iter().all(|task| task.end.is_some()) || (stopping && running == Some(0)) {
                break;
            }
            tokio::select! {
                biased; // Whoever wants to stop comes first; then what happened; time last.
                () = self.told.asked(), if !stopping => {
                    stopping = true;
                    say("Ending the tasks and cleaning up; a second time ends at once");
                    self.control.abort();
                }
                Some(event) = self.events.recv() => self.on_event(event),
                ended = &mut self.worker => {
                    self.on_early_end(ended.ok(), stopping);
                    break;
                }
                _ = looks.tick() => {}
            }
        }
    }

    fn on_event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::RunStarted { task_id, run_id, log } => {
                self.open_runs.insert((task_id.clone(), run_id));
                self.on_start(&task_id, run_id, log);
            }
            WorkerEvent::RunEnded { task_id, run_id, why, took, .. } => {
                self.open_runs.remove(&(task_id.clone(), run_id));
                if let Some(task) = self.tasks.iter_mut().find(|task| task.id == task_id) {
                    task.why = why;
                    task.took = Some(took);
                }
            }
        }
    }

    fn on_start(&mut self, task_id: &str, run_id: u32, log: LogReader) {
        let Some(number) = self.tasks.iter().position(|task| task.id == task_id) else { return };
        let Some(output) = &self.output else { return };
        let name = &self.tasks[number].name;
        let again = if run_id == 0 { String::new() } else { format!(", run {run_id}") };
        say(&format!("{name}: task {task_id}{again}"));
        let prefix = if self.tasks.len() > 1 {
            let colour = colour::LABELS[number % colour::LABELS.len()];
            colour::paint(self.colours, colour, &format!("{name} | "))
        } else {
            String::new()
        };
        self.followers.spawn(follow(log, Painter::new(prefix, self.colours), output.writer()));
    }

    fn on_early_end(&mut self, ended: Option<Ended>, told: bool) {
        if told {
            return;
        }
        self.trouble = true;
        let code = ended.map_or_else(|| "a failure inside of it".to_owned(), |ended| format!("exit code {}", ended.code));
        Failure::new(EXCEPTION, format!("the worker has ended before all tasks were run, with {code}")).show();
    }

    /// Asks the queue about all tasks that are not resolved yet. Returns how many run, if the queue could say.
    async fn look(&mut self) -> Option<usize> {
        let ids: Vec<String> = self.tasks.iter().filter(|task| task.end.is_none()).map(|task| task.id.clone()).collect();
        let mut running = self.open_runs.len();
        for ids in ids.chunks(AT_ONCE) {
            let statuses = match self.queue.statuses(ids).await {
                Ok(statuses) => statuses,
                Err(error) => {
                    tracing::warn!("Could not ask the embedded queue how its tasks are. {error}");
                    return None;
                }
            };
            for status in statuses {
                running += usize::from(status.state == "running");
                let Some(task) = self.tasks.iter_mut().find(|task| task.id == status.task_id) else { continue };
                // The worker tells why shortly after it has told the queue; wait for that.
                if !self.open_runs.iter().any(|(id, _)| *id == task.id) {
                    task.end = outcome(&status);
                }
            }
        }
        Some(running)
    }

    /// Tasks whose dependencies did not complete will never be begun.
    fn give_up_waiting(&mut self) {
        loop {
            let lost = |task: &Task| {
                let of = |number: &usize| self.tasks.iter().find(|other| other.number == *number);
                let others = task.waits_for.iter().filter_map(of);
                others.into_iter().find(|on| match &on.end {
                    None | Some(Outcome::Completed) => false,
                    Some(Outcome::Failed | Outcome::Exception(_)) => !task.whatever_comes,
                    Some(Outcome::Invalid | Outcome::Stopped | Outcome::NotRun) => true,
                })
            };
            let waiting =
                self.tasks.iter().position(|task| task.end.is_none() && !self.has_begun(task) && lost(task).is_some());
            let Some(number) = waiting else { return };
            let why = lost(&self.tasks[number]).map(|on| format!("it waits for {}", on.name));
            self.tasks[number].end = Some(Outcome::NotRun);
            self.tasks[number].why = why;
        }
    }

    fn has_begun(&self, task: &Task) -> bool {
        task.took.is_some() || self.open_runs.iter().any(|(id, _)| *id == task.id)
    }

    /// Ends the worker and the queue, saves artifacts, writes what is left to write.
    pub async fn close(mut self) -> Closed {
        self.control.finish();
        // A worker without a call under way ends by itself, and a call that is just being made gets through to the queue.
        if !self.worker.is_finished() && timeout(CALLS_ON_THEIR_WAY, &mut self.worker).await.is_ok() {
            tracing::debug!("The worker has ended before its queue");
        }
        // Ends the worker's long poll, so that it ends too.
        self.server.shutdown().await;
        if !self.worker.is_finished() && timeout(END_BOUND, &mut self.worker).await.is_err() {
            tracing::error!("The worker does not end; leaving it behind");
            self.worker.abort();
            self.trouble = true;
        }
        while let Ok(event) = self.events.try_recv() {
            self.on_event(event);
        }
        self.write_the_rest().await;
        let stopped = self.told.so_far().is_some();
        let mut rows = Vec::new();
        for task in std::mem::take(&mut self.tasks) {
            let published = self.server.published(&task.id);
            let (dir, folder) = (self.artifacts.clone(), task.folder);
            let shown = dir.join(&folder).display().to_string();
            let saved = tokio::task::spawn_blocking(move || artifacts::save(&dir, &folder, &published)).await;
            let saved = saved.unwrap_or_else(|error| artifacts::Saved::failed(&error));
            for note in saved.notes {
                say(&format!("warning: {}: {note}", task.name));
            }
            for failure in saved.failures {
                self.trouble = true;
                say(&format!("error: {}: {failure}", task.name));
            }
            let outcome =
                task.end.unwrap_or(if stopped { Outcome::Stopped } else { Outcome::Exception("unresolved".to_owned()) });
            let artifacts = (saved.files > 0).then_some(shown);
            rows.push((task.number, Row { name: task.name, outcome, why: task.why, took: task.took, artifacts }));
        }
        Closed { rows, trouble: self.trouble, told: self.told.so_far() }
    }

    /// Writes what followers still have. A reader that is slow is waited for, unless somebody wants to stop: they have seen enough.
    async fn write_the_rest(&mut self) {
        let told = self.told.clone();
        let enough = async {
            let known = told.so_far().is_some();
            told.asked().await;
            if !known {
                say("Cleaning up without the rest of the log; a second time ends at once");
            }
            tokio::time::sleep(LAST_WORDS).await;
        };
        let output = self.output.take();
        let followers = &mut self.followers;
        let rest = async {
            while let Some(followed) = followers.join_next().await {
                match followed {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => say(&format!("error: follow the log of a task: {error}")),
                    Err(error) => say(&format!("error: follow the log of a task: {error}")),
                }
            }
            match output {
                Some(output) => output.close().await,
                None => Ok(()),
            }
        };
        let written = tokio::select! {
            biased; // What is written is written.
            written = rest => written,
            () = enough => Err(io::ErrorKind::TimedOut.into()),
        };
        self.followers.abort_all();
        if let Err(error) = written {
            self.trouble = true;
            Failure::new(EXCEPTION, "write the log to standard output").because(&error).show();
        }
    }
}

/// Creates a task; one that the queue refuses is over.
async fn create(queue: &Queue, ready: Ready) -> Task {
    let Ready { number, id, waits_for, called, defined } = ready;
    let folder = called.folder.unwrap_or_else(|| id.clone());
    let whatever_comes = defined.definition["requires"] == "all-resolved";
    let mut task = Task { number, waits_for, whatever_comes, id, name: called.name, folder, end: None, why: None, took: None };
    if let Err(error) = queue.create_task(&task.id, &defined.definition).await {
        Failure::new(EXCEPTION, format!("{}: the queue does not take this task", task.name)).because(&error).show();
        task.end = Some(Outcome::Invalid);
        task.why = Some("refused by the queue".to_owned());
    }
    task
}

/// How a task has ended, if it has.
fn outcome(status: &TaskStatus) -> Option<Outcome> {
    match status.state.as_str() {
        "completed" => Some(Outcome::Completed),
        "failed" => Some(Outcome::Failed),
        "exception" => {
            let reason = status.runs.last().and_then(|run| run.reason_resolved.clone());
            Some(Outcome::Exception(reason.unwrap_or_else(|| "exception".to_owned())))
        }
        _ => None,
    }
}

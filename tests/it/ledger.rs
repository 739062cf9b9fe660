//! `queue --data-dir`: what was acknowledged is there after `kill -9`, at whatever moment it comes; a full disk is survived, too.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tc_worker::{
    api::{Credentials, CredentialsCell, HttpTransport, Queue, Resolution, Secret, Services},
    seam::{Random as _, SystemClock, SystemRandom, slugid},
};

use crate::support::{BINARY, PATIENCE};

/// A `tc-worker queue` of its own.
struct Server {
    child: Child,
    queue: Arc<Queue>,
    token: String,
}

impl Server {
    /// Waits until it serves.
    fn start(mut command: Command, data: &Path) -> Self {
        let mut child = command
            .args(["queue", "--data-dir"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the queue starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut variables = HashMap::new();
        for line in out.lines().take(3) {
            let line = line.expect("a line");
            let (name, value) = line.trim_start_matches("export ").split_once('=').expect("a variable");
            variables.insert(name.to_owned(), value.to_owned());
        }
        let value = |name: &str| variables.get(name).cloned().unwrap_or_else(|| panic!("{name} is not in {variables:?}"));
        let token = value("TASKCLUSTER_ACCESS_TOKEN");
        let transport = Arc::new(HttpTransport::new(None, true).expect("a transport"));
        let services = Services::new(&value("TASKCLUSTER_ROOT_URL"), transport, Arc::new(SystemClock), Arc::new(SystemRandom))
            .expect("a URL");
        let queue = Arc::new(services.queue(CredentialsCell::new(Credentials {
            client_id: value("TASKCLUSTER_CLIENT_ID"),
            access_token: Secret::new(token.clone()),
            certificate: None,
        })));
        Self { child, queue, token }
    }

    fn binary(data: &Path) -> Self {
        Self::start(Command::new(BINARY), data)
    }

    /// Lets it end as it wants to.
    fn end(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().expect("a process id"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("asked");
        self.child.wait().expect("gone");
    }

    /// `kill -9`
    fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn definition() -> Value {
    let now = jiff::Timestamp::now();
    let at = |hours: i64| (now + jiff::SignedDuration::from_hours(hours)).to_string();
    json!({
        "provisionerId": "tests", "workerType": "ledger", "created": now.to_string(), "deadline": at(1), "expires": at(24), "payload": {},
        "metadata": { "name": "n", "description": "d", "owner": "nobody@example.com", "source": "https://example.com/" },
    })
}

/// What the queue has answered for: a later word outranks an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Created,
    Claimed,
    Completed,
}

#[derive(Default)]
struct Acknowledged {
    tasks: Mutex<HashMap<String, Known>>,
    count: AtomicUsize,
}

impl Acknowledged {
    fn note(&self, id: &str, known: Known) {
        self.tasks.lock().expect("nobody panics").insert(id.to_owned(), known);
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Creates, claims and reports until it is aborted.
async fn load(queue: Arc<Queue>, acknowledged: Arc<Acknowledged>, worker: String) {
    let pool = "tests/ledger";
    loop {
        let id = slugid(&SystemRandom);
        if queue.create_task(&id, &definition()).await.is_err() {
            return;
        }
        // Another client may have claimed it, and said so, before its creator heard of it.
        acknowledged.tasks.lock().expect("nobody panics").entry(id).or_insert(Known::Created);
        acknowledged.count.fetch_add(1, Ordering::SeqCst);
        let Ok(claims) = queue.claim_work(pool, "g", &worker, 1).await else { return };
        for claim in claims {
            acknowledged.note(&claim.task_id, Known::Claimed);
            if queue.report(&claim.task_id, claim.run_id, Resolution::Completed).await.is_err() {
                return;
            }
            acknowledged.note(&claim.task_id, Known::Completed);
        }
    }
}

fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    SystemRandom.fill(&mut bytes);
    u64::from_le_bytes(bytes) % below
}

async fn verify(queue: &Queue, acknowledged: &Acknowledged) {
    let tasks = acknowledged.tasks.lock().expect("nobody panics").clone();
    let ids: Vec<String> = tasks.keys().cloned().collect();
    let mut states = HashMap::new();
    for page in ids.chunks(500) {
        for status in queue.statuses(page).await.expect("an answer") {
            states.insert(status.task_id.clone(), status.state);
        }
    }
    for (id, known) in tasks {
        let state = states.get(&id).map(String::as_str);
        let fine: &[&str] = match known {
            Known::Created => &["pending", "running", "completed"],
            Known::Claimed => &["running", "completed"],
            Known::Completed => &["completed"],
        };
        assert!(state.is_some_and(|state| fine.contains(&state)), "task {id} was {known:?} and is {state:?} now");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_at_any_moment() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let acknowledged = Arc::<Acknowledged>::default();
    let mut token = None;
    for _ in 0..6 {
        let server = Server::binary(&data);
        assert_eq!(token.get_or_insert_with(|| server.token.clone()), &server.token, "the access token stays the same");
        verify(&server.queue, &acknowledged).await;
        let clients: Vec<_> = (0..8)
            .map(|number| tokio::spawn(load(Arc::clone(&server.queue), Arc::clone(&acknowledged), format!("w{number}"))))
            .collect();
        let target = acknowledged.count.load(Ordering::SeqCst) + 20 + usize::try_from(random(300)).expect("small");
        let began = Instant::now();
        while acknowledged.count.load(Ordering::SeqCst) < target {
            assert!(began.elapsed() < PATIENCE, "the queue does not answer");
            tokio::task::yield_now().await;
        }
        server.kill();
        for client in clients {
            client.abort();
            drop(client.await);
        }
    }
    let server = Server::binary(&data);
    verify(&server.queue, &acknowledged).await;
}

#[test]
fn a_directory_is_readable_even_if_its_first_starts_were_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    for round in 0..30 {
        let data = dir.path().join((round / 3).to_string());
        let mut child = Command::new(BINARY)
            .args(["queue", "--data-dir"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the queue starts");
        // The moment is what is tried out here.
        std::thread::sleep(Duration::from_micros(random(40_000)));
        child.kill().expect("killed");
        child.wait().expect("gone");
        if round % 3 == 2 {
            Server::binary(&data).kill();
        }
    }
}

fn failure(data: &Path) -> (Option<i32>, String) {
    let output = Command::new(BINARY).args(["queue", "--data-dir"]).arg(data).stdin(Stdio::null()).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error_that_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let server = Server::binary(&data);
    let (code, message) = failure(&data);
    assert!(code.is_some_and(|code| code != 0) && message.contains("is in use by another queue"), "{code:?} {message}");
    server.kill();
    let ledger = data.join("ledger.redb");
    let whole = std::fs::read(&ledger).expect("the ledger");
    let torn: &[(&str, Vec<u8>)] = &[
        ("empty", Vec::new()),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("cut short", whole[..whole.len() - 5000].to_vec()),
        ("zeroed", vec![0; whole.len()]),
        ("foreign", b"SQLite format 3\0".repeat(1000)),
        ("overwritten", whole.iter().map(|byte| byte ^ 0x55).collect()),
    ];
    for (what, content) in torn {
        std::fs::write(&ledger, content).expect("written");
        let (code, message) = failure(&data);
        assert!(code.is_some_and(|code| code != 0 && code != 101), "{what}: {code:?} {message}");
        assert!(message.contains("ledger.redb\" cannot be read: ") && !message.contains("panicked"), "{what}: {message}");
    }
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("written");
    let (code, message) = failure(&file.join("data"));
    assert!(code.is_some_and(|code| code != 0) && message.contains("data directory \""), "{code:?} {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_is_an_error_that_says_so_and_no_panic() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let server = Server::binary(&data);
    for _ in 0..40 {
        server.queue.create_task(&slugid(&SystemRandom), &definition()).await.expect("created");
    }
    // A file that was not closed is checked as a whole when it is opened, and says so without help.
    server.end();
    let ledger = data.join("ledger.redb");
    let whole = std::fs::read(&ledger).expect("the ledger");
    let used = whole.chunks(4096).enumerate().skip(1).filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    let mut damaged = 0;
    for (number, _) in used.take(20) {
        let mut content = whole.clone();
        content[number * 4096..][..4096].fill(0);
        std::fs::write(&ledger, content).expect("written");
        let mut child = Command::new(BINARY)
            .args(["queue", "--data-dir"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        // A page that is of no use any more does no harm: then it serves.
        let first = BufReader::new(child.stdout.take().expect("a pipe")).lines().next();
        child.kill().expect("killed");
        let output = child.wait_with_output().expect("gone");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!message.contains("panicked"), "page {number}: {message}");
        if first.is_none() {
            assert_eq!(output.status.code(), Some(69), "page {number}: {message}");
            assert!(message.contains("ledger.redb\" cannot be read: "), "page {number}: {message}");
            damaged += usize::from(message.contains("it is damaged"));
        }
    }
    assert!(damaged > 0);
}

/// A queue whose data directory is on a small file system that nobody else sees.
fn on_a_small_disk(dir: &Path) -> Option<(Command, PathBuf)> {
    let script = format!(
        "mount -t tmpfs -o size=8m none '{0}' && dd if=/dev/zero of='{0}/filler' bs=1k count=5000 status=none && exec \"$0\" \"$@\"",
        dir.display()
    );
    let possible = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, BINARY]);
    possible.then(|| (command, dir.join("data")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_calls_until_there_is_room_again() {
    const NAME: &str = "ledger::a_full_disk_refuses_calls_until_there_is_room_again";
    let dir = tempfile::tempdir().expect("a directory");
    let Some((command, data)) = on_a_small_disk(dir.path()) else {
        if let Some(path) = std::env::var_os("TC_TESTS_NOT_RUN") {
            let mut list = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("a list");
            writeln!(list, "{NAME}\tit takes a mount namespace of its own").expect("written");
        }
        return;
    };
    let server = Server::start(command, &data);
    // Mounts of the other namespace are reached through the process that has them.
    let inside =
        PathBuf::from(format!("/proc/{}/root", server.child.id())).join(dir.path().strip_prefix("/").expect("absolute"));
    let create = async |large: bool| {
        let mut task = definition();
        if large {
            task["payload"] = json!({ "filler": "x".repeat(300_000) });
        }
        let id = slugid(&SystemRandom);
        // Refusals of this kind are repeated by the client for long; here one is enough.
        let answer = tokio::time::timeout(Duration::from_secs(3), server.queue.create_task(&id, &task)).await;
        answer.is_ok_and(|answer| answer.is_ok()).then_some(id)
    };
    let mut created = Vec::new();
    while let Some(id) = create(true).await {
        created.push(id);
        assert!(created.len() < 100, "the disk never gets full");
    }
    assert!(create(false).await.is_none(), "nothing is accepted that cannot be kept");
    let known = server.queue.statuses(&created).await;
    assert_eq!(known.expect("reads are answered").len(), created.len());
    std::fs::remove_file(inside.join("filler")).expect("room");
    let began = Instant::now();
    let last = loop {
        assert!(began.elapsed() < PATIENCE, "it never recovers");
        if let Some(id) = create(false).await {
            break id;
        }
    };
    created.push(last);
    let copy = tempfile::tempdir().expect("a directory");
    let copied = copy.path().join("data");
    std::fs::create_dir(&copied).expect("made");
    // What is on the disk at this moment is what a kill at this moment would leave.
    std::fs::copy(inside.join("data/ledger.redb"), copied.join("ledger.redb")).expect("copied");
    let again = Server::binary(&copied);
    assert_eq!(again.queue.statuses(&created).await.expect("an answer").len(), created.len(), "all that were acknowledged");
}

//! `tc-worker queue` as a process: what it prints, what it refuses, and that its options reach the server.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use nix::sys::signal::Signal::SIGTERM;
use tc_worker::{
    api::{Credentials, CredentialsCell, HttpTransport, RetryPolicy, Secret, Services},
    seam::{SystemClock, SystemRandom, slugid},
};

use crate::support::{Worker, until_some};

fn queue(arguments: &[&str], env: &[(&str, &str)]) -> Worker {
    let home = tempfile::tempdir().expect("a directory");
    Worker::start(home, &[&["queue"], arguments].concat(), env)
}

fn stdout(queue: &Worker) -> String {
    std::fs::read_to_string(queue.home().join("stdout")).expect("text")
}

/// The value of a variable, once it is printed.
async fn variable(queue: &Worker, name: &str) -> String {
    let line = format!("export TASKCLUSTER_{name}=");
    until_some(&format!("{name} is printed"), async || {
        let text = stdout(queue);
        let found = text.lines().find_map(|known| known.strip_prefix(&line))?;
        text.ends_with('\n').then(|| found.to_owned())
    })
    .await
}

fn services(root_url: &str) -> Services {
    let transport = Arc::new(HttpTransport::new(None, true).expect("a transport"));
    let services = Services::new(root_url, transport, Arc::new(SystemClock), Arc::new(SystemRandom)).expect("a root URL");
    services.with_retry(RetryPolicy { total: std::time::Duration::ZERO, ..RetryPolicy::default() })
}

/// What the server says to a call that everybody may make, signed like this.
async fn says(root_url: &str, client_id: &str, token: &str) -> Result<(), Option<u16>> {
    let credentials = Credentials { client_id: client_id.to_owned(), access_token: Secret::new(token), certificate: None };
    let auth = services(root_url).auth(CredentialsCell::new(credentials));
    auth.expand_scopes(&["a".to_owned()]).await.map(drop).map_err(|error| error.status())
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_be_are_refused_with_the_reason() {
    for (arguments, expected) in [
        (&["--listen", "0.0.0.0:0"][..], "nobody said who may do what"),
        (&["--fault", "PUT artifact: cut aftr 1MB"], "\n  PUT artifact: cut aftr 1MB\n                    ^^^^\n"),
        (&["--fault", "claimWrok: drop"], "did you mean `claimWork`?"),
        (&["--bandwidth", "fast"], "`fast` is no rate"),
    ] {
        let mut queue = queue(arguments, &[]);
        assert_eq!(queue.code().await, Some(2), "{arguments:?}");
        assert!(queue.stderr().contains(expected), "{arguments:?}: {}", queue.stderr());
        assert_eq!(stdout(&queue), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_machines_are_let_in_with_credentials_and_a_warning() {
    let token = slugid(&SystemRandom);
    let env = [("TASKCLUSTER_CLIENT_ID", "me"), ("TASKCLUSTER_ACCESS_TOKEN", token.as_str())];
    let mut queue = queue(&["--listen", "0.0.0.0:0"], &env);
    let root_url = variable(&queue, "ROOT_URL").await;
    assert_eq!(variable(&queue, "CLIENT_ID").await, "me");
    assert_eq!(says(&root_url, "me", &token).await, Ok(()));
    assert_eq!(says(&root_url, "me", "another").await, Err(Some(401)));
    queue.signal(SIGTERM);
    assert_eq!(queue.code().await, Some(0));
    let log = queue.stderr();
    assert!(log.contains("everybody on the way can read"), "{log}");
    assert!(!log.contains(&token) && !stdout(&queue).contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_and_networks_and_clients_reach_the_server() {
    let dir = tempfile::tempdir().expect("a directory");
    let clients = dir.path().join("clients.yml");
    let token = slugid(&SystemRandom);
    std::fs::write(&clients, format!("clients:\n  - clientId: somebody\n    accessToken: {token}\n    scopes: []\n"))
        .expect("written");
    std::fs::set_permissions(&clients, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    let arguments = [
        &["--clients", clients.to_str().expect("UTF-8"), "--rtt", "200", "--bandwidth", "10MB/s"][..],
        &["--seed", "3", "--fault", "expandScopes: status 503, first 1"],
    ]
    .concat();
    let mut queue = queue(&arguments, &[]);
    let root_url = variable(&queue, "ROOT_URL").await;
    let began = std::time::Instant::now();
    assert_eq!(says(&root_url, "somebody", &token).await, Err(Some(503)));
    assert!(began.elapsed() >= std::time::Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(says(&root_url, "somebody", &token).await, Ok(()));
    assert_eq!(says(&root_url, "nobody", &token).await, Err(Some(401)));
    queue.signal(SIGTERM);
    assert_eq!(queue.code().await, Some(0));
    let log = queue.stderr();
    assert!(log.contains("--seed 3 repeats them") && log.contains("fault `expandScopes: status 503, first 1`"), "{log}");
}

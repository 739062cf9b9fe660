use std::os::unix::fs::PermissionsExt as _;

use super::{
    command::{Given, QueueCommand, serve_foreground},
    *,
};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/queue-tls").join(name)
}

#[tokio::test]
async fn https_when_asked_for() {
    let mut rig =
        Rig::with(|options| options.tls = Some(TlsFiles { cert: fixture("cert.pem"), key: fixture("key.pem") })).await;
    assert!(rig.server.root_url().starts_with("https://localhost:"));
    let certificate =
        reqwest::Certificate::from_pem(&std::fs::read(fixture("cert.pem")).expect("a file")).expect("a certificate");
    rig.http = reqwest::Client::builder().no_proxy().tls_certs_only([certificate]).build().expect("a client");
    let (id, claim) = rig.running().await;
    let path = format!("/task/{id}/runs/0/artifacts/a");
    let body = json!({ "storageType": "s3", "contentType": "t", "expires": claim["task"]["expires"] });
    let answer = rig.call_as(As::Task(&claim["credentials"]), Method::POST, &path, Some(&body)).await.ok();
    assert!(answer["putUrl"].as_str().is_some_and(|url| url.starts_with(&rig.server.root_url())), "{answer}");
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named() {
    for (cert, key, named) in
        [("cert.pem", "cert.pem", "cert.pem"), ("missing.pem", "key.pem", "missing.pem"), ("key.pem", "key.pem", "key.pem")]
    {
        let store = tempfile::tempdir().expect("a directory");
        let started = Server::start(Options {
            tls: Some(TlsFiles { cert: fixture(cert), key: fixture(key) }),
            claim_timeout: Duration::from_secs(1),
            ..Options::new(store.path().to_owned(), ("a".into(), "b".into()))
        });
        let error = started.await.err().expect("an error").to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let rig = Rig::start().await;
    let store = rig.store.path().join("other");
    let started = Server::start(Options {
        listen: rig.server.address(),
        claim_timeout: Duration::from_secs(1),
        ..Options::new(store, ("a".into(), "b".into()))
    });
    let error = started.await.err().expect("an error").to_string();
    assert!(error.contains(&rig.server.address().to_string()), "{error}");
}

#[tokio::test]
async fn the_command_prints_what_clients_need_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let env_file = dir.path().join("env");
    let mut out = Vec::new();
    let command = QueueCommand { env_file: Some(env_file.clone()), ..QueueCommand::default() };
    serve_foreground(command, &mut out, async {
        let text = std::fs::read_to_string(&env_file).expect("a file");
        let root =
            text.lines().find_map(|line| line.strip_prefix("export TASKCLUSTER_ROOT_URL=")).expect("a root URL").to_owned();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.get(format!("{root}/api/queue/v1/ping")).send().await.expect("an answer");
        assert!(answer.status().is_success());
    })
    .await
    .expect("served");
    let text = String::from_utf8(out).expect("text");
    assert_eq!(text, std::fs::read_to_string(&env_file).expect("a file"));
    let names: Vec<_> = text.lines().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(names, ["export TASKCLUSTER_ROOT_URL", "export TASKCLUSTER_CLIENT_ID", "export TASKCLUSTER_ACCESS_TOKEN"]);
    assert_eq!(env_file.metadata().expect("stat").permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_token_that_was_given_works_and_is_not_shown_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let env_file = dir.path().join("env");
    let mut out = Vec::new();
    let given =
        Given { client_id: Some("root".to_owned()), access_token: Some(crate::api::Secret::new(TOKEN)), certificate: false };
    let command = QueueCommand { env_file: Some(env_file.clone()), given, ..QueueCommand::default() };
    let root = |text: &str| -> String {
        text.lines().find_map(|line| line.strip_prefix("export TASKCLUSTER_ROOT_URL=")).expect("a root URL").to_owned()
    };
    serve_foreground(command, &mut out, async {
        let text = std::fs::read_to_string(&env_file).expect("a file");
        assert!(
            text.ends_with(&format!("export TASKCLUSTER_CLIENT_ID=root\nexport TASKCLUSTER_ACCESS_TOKEN={TOKEN}\n")),
            "{text}"
        );
        let url: Url = format!("{}/api/queue/v1/claim-work/p%2Fw", root(&text)).parse().expect("a URL");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        // Refused for its body, not for its signature.
        let request = client.post(url.clone()).header("authorization", signed(&Method::POST, &url)).body("{}");
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::BAD_REQUEST);
    })
    .await
    .expect("served");
    let text = String::from_utf8(out).expect("text");
    assert_eq!(text, format!("export TASKCLUSTER_ROOT_URL={}\nexport TASKCLUSTER_CLIENT_ID=root\n", root(&text)));
}

#[tokio::test]
async fn other_machines_are_not_let_in_without_credentials() {
    let command = QueueCommand { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..QueueCommand::default() };
    let served = serve_foreground(command, Vec::new(), async { panic!("it serves") }).await;
    assert!(served.is_err_and(|error| error.to_string().contains("can be reached from other machines")));
}

#[tokio::test]
async fn a_claim_is_no_longer_than_its_credentials() {
    let command = |claim_timeout_secs| QueueCommand { claim_timeout_secs, ..QueueCommand::default() };
    let longest = command::LONGEST_CLAIM_SECS;
    assert!(command(longest + 1).check().is_err_and(|why| why.contains("credentials")));
    assert_eq!(command(longest).check(), Ok(None));
    let rig = Rig::with(|options| options.claim_timeout = Duration::from_secs(longest)).await;
    let (id, claim) = rig.running().await;
    let reclaim = format!("/task/{id}/runs/0/reclaim");
    rig.call_as(As::Task(&claim["credentials"]), Method::POST, &reclaim, None).await.ok();
}

#[tokio::test]
async fn a_clients_file_does_not_name_whoever_may_do_everything() {
    let dir = tempfile::tempdir().expect("a directory");
    let clients = dir.path().join("clients.yml");
    let text = "clients:\n  - clientId: me\n    accessToken: no-real-secret-no-real-secret\n    scopes: []\n";
    fs_err::write(&clients, text).expect("written");
    std::fs::set_permissions(&clients, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    let given = |id: &str| Given {
        client_id: Some(id.to_owned()),
        access_token: Some(crate::api::Secret::new(TOKEN)),
        certificate: false,
    };
    let serve = async |id: &str| {
        let command = QueueCommand { given: given(id), clients: Some(clients.clone()), ..QueueCommand::default() };
        serve_foreground(command, Vec::new(), async {}).await.map_err(|error| error.to_string())
    };
    assert_eq!(serve("somebody").await, Ok(()));
    assert!(serve("me").await.is_err_and(|why| why.contains("client \"me\" of the clients file")));
}

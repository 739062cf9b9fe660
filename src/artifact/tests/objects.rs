//! Artifacts as objects, at the embedded queue.

use std::sync::Arc;

use jiff::SignedDuration;

use super::*;
use crate::{
    api::{Credentials, CredentialsCell, HttpTransport, Secret, Services},
    artifact::Target,
    local::{Options, Server, StoredArtifact},
    seam::{SystemClock, SystemRandom, slugid},
};

const TOKEN: &str = "no-real-secret-no-real-secret";

/// A queue, and a run of a task at it.
struct Run {
    server: Server,
    target: Target,
    _dir: TempDir,
}

impl Run {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options::new(dir.path().join("store"), ("root".to_owned(), TOKEN.to_owned()));
        let server = Server::start(options).await.expect("a server");
        let transport = Arc::new(HttpTransport::new(None, true).expect("a transport"));
        let services = Services::new(&server.root_url(), transport, Arc::new(SystemClock), Arc::new(SystemRandom));
        let credentials = Credentials { client_id: "root".to_owned(), access_token: Secret::new(TOKEN), certificate: None };
        let queue = services.expect("services").queue(CredentialsCell::new(credentials));
        let task_id = slugid(&SystemRandom);
        let after = |hours| format!("{:.3}", Timestamp::now() + SignedDuration::from_hours(hours));
        let definition = json!({
            "taskQueueId": "p/w", "created": after(0), "deadline": after(1), "expires": after(2), "payload": {},
            "metadata": { "name": "n", "description": "d", "owner": "o", "source": "https://example.com" },
        });
        queue.create_task(&task_id, &definition).await.expect("created");
        let claims = queue.claim_work("p/w", "g", "w", 1).await.expect("an answer");
        assert_eq!(claims.len(), 1);
        Self { server, target: Target { queue, task_id, run_id: 0, objects: true }, _dir: dir }
    }

    async fn collect(&self, place: &Place, specs: Value) -> Vec<Row> {
        let specs: Vec<ArtifactSpec> = serde_json::from_value(specs).expect("artifacts");
        let surroundings = Surroundings {
            target: &self.target,
            expires: Timestamp::now() + SignedDuration::from_hours(1),
            spool_dir: place.spool.path().to_owned(),
            is_taken: &|_| false,
        };
        collect(&Files(place.dir.path().to_owned()), &specs, &surroundings).await.rows
    }

    fn published(&self) -> Vec<(StoredArtifact, Vec<u8>)> {
        let published = self.server.published(&self.target.task_id).into_iter();
        published.map(|artifact| (artifact.clone(), std::fs::read(artifact.path.expect("a path")).expect("a file"))).collect()
    }
}

#[tokio::test]
async fn files_become_objects_as_they_are() {
    let run = Run::start().await;
    let big = noise(3_000_000);
    let files: [(&str, &[u8]); 3] = [("big.bin", &big), ("empty", b""), ("text.txt", b"would be compressed elsewhere")];
    let place = Place::new(&files);
    let specs: Vec<Value> =
        files.iter().map(|(name, _)| json!({ "type": "file", "path": name, "name": format!("public/{name}") })).collect();
    for row in run.collect(&place, json!(specs)).await {
        let content = files.iter().find(|(name, _)| row.name.ends_with(name)).expect("a file").1;
        match row.ending {
            Ending::Uploaded { sha256: digest } => assert_eq!(digest.to_vec(), sha256(content), "{}", row.name),
            Ending::Missing { message, .. } => panic!("{}: {message}", row.name),
            Ending::Failed(error) => panic!("{}: {error}", row.name),
        }
    }
    let published = run.published();
    assert_eq!(published.len(), files.len());
    for ((artifact, bytes), (name, content)) in published.iter().zip(files) {
        assert_eq!((artifact.storage_type, &*artifact.name), ("object", &*format!("public/{name}")));
        assert!(bytes == content, "{name}");
    }
    // Downloads find it, which means that the queue has heard that it is there.
    let content = run.target.queue.artifact_content(&run.target.task_id, Some(0), "public/empty").await.expect("an answer");
    assert!(matches!(content, crate::api::ArtifactContent::Object { .. }), "{content:?}");
}

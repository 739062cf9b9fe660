use super::*;
use crate::{
    api::{Credentials, CredentialsCell, HttpTransport, PurgeCache, Secret, Services},
    cache::Purges,
};

impl Rig {
    async fn purge_cache(&self, who: As<'_>, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let url = format!("{}/api/purge-cache/v1{path}", self.server.root_url()).parse().expect("a URL");
        self.call_at(who, method, url, body).await
    }

    /// The worker's own client, with credentials that may do everything.
    fn worker(&self) -> Purges {
        let transport = Arc::new(HttpTransport::new(None, true).expect("a transport"));
        let services = Services::new(&self.server.root_url(), transport, Arc::new(SystemClock), Arc::new(SystemRandom));
        let credentials = Credentials { client_id: "root".to_owned(), access_token: Secret::new(TOKEN), certificate: None };
        Purges::new(PurgeCache::new(&services.expect("services"), CredentialsCell::new(credentials)), POOL.to_owned())
    }
}

#[tokio::test]
async fn a_request_reaches_workers_of_its_pool_until_they_have_seen_it() {
    let rig = Rig::start().await;
    let worker = rig.worker();
    assert_eq!(worker.ask(Timestamp::now()).await.expect("an answer"), []);
    let post = async |pool: &str, name: &str| {
        let path = format!("/purge-cache/{pool}");
        rig.purge_cache(As::Root, Method::POST, &path, Some(&json!({ "cacheName": name }))).await.ok()
    };
    let began = rig.server.desk.now();
    post("p%2Fw", "level-1-x").await;
    post("p%2Fother", "level-1-x").await;
    // Signed with its query, which the service checks.
    let seen = worker.ask(Timestamp::now()).await.expect("an answer");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].cache_name, "level-1-x");
    assert!(seen[0].before >= began);
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    worker.ask(later).await.expect("an answer");
    assert_eq!(worker.ask(later).await.expect("an answer"), [], "it is older than what was asked for");

    let first = rig.purge_cache(As::Root, Method::GET, "/purge-cache/list?limit=1", None).await.ok();
    let token = first["continuationToken"].as_str().expect("more").to_owned();
    let next = format!("/purge-cache/list?continuationToken={token}");
    let second = rig.purge_cache(As::Root, Method::GET, &next, None).await.ok();
    let pools = [&first, &second].map(|page| page["requests"][0]["workerType"].clone());
    assert_eq!(pools, [json!("other"), json!("w")]);
    assert!(second.get("continuationToken").is_none());

    // A request that comes in before the next page moves nothing.
    post("p%2Fa", "level-1-x").await;
    let second = rig.purge_cache(As::Root, Method::GET, &next, None).await.ok();
    assert_eq!(second["requests"].as_array().map(Vec::len), Some(1));
    assert_eq!(second["requests"][0]["workerType"], "w");
    let made_up = rig.purge_cache(As::Root, Method::GET, "/purge-cache/list?continuationToken=eA", None).await;
    made_up.refused(400, "InvalidRequestArguments");
}

#[tokio::test]
async fn purge_requests_need_scopes_and_a_form() {
    let rig = Rig::start().await;
    let body = json!({ "cacheName": "c" });
    for (method, path, body) in [
        (Method::POST, "/purge-cache/p%2Fw", Some(&body)),
        (Method::GET, "/purge-cache/p%2Fw", None),
        (Method::GET, "/purge-cache/list", None),
    ] {
        rig.purge_cache(As::Nobody, method, path, body).await.refused(403, "InsufficientScopes");
    }
    let root = async |method, path: &str, body: Option<&Value>| rig.purge_cache(As::Root, method, path, body).await;
    for body in [json!({}), json!({ "cacheName": 1 }), json!({ "cacheName": "c", "more": 1 }), json!([])] {
        root(Method::POST, "/purge-cache/p%2Fw", Some(&body)).await.refused(400, "InputValidationError");
    }
    root(Method::GET, "/purge-cache/p", None).await.refused(400, "InvalidRequestArguments");
    root(Method::GET, "/purge-cache/p%2Fw?since=x", None).await.refused(400, "InvalidRequestArguments");
    root(Method::GET, "/ping", None).await.ok();
}

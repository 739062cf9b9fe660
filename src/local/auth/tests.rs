//! Requests signed by clients that we did not write: `tests/golden/queue_auth.json`, made by the script beside it.

use serde_json::Value;

use super::*;
use crate::{local::endpoint::reached_by, seam::SeededRandom};

fn golden() -> Value {
    serde_json::from_str(include_str!("../../../tests/golden/queue_auth.json")).expect("JSON")
}

fn clients(golden: &Value) -> Clients {
    install();
    let text = |name: &str| golden["client"][name].as_str().expect("a text").to_owned();
    Clients::new(
        (text("clientId"), text("accessToken")),
        Roster::default(),
        &Arc::new(Ledger::memory()),
        Arc::new(SeededRandom::new(1)),
    )
    .expect("clients")
}

fn now(golden: &Value) -> Timestamp {
    Timestamp::from_second(golden["now"].as_i64().expect("a date")).expect("a date")
}

struct Case {
    name: String,
    method: String,
    resource: String,
    host: String,
    port: u16,
    authorization: Option<String>,
}

impl Case {
    fn of(case: &Value) -> Self {
        let text = |name: &str| case[name].as_str().map(str::to_owned);
        let url: http::Uri = case["url"].as_str().expect("a URL").parse().expect("a URL");
        let (host, port) = reached_by(&http::HeaderMap::new(), &url, "http").expect("a host");
        let resource = url.path_and_query().expect("a path").to_string();
        Self {
            name: text("name").expect("a name"),
            method: text("method").expect("a method"),
            resource,
            host,
            port,
            authorization: text("authorization"),
        }
    }

    fn authenticate(&self, clients: &Clients, now: Timestamp) -> Result<Caller, String> {
        let Self { method, resource, host, port, authorization, .. } = self;
        clients.authenticate(now, Signed { method, resource, host, port: *port, authorization: authorization.as_deref() })
    }
}

#[test]
fn what_other_clients_sign_is_accepted_and_means_what_they_say() {
    let golden = golden();
    let clients = clients(&golden);
    for case in golden["cases"].as_array().expect("cases") {
        let name = &case["name"];
        let caller = Case::of(case).authenticate(&clients, now(&golden)).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(caller.name(), case["client"], "{name}");
        let scopes = |key: &str| case[key].as_array().cloned().unwrap_or_default();
        assert!(scopes("has").iter().all(|scope| caller.has(scope.as_str().expect("a scope"))), "{name}");
        assert!(!scopes("hasNot").iter().any(|scope| caller.has(scope.as_str().expect("a scope"))), "{name}");
        assert!(caller.has("queue:status:anything"), "{name}: everybody has the anonymous role");
    }
}

type Change = fn(&mut Case);

#[test]
fn nothing_of_a_signed_request_may_change() {
    let golden = golden();
    let clients = clients(&golden);
    let ways: [(&str, Change); 5] = [
        ("method", |case| case.method = if case.method == "GET" { "POST".into() } else { "GET".into() }),
        ("path", |case| case.resource = case.resource.replacen("/v1/", "/v2/", 1)),
        ("query", |case| case.resource.push_str(if case.resource.contains('?') { "&a=b" } else { "?a=b" })),
        ("host", |case| case.host.push('x')),
        ("port", |case| case.port += 1),
    ];
    for case in golden["cases"].as_array().expect("cases") {
        for (what, change) in ways {
            let mut changed = Case::of(case);
            change(&mut changed);
            assert!(changed.authenticate(&clients, now(&golden)).is_err(), "{}: {what}", changed.name);
        }
        let stranger = Clients::new(
            ("test/root".into(), "another token".into()),
            Roster::default(),
            &Arc::new(Ledger::memory()),
            Arc::new(SeededRandom::new(1)),
        )
        .expect("clients");
        assert!(Case::of(case).authenticate(&stranger, now(&golden)).is_err());
        let nobody = Clients::new(
            ("somebody else".into(), "token".into()),
            Roster::default(),
            &Arc::new(Ledger::memory()),
            Arc::new(SeededRandom::new(1)),
        )
        .expect("clients");
        assert!(Case::of(case).authenticate(&nobody, now(&golden)).is_err_and(|why| why.contains("does not exist")));
    }
}

#[test]
fn dates_are_compared_with_the_server_s_own_clock() {
    let golden = golden();
    let clients = clients(&golden);
    let case = |name: &str| {
        Case::of(golden["cases"].as_array().expect("cases").iter().find(|case| case["name"] == name).expect("a case"))
    };
    let at = |seconds: i64| now(&golden).saturating_add(SignedDuration::from_secs(seconds)).expect("a date");
    for (name, last) in [("plain", 900), ("bewit", 60), ("named", 900)] {
        assert!(case(name).authenticate(&clients, at(last)).is_ok(), "{name}");
        assert!(case(name).authenticate(&clients, at(last + 1)).is_err(), "{name}");
    }
    assert!(case("plain").authenticate(&clients, at(-900)).is_ok());
    assert!(case("plain").authenticate(&clients, at(-901)).is_err());
}

#[test]
fn garbage_is_refused_and_never_panics() {
    let golden = golden();
    let clients = clients(&golden);
    let bewit = |text: &str| format!("/x?bewit={}", base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text));
    let headers = [
        "",
        "Hawk",
        "Hawk ",
        "Bearer abc",
        "Hawk id",
        "Hawk id=\"test/root\"",
        "Hawk id=\"test/root\", ts=\"18446744073709551615\", nonce=\"n\", mac=\"AAAA\"",
        "Hawk id=\"test/root\", ts =  \"99999999999999999\", nonce=\"n\", mac=\"AAAA\"",
        "Hawk id=\"test/root\", ts=\"1900000000\", nonce=\"n\", mac=\"AAAA\", ext=\"bm8=\"",
        "Hawk id=\"test/root\", ts=\"1900000000\", nonce=\"n\", mac=\"AAAA\", ext=\"!!\"",
        "Hawk id=\"test/root\", ts=\"1900000000\", mac=\"AAAA\"",
        "häwk id",
    ];
    let resources = [
        bewit("test/root\\99999999999999999999\\AAAA\\"),
        bewit("test/root\\18446744073709551615\\AAAA\\"),
        bewit("a\\b"),
        "/x?bewit=%".into(),
    ];
    let requests = headers
        .iter()
        .map(|header| ("/x".to_owned(), Some(*header)))
        .chain(resources.into_iter().map(|resource| (resource, None)));
    for (resource, authorization) in requests {
        let request = Signed { method: "GET", resource: &resource, host: "h", port: 80, authorization };
        assert!(clients.authenticate(now(&golden), request).is_err(), "{resource} {authorization:?}");
    }
    let both = Signed { method: "GET", resource: "/x?bewit=a", host: "h", port: 80, authorization: Some("Hawk ") };
    assert!(clients.authenticate(now(&golden), both).is_err());
}

#[test]
fn nobody_hands_out_what_it_does_not_have() {
    let golden = golden();
    let refusal = |name: &str, issuer_has: &[&str]| {
        let mut clients = clients(&golden);
        let issuer = clients.fixed.get_mut("test/root").expect("the client");
        issuer.scopes = issuer_has.iter().map(|&scope| scope.to_owned()).collect();
        let case = golden["cases"].as_array().expect("cases").iter().find(|case| case["name"] == name).expect("a case");
        Case::of(case).authenticate(&clients, now(&golden)).err()
    };
    assert_eq!(refusal("unnamed", &["queue:*"]), None);
    assert!(refusal("unnamed", &["queue:cancel-task:*"]).is_some_and(|why| why.contains("its issuer does not have")));
    assert_eq!(refusal("named", &["queue:*", "auth:create-client:test/*"]), None);
    assert!(refusal("named", &["queue:*"]).is_some_and(|why| why.contains("may not create a client")));
    assert!(refusal("restricted", &["a:c"]).is_some_and(|why| why.contains("authorizedScopes")));
}

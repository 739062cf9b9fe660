//! `tests/golden/hawk_client.json`, made by the script beside it with independent clients.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::api::{Credentials, Secret, hawk};

#[test]
fn signatures_are_those_of_other_clients() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/hawk_client.json")).expect("JSON");
    let now = golden["now"].as_i64().expect("a date");
    let nonce = golden["nonce"].as_str().expect("a nonce");
    let cases = golden["cases"].as_array().expect("cases");
    assert!(cases.len() >= 11);
    for case in cases {
        let name = &case["name"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let credentials = Credentials {
            client_id: text(&case["credentials"]["clientId"]).expect("a client"),
            access_token: Secret::new(text(&case["credentials"]["accessToken"]).expect("a key")),
            certificate: text(&case["credentials"]["certificate"]).map(Secret::new),
        };
        let scopes: Option<Vec<String>> = serde_json::from_value(case["authorizedScopes"].clone()).expect("scopes");
        let ext = hawk::ext(&credentials, scopes.as_deref()).expect("a certificate");
        if case["extObject"].as_object().is_some_and(|object| !object.is_empty()) {
            let object: Value = serde_json::from_slice(&BASE64_STANDARD.decode(&ext).expect("base64")).expect("JSON");
            assert_eq!(object, case["extObject"], "{name}");
        } else {
            assert_eq!(ext, "", "{name}");
        }
        // The same object may be written in several ways, so the signature is compared for the other client's text.
        let their_ext = text(&case["header"]["ext"]).unwrap_or_default();
        let url = reqwest::Url::parse(case["url"].as_str().expect("a URL")).expect("a URL");
        let resource = url.query().map_or(url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let target = hawk::Target {
            method: case["method"].as_str().expect("a method"),
            resource: &resource,
            host: url.host_str().expect("a host"),
            port: url.port_or_known_default().expect("a port"),
        };
        let header = hawk::header(target, &credentials, now, nonce, &their_ext);
        for (field, value) in case["header"].as_object().expect("fields") {
            let wanted = format!("{field}={value}");
            assert!(header.contains(&wanted), "{name}: {wanted} in {header}");
        }
        // Padding says nothing.
        let bewit = case["bewit"].as_str().expect("a bewit").trim_end_matches('=');
        assert_eq!(hawk::bewit(target, &credentials, now + 60, &their_ext), bewit, "{name}");
    }
}

#[test]
fn a_certificate_that_is_no_json_is_an_error_without_its_text() {
    let credentials = Credentials {
        client_id: "c".to_owned(),
        access_token: Secret::new("hush"),
        certificate: Some(Secret::new("{\"signature\": hush")),
    };
    let error = hawk::ext(&credentials, None).expect_err("no JSON");
    assert!(!error.to_string().contains("hush"), "{error}");
    assert!(!format!("{credentials:?}").contains("hush"));
}

//! Who can reach a server, and what it takes to let them. Pure.

use std::net::SocketAddr;

use super::auth::QUEUE_CLIENT;
use crate::api::Secret;

/// Shorter tokens can be guessed by whoever can ask often enough. Tokens of deployments have 44 characters, a slugid has 22.
const SHORTEST_TOKEN: usize = 22;

/// Credentials in the variables that clients read, as far as they are set.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `TASKCLUSTER_CLIENT_ID`
    pub client_id: Option<String>,
    /// `TASKCLUSTER_ACCESS_TOKEN`
    pub access_token: Option<Secret>,
    /// Whether `TASKCLUSTER_CERTIFICATE` is set, which makes the others temporary credentials.
    pub certificate: bool,
}

impl Given {
    /// Credentials that a server can be given, or why these are none.
    pub(crate) fn pair(&self) -> Result<Option<(&str, &Secret)>, String> {
        let client_id = self.client_id.as_deref().filter(|id| !id.is_empty());
        let access_token = self.access_token.as_ref().filter(|token| !token.is_empty());
        match (client_id, access_token) {
            (None, None) => Ok(None),
            (Some(_), None) => Err("TASKCLUSTER_CLIENT_ID is set, TASKCLUSTER_ACCESS_TOKEN is not".to_owned()),
            (None, Some(_)) => Err("TASKCLUSTER_ACCESS_TOKEN is set, TASKCLUSTER_CLIENT_ID is not".to_owned()),
            (Some(_), Some(_)) if self.certificate => {
                Err("TASKCLUSTER_CERTIFICATE is set: the credentials in the environment are temporary ones of another \
                     deployment"
                    .to_owned())
            }
            (Some(QUEUE_CLIENT), Some(_)) => {
                Err(format!("TASKCLUSTER_CLIENT_ID is {QUEUE_CLIENT}, which is the name of the server's own client"))
            }
            (Some(id), Some(token)) => Ok(Some((id, token))),
        }
    }
}

/// Whether a server may listen there, and what people should know if it does.
pub(crate) fn check(listen: SocketAddr, https: bool, given: &Given, clients_file: bool) -> Result<Option<String>, String> {
    if listen.ip().to_canonical().is_loopback() {
        return Ok(None);
    }
    let pair = given.pair().map_err(|why| format!("{listen} can be reached from other machines, and {why}"))?;
    match pair {
        None if !clients_file => {
            return Err(format!(
                "{listen} can be reached from other machines, and nobody said who may do what: set TASKCLUSTER_CLIENT_ID and \
                 TASKCLUSTER_ACCESS_TOKEN, or name a file with --clients"
            ));
        }
        Some((_, token)) if token.expose().len() < SHORTEST_TOKEN => {
            return Err(format!(
                "{listen} can be reached from other machines, and TASKCLUSTER_ACCESS_TOKEN is short enough to be guessed: it has \
                 {} characters, and {SHORTEST_TOKEN} is the least",
                token.expose().len()
            ));
        }
        _ => {}
    }
    let warning = "without --tls-cert everybody on the way can read what is sent, tasks and their credentials included";
    Ok((!https).then(|| format!("{listen} can be reached from other machines; {warning}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(id: &str, token: &str, certificate: bool) -> Given {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Given { client_id: some(id), access_token: some(token).map(Secret::new), certificate }
    }

    #[test]
    fn other_machines_are_let_in_only_with_credentials() {
        let long = "a".repeat(SHORTEST_TOKEN);
        let all = [
            (given("", "", false), false, Some("nobody said")),
            (given("", "", false), true, None),
            (given("me", &long, false), false, None),
            (given("me", &long[1..], false), false, Some("21 characters")),
            (given("me", &long[1..], false), true, Some("21 characters")),
            (given("me", "", false), false, Some("TASKCLUSTER_ACCESS_TOKEN is not")),
            (given("", &long, false), false, Some("TASKCLUSTER_CLIENT_ID is not")),
            (given("me", &long, true), false, Some("TASKCLUSTER_CERTIFICATE")),
            (given(QUEUE_CLIENT, &long, false), true, Some("the server's own client")),
        ];
        for address in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
            let address = address.parse().expect("an address");
            for (given, clients, expected) in &all {
                let checked = check(address, true, given, *clients);
                match expected {
                    None => assert_eq!(checked, Ok(None), "{given:?}"),
                    Some(part) => assert!(checked.as_ref().is_err_and(|why| why.contains(part)), "{given:?}: {checked:?}"),
                }
                assert!(!format!("{checked:?}").contains("aaaa"));
            }
            assert!(check(address, false, &all[2].0, false).is_ok_and(|warning| warning.is_some()));
        }
    }

    #[test]
    fn this_machine_is_let_in_without_a_word() {
        for address in ["127.0.0.1:80", "127.9.9.9:1", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            let address = address.parse().expect("an address");
            assert_eq!(check(address, false, &Given::default(), false), Ok(None));
            assert_eq!(check(address, false, &given("me", "short", true), false), Ok(None));
        }
    }
}

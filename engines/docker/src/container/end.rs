//! Waiting for the end of a container, and what is known about it afterwards.

use std::{collections::HashMap, time::Duration};

use hyper::Method;
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::connection::{Connection, Exchange, Failure};

/// Until when a watch waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The end that follows the next start.
    NextExit,
    /// It does not run; at once if it does not run now.
    NotRunning,
}

/// A question to the engine that is answered when the container ends.
#[derive(Debug)]
pub(crate) struct Watch {
    answer: JoinHandle<Result<i32, Failure>>,
    /// What the answer was, once it was taken.
    said: Option<Result<i32, Failure>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WaitDocument {
    status_code: i64,
}

impl Watch {
    /// Returns when the engine has begun to answer, which it does when it watches: whatever happens from now on is seen.
    pub(crate) async fn begin(
        connection: &Connection,
        bound: Duration,
        container: &str,
        until: Until,
    ) -> Result<Self, Failure> {
        let condition = match until {
            Until::NextExit => "next-exit",
            Until::NotRunning => "not-running",
        };
        let path = format!("/containers/{container}/wait?condition={condition}");
        let exchange = connection.exchange(bound, Method::POST, &path, false).await?;
        Ok(Self { answer: tokio::spawn(answer(exchange)), said: None })
    }

    /// The exit code. May be dropped and called again; it stays what it is.
    pub(crate) async fn exit_code(&mut self) -> Result<i32, Failure> {
        if let Some(said) = &self.said {
            return said.clone();
        }
        let said = match (&mut self.answer).await {
            Ok(answer) => answer,
            Err(error) => Err(Failure::Broken(format!("the task that waits for it ended: {error}"))),
        };
        self.said.insert(said).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

/// Lasts as long as the container runs; the engine's end ends the connection, and that ends this.
async fn answer(exchange: Exchange) -> Result<i32, Failure> {
    let document = exchange.document().await?;
    if document.is_empty() {
        return Err(Failure::Broken("it was closed without an answer".to_owned()));
    }
    let said: WaitDocument = serde_json::from_slice(&document).map_err(|error| Failure::Garbage(error.to_string()))?;
    i32::try_from(said.status_code).map_err(|_| Failure::Garbage(format!("exit code {}", said.status_code)))
}

/// What the engine knows about a container; the part that is of interest, however the rest may look.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Description {
    pub(crate) state: State,
    pub(crate) config: Config,
}

/// How it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub(crate) status: String,
    pub(crate) running: bool,
    #[serde(rename = "OOMKilled")]
    pub(crate) oom_killed: bool,
    pub(crate) exit_code: i64,
}

/// What it was made from.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Config {
    pub(crate) labels: Option<HashMap<String, String>>,
}

impl State {
    /// Whether no process of it is alive.
    pub(crate) fn is_over(&self) -> bool {
        !self.running && !matches!(self.status.as_str(), "" | "running" | "paused" | "restarting" | "stopping")
    }

    /// Whether it was never started.
    pub(crate) fn is_unborn(&self) -> bool {
        !self.running && matches!(self.status.as_str(), "created" | "configured" | "initialized")
    }
}

/// Asks how a container is; by name or id.
pub(crate) async fn describe(connection: &Connection, bound: Duration, container: &str) -> Result<Description, Failure> {
    let document = connection.document(bound, &format!("/containers/{container}/json")).await?;
    serde_json::from_slice(&document).map_err(|error| Failure::Garbage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_over_only_when_that_is_said() {
        let over = |text| serde_json::from_str::<Description>(text).expect("a description").state.is_over();
        assert!(over(r#"{"State":{"Status":"exited","Running":false,"Pid":0},"Config":{"Labels":null}}"#));
        assert!(over(r#"{"State":{"Status":"created"}}"#));
        assert!(!over(r#"{"State":{"Status":"paused","Running":true}}"#));
        assert!(!over(r#"{"State":{"Status":"running"}}"#));
        assert!(!over("{}"), "an answer that says nothing proves nothing");
    }
}

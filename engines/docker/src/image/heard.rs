//! What an engine says to an archive that it was given.

use std::{pin::pin, time::Duration};

use bollard::models::BuildInfo;
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

use super::{
    failure::{self, Refusal},
    feed::STALL,
    flight::Report,
};

/// What the engine said to a load.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The names that it says it loaded.
    pub names: Vec<String>,
    /// What it has against the archive.
    pub failure: Option<(Refusal, String)>,
}

impl Heard {
    /// Nothing more came for this long.
    pub fn stalled(bound: Duration) -> Self {
        let why = format!("the engine said nothing for {} s", bound.as_secs());
        Self { names: Vec::new(), failure: Some((Refusal::Passing, why)) }
    }

    /// Takes a line of the answer. An engine with containerd's store says that an image was loaded, and then that it could not
    /// be unpacked, both as ordinary text.
    fn line(&mut self, text: &str) {
        let text = text.trim();
        if let Some(name) = text.strip_prefix("Loaded image: ").or_else(|| text.strip_prefix("Loaded image ID: ")) {
            if self.names.len() < 16 {
                self.names.push(name.to_owned());
            }
        } else if text.to_lowercase().starts_with("error") && self.failure.is_none() {
            self.failure = Some((failure::about_archive(text), text.chars().take(600).collect()));
        }
    }
}

/// Reads the engine's answer to its end.
pub async fn hear(
    answer: impl Stream<Item = Result<BuildInfo, bollard::errors::Error>>,
    report: &Report,
    shown: &str,
) -> Heard {
    let mut answer = pin!(answer);
    let mut heard = Heard::default();
    // The first item comes when the archive is complete, or refused; feeding it has its own bounds.
    let mut next = answer.next().await;
    while let Some(item) = next {
        match item {
            Ok(info) => {
                if let Some(text) = info.stream {
                    heard.line(&text);
                } else if let (Some(status), Some(detail)) = (info.status, info.progress_detail)
                    && let (Some(current), Some(total)) = (detail.current, detail.total)
                {
                    let status: String = status.chars().filter(|c| !c.is_control()).take(40).collect();
                    report.now(format!(
                        "image {shown}: the engine: {status} {} of {} MB",
                        current / 1_000_000,
                        total / 1_000_000
                    ));
                }
            }
            Err(error) => {
                heard.failure = Some(failure::of_load(&error));
                return heard;
            }
        }
        let Ok(item) = timeout(STALL, answer.next()).await else {
            return Heard { names: heard.names, ..Heard::stalled(STALL) };
        };
        next = item;
    }
    if heard.names.is_empty() && heard.failure.is_none() {
        heard.failure = Some((Refusal::Final, "the engine found no image in it".to_owned()));
    }
    heard
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::*;

    #[test]
    fn answers_of_both_stores_are_understood() {
        let mut heard = Heard::default();
        heard.line("Loaded image: a:b\n");
        assert_eq!((heard.names.as_slice(), &heard.failure), (["a:b".to_owned()].as_slice(), &None));
        heard.line("Error unpacking image a:b: apply layer error for \"a:b\": wrong diff id calculated on extraction\n");
        assert_eq!(heard.failure.as_ref().unwrap().0, Refusal::Final);
        let mut heard = Heard::default();
        heard.line("Loaded image ID: sha256:12\n");
        assert_eq!(heard.names, ["sha256:12"]);
        heard.line("Error unpacking image: write /x: no space left on device");
        assert_eq!(heard.failure.unwrap().0, Refusal::Room);
    }
}

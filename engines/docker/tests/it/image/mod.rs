//! Images on real engines. Which ones is told by `TC_DOCKER_CLASSIC`, `TC_DOCKER_GRAPH` and `TC_DOCKER_CONTAINERD`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod archives;
mod faults;
mod links;
mod loads;
mod pulls;
mod refusals;
mod room;
mod support;

//! Container tasks on real engines.
//!
//! Each semantic that authors rely on is a test on the newest engine with the newest image store (`on_newest!`). What may
//! differ between engines and stores is tested on the two others as well (`on_all!`).

/// Makes a test of an async function of a bench: on the newest engine.
macro_rules! on_newest {
    ($name:ident) => {
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn newest() {
                if let Some(engine) = crate::docker::bench::Engine::newest() {
                    super::$name(crate::docker::bench::Bench::on(engine).await).await;
                }
            }
        }
    };
}

/// Makes a test of an async function of a bench for each engine.
macro_rules! on_all {
    ($name:ident) => {
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn containerd() {
                on("TC_DOCKER_CONTAINERD").await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn graph() {
                on("TC_DOCKER_GRAPH").await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn classic() {
                on("TC_DOCKER_CLASSIC").await;
            }

            async fn on(variable: &str) {
                if let Some(engine) = crate::docker::bench::Engine::by(variable) {
                    super::$name(crate::docker::bench::Bench::on(engine).await).await;
                }
            }
        }
    };
}

mod artifact;
mod bench;
mod cache;
mod capacity;
mod crash;
mod environment;
mod exec;
mod exit_code;
mod hostile;
mod image;
mod limit;
mod log;
mod network;
mod registry;
mod room;
mod settings;
mod spare;
mod terminal;
mod time;
mod user;
mod volume;

//! Containers on the engines that the environment names.

use std::{
    io::Write as _,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use bollard::{
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{
        CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
    },
};
use futures_util::StreamExt as _;
use tempfile::TempDir;

use crate::{Connection, archive::Archive};

/// All engines that there are. Tells about those that are missing.
pub(super) async fn engines(test: &str) -> Vec<Connection> {
    let mut found = Vec::new();
    for variable in ["TC_DOCKER_CLASSIC", "TC_DOCKER_GRAPH", "TC_DOCKER_CONTAINERD"] {
        match std::env::var(variable) {
            Ok(host) => found.push(Connection::open(&host).await.expect("the engine answers")),
            Err(_) => not_run(test, &format!("{variable} names no Docker engine")),
        }
    }
    found
}

fn not_run(test: &str, reason: &str) {
    eprintln!("NOT RUN: {test}: {reason}");
    let Some(told) = std::env::var_os("TC_TESTS_NOT_RUN") else { return };
    let mut told = std::fs::OpenOptions::new().append(true).create(true).open(told).expect("the list of tests not run");
    writeln!(told, "archive::tests::{test}\t{reason}").expect("written");
}

/// A container that has run, and goes with this value.
pub(super) struct Ran {
    pub(super) archive: Archive,
    pub(super) connection: Connection,
    pub(super) id: String,
    spool: TempDir,
}

impl Ran {
    /// Runs a script in a container, with these volumes (`/path`) and binds (`source:target`).
    pub(super) async fn script(connection: &Connection, script: &str, volumes: &[&str], binds: &[String]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tc-test-archive-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let docker = connection.docker();
        let body = ContainerCreateBody {
            image: Some("busybox:latest".to_owned()),
            cmd: Some(["sh", "-e", "-c", script].map(str::to_owned).to_vec()),
            user: Some("0".to_owned()),
            volumes: Some(volumes.iter().map(|path| (*path).to_owned()).collect()),
            labels: Some([("tc-test".to_owned(), "archive".to_owned())].into()),
            network_disabled: Some(true),
            host_config: Some(HostConfig { binds: Some(binds.to_vec()), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let id = docker.create_container(Some(options), body).await.expect("created").id;
        let spool = tempfile::tempdir().expect("a directory");
        let archive = Archive::new(connection.clone(), &id, spool.path());
        let ran = Self { archive, connection: connection.clone(), id, spool };
        docker.start_container(&ran.id, None::<StartContainerOptions>).await.expect("started");
        let ended = docker.wait_container(&ran.id, None::<WaitContainerOptions>).next().await;
        assert!(matches!(ended, Some(Ok(_))), "the script: {ended:?}");
        ran
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.spool.path().to_owned()
    }
}

impl Drop for Ran {
    fn drop(&mut self) {
        let (host, id) = (self.connection.host().to_owned(), self.id.clone());
        // On a runtime of its own: the one of the test may be about to end.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let connection = Connection::open(&host).await.expect("the engine answers");
                let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
                connection.docker().remove_container(&id, Some(options)).await
            })
        });
        let removed = removal.join();
        if !std::thread::panicking() {
            removed.expect("no panic").expect("removed");
        }
    }
}

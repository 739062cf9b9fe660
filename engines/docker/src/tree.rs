//! Deleting a tree that a container has made and this worker may not delete: users of a group that may talk to the engine have
//! no rights over the files of its containers. The engine has, so a container of an image that was just used deletes them.

use std::path::Path;

use bollard::{
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType},
    query_parameters::CreateContainerOptionsBuilder,
};
use tc_engine::{EngineError, Fault};
use tokio::time::Instant;

use crate::{
    container::removal::{self, Patience},
    engine::Shared,
    labels::name_of,
};

/// Where the tree is in the container.
const INSIDE: &str = "/tree";
/// Images that are tried: not each has a program to delete with.
const TRIED: usize = 3;

/// Deletes what is in `path`, with the images of these identifiers. The directory itself stays.
///
/// # Errors
/// When nothing could be run; whether all is gone the caller sees for itself.
pub(crate) async fn empty(shared: &Shared, images: &[String], path: &Path) -> Result<(), EngineError> {
    let refused = |why: &str| EngineError::new(Fault::Worker, format!("delete {} through the engine: {why}", path.display()));
    let source = path.to_str().ok_or_else(|| refused("its name is not UTF-8"))?;
    let mut last = "no image is known that could do it".to_owned();
    for image in images.iter().take(TRIED) {
        // Runs have other names; a sweep finds this one all the same.
        let run = format!("delete-{}-{}", std::process::id(), path.file_name().map_or("tree".into(), |n| n.to_string_lossy()));
        let deadline = Instant::now() + shared.bounds.removal;
        let ended = once(shared, &run, image, source, deadline).await;
        let removed = removal::container(shared, &name_of(&run), deadline).await;
        match ended.and(removed) {
            Ok(()) => return Ok(()),
            Err(why) => last = why,
        }
    }
    Err(refused(&last))
}

/// Runs one container to its end.
async fn once(shared: &Shared, run: &str, image: &str, source: &str, deadline: Instant) -> Result<(), String> {
    let (docker, bounds) = (shared.connection.docker(), &shared.bounds);
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        user: Some("0:0".to_owned()),
        entrypoint: Some(vec!["rm".to_owned()]),
        // The mount itself cannot be removed; everything in it can.
        cmd: Some(["-rf", "--", INSIDE].map(str::to_owned).to_vec()),
        labels: Some(shared.owner.labels(run)),
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            mounts: Some(vec![Mount {
                typ: Some(MountType::BIND),
                source: Some(source.to_owned()),
                target: Some(INSIDE.to_owned()),
                ..Mount::default()
            }]),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let name = name_of(run);
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let created = shared.connection.call(bounds.create, docker.create_container(Some(options), body)).await;
    created.map_err(|failure| failure.to_string())?;
    shared.connection.call(bounds.start, docker.start_container(&name, None)).await.map_err(|failure| failure.to_string())?;
    let mut patience = Patience::until(shared, deadline);
    loop {
        let found = shared.connection.call(bounds.call, docker.inspect_container(&name, None)).await;
        let found = found.map_err(|failure| failure.to_string())?;
        if found.state.is_some_and(|state| state.running == Some(false)) {
            return Ok(());
        }
        if !patience.wait().await {
            return Err("it takes too long".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use super::*;

    /// Engines of the test bed; the integration tests note those that are missing.
    fn hosts() -> Vec<String> {
        let names = ["TC_DOCKER_CLASSIC", "TC_DOCKER_GRAPH", "TC_DOCKER_CONTAINERD"];
        names.iter().filter_map(|name| std::env::var(name).ok().filter(|host| !host.is_empty())).collect()
    }

    /// What a container may have left: hidden files, names that look like options, links that lead out, closed directories.
    fn fill(tree: &Path) {
        let deep = tree.join("data/d/e/f");
        fs::create_dir_all(&deep).expect("directories");
        for name in ["-rf", ".hidden", " ", "new\nline"] {
            fs::write(deep.join(name), "x").expect("a file");
        }
        nix::unistd::mkfifo(&deep.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        std::os::unix::fs::symlink(tree.parent().expect("a parent"), deep.join("out")).expect("a link");
        fs::set_permissions(&deep, fs::Permissions::from_mode(0o000)).expect("closed");
    }

    #[tokio::test]
    async fn what_is_in_a_tree_goes_and_nothing_else() {
        for host in hosts() {
            let owner = crate::OwnerIdentity::new(format!("test/tree-{}", std::process::id()));
            let connection = crate::Connection::open(&host).await.expect("the engine answers");
            let image = connection.docker().inspect_image("busybox:latest").await.expect("it has busybox").id.expect("an id");
            let identity = tc_engine::Identity { uid: 1, gid: 1, groups: Vec::new() };
            let shared =
                Shared { connection, bounds: crate::Bounds::default(), identity, owner, declared: std::sync::Arc::default() };
            let dir = tempfile::tempdir().expect("a directory");
            // To the `docker` command the end of this would be options.
            let tree = dir.path().join("caches:ro,z/trash-1");
            fs::create_dir_all(&tree).expect("a directory");
            fs::write(dir.path().join("beside"), "x").expect("a file");
            fill(&tree);
            // The first image is not there any more, and is passed over.
            let images = [format!("sha256:{}", "0".repeat(64)), image];
            empty(&shared, &images, &tree).await.expect("the engine deletes it");
            assert_eq!(fs::read_dir(&tree).expect("the tree itself stays").count(), 0, "{host}");
            assert!(dir.path().join("beside").exists(), "{host}: links are not followed");
            let left = crate::Connection::open(&host).await.expect("it answers");
            let name = format!("tc-worker.delete-{}-trash-1", std::process::id());
            assert!(left.docker().inspect_container(&name, None).await.is_err(), "{host}: its container is still there");
        }
    }

    #[tokio::test]
    async fn without_an_image_nothing_can_be_deleted_and_that_is_said() {
        let Some(host) = hosts().into_iter().next() else { return };
        let owner = crate::OwnerIdentity::new(format!("test/tree-{}", std::process::id()));
        let connection = crate::Connection::open(&host).await.expect("the engine answers");
        let identity = tc_engine::Identity { uid: 1, gid: 1, groups: Vec::new() };
        let shared =
            Shared { connection, bounds: crate::Bounds::default(), identity, owner, declared: std::sync::Arc::default() };
        let refused = empty(&shared, &[], Path::new("/nowhere")).await.expect_err("no image");
        assert!(refused.message.contains("no image is known"), "{}", refused.message);
    }
}

//! The payload of a container task: what docker-worker accepts, in types.

use std::collections::BTreeMap;

/// What a container task says beyond the parts that all tasks have ([`crate::native::Payload`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Where its image comes from.
    pub image: ImageForm,
    /// Arguments for the image's entry point; empty for what the image runs by itself.
    pub command: Vec<String>,
    /// Writable caches: the path in the container by the cache's name.
    pub caches: BTreeMap<String, String>,
    /// Paths of artifacts of the type `volume`.
    pub volumes: Vec<String>,
    /// What it may do beyond an ordinary container, as far as the pool allows it.
    pub capabilities: Capabilities,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageForm {
    /// From a registry, by name.
    Registry(String),
    /// From the task that the index knows under a name.
    Indexed {
        /// The name in the index.
        namespace: String,
        /// The artifact's name.
        path: String,
    },
    /// From a task.
    Task {
        /// The task.
        task_id: String,
        /// The artifact's name.
        path: String,
    },
}

/// What a container may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the schema describes each")]
pub struct Capabilities {
    pub privileged: bool,
    pub disable_seccomp: bool,
    pub allow_ptrace: bool,
    pub loopback_video: bool,
    pub loopback_audio: bool,
    pub host_shared_memory: bool,
    pub kvm: bool,
}

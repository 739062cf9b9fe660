//! Tests against a real engine with containerd's image store, named by `TC_DOCKER_CONTAINERD`.

mod archives;
mod engine;
mod forms;
mod half;
mod images;
mod made;
mod measure;
mod trees;

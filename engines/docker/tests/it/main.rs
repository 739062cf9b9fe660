//! The Docker engine against real Docker engines.
//!
//! `TC_DOCKER_CLASSIC`, `TC_DOCKER_GRAPH` and `TC_DOCKER_CONTAINERD` say where there is one (20.10, 28.5 with the overlay2
//! graph driver, 28.5 with containerd's store); each needs an image `busybox:latest`. A test runs on all that are given.

mod container;
mod death;
mod ending;
mod faults;
mod image;
mod network;
mod output;
mod places;
mod support;
mod sweeping;
mod volume;

//! The optional parts of a run. One small file each binds a room below to the phases of a run; the order of [`wanted`] is
//! the table that decides over errors and stops.
//!
//! | part | starts in | stops in |
//! |---|---|---|
//! | Docker Image | furnish | return (nothing to do) |
//! | Live Log | furnish | seal |
//! | OS Groups | (checked at admission) | |
//! | Mounts/Caches, or Purge Requests now and then | furnish | return |
//! | parts that come later | (refused at admission) | |
//! | Loopback Audio, Loopback Video | furnish | |
//! | Metadata | furnish | return |
//! | Artifacts | furnish | collect |
//! | Resource Monitor | run | run |
//! | Max Run Time | run | run |

pub mod artifacts;
mod caches;
pub mod image;
pub mod later;
mod live_log;
mod loopback;
mod max_run_time;
mod metadata;
mod os_groups;
mod resource_monitor;
pub mod table;

use self::table::Part;
use crate::run::{
    admit::scope,
    context::RunContext,
    outcome::{Blame, RunError},
};

/// The parts that a run asked for, in table order.
pub fn wanted(cx: &RunContext) -> Vec<Box<dyn Part<RunContext>>> {
    let features = &cx.payload.features;
    let mut parts: Vec<Box<dyn Part<RunContext>>> = Vec::new();
    // First, so that it outranks what it makes fail, and because it takes longest.
    if cx.container.is_some() {
        parts.push(Box::new(image::Image));
    }
    if features.live_log {
        parts.push(Box::new(live_log::LiveLog::default()));
    }
    if !cx.payload.os_groups.is_empty() {
        parts.push(Box::new(os_groups::OsGroups));
    }
    if cx.container.as_ref().is_some_and(|container| !container.caches.is_empty()) {
        parts.push(Box::new(caches::Caches::default()));
    } else if cx.shop.purges.is_due(cx.shop.clock.wall()) {
        parts.push(Box::new(caches::PurgeRequests));
    }
    parts.extend(later::wanted(cx));
    if let Some(container) = &cx.container {
        let (config, can) = (&cx.shop.config, container.capabilities);
        if can.loopback_audio {
            parts.push(Box::new(loopback::Loopback::Audio(config.loopback_audio_device_number)));
        }
        if can.loopback_video {
            parts.push(Box::new(loopback::Loopback::Video(config.loopback_video_device_number)));
        }
    }
    if cx.shop.config.enable_metadata {
        parts.push(Box::new(metadata::Metadata));
    }
    if !cx.payload.artifacts.is_empty() {
        parts.push(Box::new(artifacts::Artifacts));
    }
    if features.resource_monitor {
        parts.push(Box::new(resource_monitor::ResourceMonitor::default()));
    }
    parts.push(Box::new(max_run_time::MaxRunTime::default()));
    parts
}

/// The error for a part that the pool's configuration switches off.
fn switched_off(cx: &RunContext, name: &str) -> RunError {
    let config = &cx.shop.config;
    let pool = format!("{}/{}", config.provisioner_id, config.worker_type);
    RunError::new(
        Blame::Payload,
        format!(
            "this task is attempting to use feature {name:?}, but it's not enabled on this worker pool ({pool}). \
             Its configuration is at {}/worker-manager/{}",
            config.root_url.trim_end_matches('/'),
            pool.replace('/', "%2F")
        ),
    )
}

/// Checks that the task has all `required` scopes; the error names all of them and all that it has.
fn require_scopes(cx: &RunContext, feature: &str, required: &[String]) -> Result<(), RunError> {
    let scopes = cx.scopes();
    if required.iter().all(|scope| scope::satisfied(scopes, scope)) {
        return Ok(());
    }
    let given = scope::listed(scopes);
    Err(RunError::new(
        Blame::Payload,
        format!(
            "Feature {feature:?} requires scopes:\n\n{}\n\nbut task only has scopes:\n\n{given}\n\n\
             You probably should add some scopes to your task definition",
            required.join(" and ")
        ),
    ))
}

//! Volumes: those that have names, and those that an image declares (`VOLUME`), which start empty and belong to whom the image says.
//!
//! By itself an engine makes a volume for each that is declared, copies what the image has at that place into it, and gives it the
//! owner and mode of that place. Where the image has an empty directory or nothing, that is what is wanted, and costs nothing. Where it
//! has files, the volume is asked for without the copy, which leaves it to root, and owner and mode are put back.
//!
//! ```text
//! image inspected anyway ─▶ declares none ──────────────────────────────▶ nothing to do
//!                       └─▶ declares some ─▶ looked at, once per image ─┬▶ empty there: the engine's own way
//!                                                                       └▶ files there: [`Covered`], then [`settle`]
//! ```
//!
//! The look is one at a container that is never started, in which memory file systems take the places of the volumes: the
//! engine then makes none, and its archives do not show those file systems but what the image has below. It is removed before
//! the container of the run is made, whose name it has, so whatever removes that one removes it, too.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bollard::{
    body_full,
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, ImageInspect, Mount, MountType, VolumeCreateRequest},
    query_parameters::UploadToContainerOptionsBuilder,
};
use tc_engine::{ContainerPlan, EngineError, Fault};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::{
    birth::{self, Birth},
    refusal::Refusal,
    removal,
};
use crate::{
    archive::{Archive, clean, tar::Owner},
    connection::Failure,
    engine::Shared,
    image::tar::{BLOCK_BYTES, write},
    labels::{name_of, volume_of},
};

/// As many images are remembered; more than that are not in use at a time.
const IMAGES: usize = 256;
/// As often is the engine asked for something before its silence is believed.
const ATTEMPTS: u32 = 3;
/// How a volume is that nothing was copied into.
const BARE: Owner = Owner { uid: 0, gid: 0, mode: 0o755 };
/// Longest name that fits into a header.
const NAME_BYTES: usize = 100;

/// A place where the image has files that the volume must not begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Covered {
    /// As the image declares it, cleaned.
    pub(crate) target: String,
    /// Where that is.
    path: String,
    owner: Owner,
}

/// What is known about the volumes of an image.
#[derive(Debug, Clone, Default)]
struct Row {
    /// Cleaned paths.
    paths: Arc<[String]>,
    /// Those with files below; none while nobody has looked.
    covered: Option<Arc<[Covered]>>,
}

/// What is known about the volumes of images, by their identifiers.
#[derive(Debug, Default)]
pub(crate) struct Declared(Mutex<BTreeMap<String, Row>>);

impl Declared {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what an image declares.
    pub(crate) fn note(&self, image: &ImageInspect) {
        let Some(id) = &image.id else { return };
        let mut rows = self.rows();
        if rows.contains_key(id) {
            return;
        }
        if rows.len() >= IMAGES {
            rows.pop_first();
        }
        let volumes = image.config.as_ref().and_then(|config| config.volumes.as_deref()).unwrap_or_default();
        rows.insert(id.clone(), Row { paths: places(volumes), covered: None });
    }

    fn of(&self, id: &str) -> Option<Row> {
        self.rows().get(id).cloned()
    }

    fn learn(&self, id: &str, covered: Vec<Covered>) {
        if let Some(row) = self.rows().get_mut(id) {
            row.covered = Some(covered.into());
        }
    }

    /// From now on the engine's own way is taken where owners would have to be set.
    fn give_up(&self, id: &str) {
        if let Some(covered) = self.rows().get_mut(id).and_then(|row| row.covered.as_mut()) {
            *covered = covered.iter().filter(|covered| covered.owner == BARE).cloned().collect();
        }
    }
}

/// Where volumes will be. An engine cannot be asked for one at a relative path, nor at the root; such ones are left to it.
fn places(volumes: &[String]) -> Arc<[String]> {
    let mut places: Vec<_> = volumes.iter().filter(|path| path.starts_with('/')).map(|path| clean(path)).collect();
    places.retain(|path| path != "/");
    places.sort_unstable();
    places.dedup();
    places.into()
}

/// Whether the plan has something of its own at this place.
fn is_taken(plan: &ContainerPlan, place: &str) -> bool {
    let mut targets = plan.binds.iter().map(|bind| &bind.target).chain(&plan.volumes);
    targets.any(|target| clean(target) == place)
}

/// The volumes of the plan's image that have to be asked for, since the image has files there.
///
/// # Errors
/// [`Fault::Lost`] when the engine went away. There may be a container of the run's name then.
pub(crate) async fn covered(
    shared: &Shared,
    run: &str,
    plan: &ContainerPlan,
    spool: &Path,
) -> Result<Vec<Covered>, EngineError> {
    let declared = &shared.declared;
    if declared.of(&plan.image).is_none() {
        // It was looked at so long ago that it is forgotten.
        let ask = || shared.connection.call(shared.bounds.call, shared.connection.docker().inspect_image(&plan.image));
        match steadily(ask).await {
            Ok(image) => declared.note(&ImageInspect { id: Some(plan.image.clone()), ..image }),
            // What is wrong shows when the container is created.
            Err(Failure::Answer { .. }) => return Ok(Vec::new()),
            Err(failure) => return Err(failure.because(Fault::Lost, "look at the image")),
        }
    }
    let Row { paths, covered } = declared.of(&plan.image).unwrap_or_default();
    if paths.iter().all(|place| is_taken(plan, place)) {
        return Ok(Vec::new());
    }
    let covered = match covered {
        Some(covered) => covered.to_vec(),
        None => look(shared, run, &plan.image, &paths, spool).await?,
    };
    Ok(covered.into_iter().filter(|covered| !is_taken(plan, &covered.target)).collect())
}

/// Asks again when there was no answer. What is asked for may happen twice.
async fn steadily<T, F: Future<Output = Result<T, Failure>>>(ask: impl Fn() -> F) -> Result<T, Failure> {
    let mut came = ask().await;
    for _ in 1..ATTEMPTS {
        if matches!(came, Ok(_) | Err(Failure::Answer { .. })) {
            break;
        }
        came = ask().await;
    }
    came
}

/// Makes the volumes of a run that have names. An engine would make them together with the container, but not every one puts
/// the labels on them by which they are found later (Podman 5.8 does not). Returns what the engine has against one.
///
/// # Errors
/// [`Fault::Lost`] when the engine went away. Volumes may have been made then.
pub(crate) async fn named(shared: &Shared, run: &str, plan: &ContainerPlan) -> Result<Option<Refusal>, EngineError> {
    for position in 0..plan.volumes.len() {
        let make = || {
            let (name, labels) = (Some(volume_of(run, position)), Some(shared.owner.labels(run)));
            let request = VolumeCreateRequest { name, labels, ..VolumeCreateRequest::default() };
            shared.connection.call(shared.bounds.create, shared.connection.docker().create_volume(request))
        };
        match steadily(make).await {
            Ok(_) => {}
            Err(Failure::Answer { message, .. }) => return Ok(Some(Refusal::new(&message))),
            Err(failure) => return Err(failure.because(Fault::Lost, "make a volume")),
        }
    }
    Ok(None)
}

/// Looks what an image has where its volumes will be.
async fn look(shared: &Shared, run: &str, image: &str, paths: &[String], spool: &Path) -> Result<Vec<Covered>, EngineError> {
    let body = bare(image, paths, shared, run);
    let id = match birth::create(shared, run, &body).await? {
        Birth::Created(id) => id,
        // The container of the run is refused as well, and its author reads why; or it is not, and this one was odd.
        Birth::Refused(refusal) => {
            warn!("The volumes of image {image} are left to the engine: {}", refusal.line.trim_end());
            return Ok(Vec::new());
        }
    };
    let archive = Archive::new(shared.connection.clone(), &id, spool);
    let looked = async {
        let mut covered = Vec::new();
        for target in paths {
            if let Some(found) = archive.directory(target).await?
                && !found.is_empty
            {
                covered.push(Covered { target: target.clone(), path: found.path, owner: found.owner });
            }
        }
        Ok::<_, Failure>(covered)
    };
    let bound = shared.bounds.create;
    let looked = timeout(bound, looked).await.unwrap_or(Err(Failure::TimedOut(bound)));
    let removed = removal::container(shared, &name_of(run), Instant::now() + shared.bounds.kill).await;
    let covered = match looked {
        Ok(covered) => covered,
        Err(failure @ Failure::Answer { .. }) => {
            warn!("The volumes of image {image} are left to the engine, which does not show what is there: {failure}");
            Vec::new()
        }
        Err(failure) => return Err(failure.because(Fault::Lost, "look at the volumes of the image")),
    };
    removed.map_err(|left| EngineError::new(Fault::Lost, format!("look at the volumes of the image: {left}")))?;
    shared.declared.learn(image, covered.clone());
    Ok(covered)
}

/// A container that is never started and has no volumes.
fn bare(image: &str, paths: &[String], shared: &Shared, run: &str) -> ContainerCreateBody {
    let mounts = paths.iter().map(|path| Mount { typ: Some(MountType::TMPFS), target: Some(path.clone()), ..Mount::default() });
    ContainerCreateBody {
        image: Some(image.to_owned()),
        // An image need not have one.
        cmd: Some(vec!["true".to_owned()]),
        labels: Some(shared.owner.labels(run)),
        host_config: Some(HostConfig {
            mounts: Some(mounts.collect()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Gives the volumes of a container that was just made to their owners. False if the engine does not do it: the container is
/// of no use then, and those volumes have to be left to the engine, now and later.
///
/// # Errors
/// [`Fault::Lost`] when the engine went away.
pub(crate) async fn settle(shared: &Shared, image: &str, id: &str, covered: &mut Vec<Covered>) -> Result<bool, EngineError> {
    let owned: Vec<&Covered> = covered.iter().filter(|covered| covered.owner != BARE).collect();
    if owned.is_empty() {
        return Ok(true);
    }
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    let docker = shared.connection.docker();
    let uploaded = docker.upload_to_container(id, Some(options), body_full(archive(&owned).into()));
    match shared.connection.call(shared.bounds.create, uploaded).await {
        Ok(()) => Ok(true),
        Err(failure @ Failure::Answer { .. }) => {
            warn!("Volumes of image {image} begin with what is in the image, as their owners cannot be set: {failure}");
            covered.retain(|covered| covered.owner == BARE);
            shared.declared.give_up(image);
            Ok(false)
        }
        Err(failure) => Err(failure.because(Fault::Lost, "set the owners of volumes")),
    }
}

/// An archive of directories that have nothing but owners and modes.
fn archive(covered: &[&Covered]) -> Vec<u8> {
    let mut archive = Vec::new();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for Covered { path, owner, .. } in covered {
        let name = format!("{}/", path.trim_start_matches('/'));
        if name.len() > NAME_BYTES {
            let mut long = write::file_header("././@LongLink", name.len() as u64 + 1);
            long[156] = b'L';
            write::seal(&mut long);
            archive.extend_from_slice(&long);
            archive.extend_from_slice(name.as_bytes());
            archive.resize((archive.len() + 1).next_multiple_of(BLOCK_BYTES), 0);
        }
        let mut header = write::file_header(&name, 0);
        header[100..108].copy_from_slice(format!("{:07o}\0", owner.mode).as_bytes());
        header[108..116].copy_from_slice(&identifier(owner.uid));
        header[116..124].copy_from_slice(&identifier(owner.gid));
        header[136..147].copy_from_slice(format!("{:011o}", now & 0o77_777_777_777).as_bytes());
        header[156] = b'5';
        write::seal(&mut header);
        archive.extend_from_slice(&header);
    }
    archive.extend_from_slice(&write::END);
    archive
}

/// What has too many octal digits is written in base 256.
fn identifier(number: u64) -> [u8; 8] {
    let octal = format!("{number:07o}\0");
    octal.as_bytes().try_into().unwrap_or_else(|_| {
        let mut bytes = number.to_be_bytes();
        bytes[0] = 0x80;
        bytes
    })
}

#[cfg(test)]
mod tests {
    use bollard::models::ImageConfig;
    use tc_engine::Bind;

    use super::*;
    use crate::archive::tar::{Event, Kind, Tar};

    fn image(id: &str, volumes: &[&str]) -> ImageInspect {
        let volumes = Some(volumes.iter().map(|path| (*path).to_owned()).collect());
        let config = Some(ImageConfig { volumes, ..ImageConfig::default() });
        ImageInspect { id: Some(id.to_owned()), config, ..ImageInspect::default() }
    }

    fn covered(target: &str, path: &str, owner: Owner) -> Covered {
        Covered { target: target.to_owned(), path: path.to_owned(), owner }
    }

    #[test]
    fn places_are_what_an_engine_makes_of_them() {
        let declared = Declared::default();
        declared.note(&image("i", &["/b/", "/a", "/b", "/c/../d", "relative", "/", "/.."]));
        assert_eq!(*declared.of("i").expect("noted").paths, ["/a", "/b", "/d"]);
        let plan = ContainerPlan {
            binds: vec![Bind { source: "/s".into(), target: "/b/".into() }],
            volumes: vec!["/d".into()],
            ..ContainerPlan::default()
        };
        assert!(is_taken(&plan, "/b") && is_taken(&plan, "/d") && !is_taken(&plan, "/a"));
    }

    #[test]
    fn what_was_learned_stays_and_is_bounded() {
        let declared = Declared::default();
        let (bare, owned) = (covered("/a", "/a", BARE), covered("/b", "/b", Owner { uid: 1, ..BARE }));
        declared.note(&image("i", &["/a", "/b"]));
        declared.learn("i", vec![bare.clone(), owned]);
        declared.note(&image("i", &["/a", "/b"]));
        assert_eq!(declared.of("i").and_then(|row| row.covered).map(|covered| covered.len()), Some(2));
        declared.give_up("i");
        assert_eq!(declared.of("i").and_then(|row| row.covered).as_deref(), Some(&[bare][..]));
        for number in 0..2 * IMAGES {
            declared.note(&image(&number.to_string(), &[]));
        }
        assert_eq!(declared.rows().len(), IMAGES);
    }

    #[test]
    fn owners_survive_the_archive() {
        let long = format!("/{}", "deep/".repeat(40).trim_end_matches('/'));
        let owners = [
            covered("/v", "/v", Owner { uid: 1000, gid: 3_000_000_000, mode: 0o1777 }),
            covered("/l", &long, Owner { uid: 0, gid: 5, mode: 0o2750 }),
            covered("/w", "/w/x", Owner { uid: 1, gid: 2, mode: 0 }),
        ];
        let mut tar = Tar::new();
        tar.feed(archive(&owners.iter().collect::<Vec<_>>()).into());
        for Covered { path, owner, .. } in owners {
            let Ok(Some(Event::Entry(item))) = tar.next() else { panic!("{path} is missing") };
            assert_eq!((item.name, item.kind), (format!("{}/", &path[1..]).into_bytes(), Kind::Directory));
            assert_eq!(tar.owner(), Some(owner));
        }
        assert_eq!(tar.next(), Ok(Some(Event::End)));
    }
}

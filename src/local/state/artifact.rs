//! Artifacts on the books: what may be created, and what may replace what.

use std::{
    collections::BTreeMap,
    ops::Bound,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, Serializer};

use super::{Alarm, Change, Effect, Refusal, RunState, State, TaskId, no_task};

/// How long an artifact may still be created after its run was resolved as an exception: a worker may report first and upload after.
const GRACE: SignedDuration = SignedDuration::from_mins(25);
/// How far in the past an expiry may lie, because clocks differ.
const DRIFT: SignedDuration = SignedDuration::from_mins(15);

/// Bytes that were uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// The file that holds them. Its name is kept: where the store is may change from one start to the next.
    #[serde(serialize_with = "file_name")]
    pub path: PathBuf,
    /// How many.
    pub bytes: u64,
    /// `Content-Encoding` of the upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
}

fn file_name<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.file_name().unwrap_or_default().to_string_lossy())
}

/// Where an artifact's content is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Storage {
    /// In our store; nothing there before the upload has ended.
    S3 {
        /// What the worker says the length is before any encoding.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_length: Option<u64>,
        /// What was uploaded last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stored: Option<Stored>,
    },
    /// In the object service.
    Object {
        /// The project that the object belongs to.
        project_id: String,
        /// What its uploader has to know.
        upload_id: String,
        /// What the worker says the length is.
        content_length: Option<u64>,
        /// Whether the worker has said that it is all there.
        finished: bool,
    },
    /// Somewhere else.
    Reference {
        /// Where.
        url: String,
    },
    /// In another artifact of the same run.
    Link {
        /// Its name.
        artifact: String,
    },
    /// Nowhere.
    Error {
        /// A word for the reason.
        reason: String,
        /// A sentence for people.
        message: String,
    },
}

impl Storage {
    /// `storageType`
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::S3 { .. } => "s3",
            Self::Object { .. } => "object",
            Self::Reference { .. } => "reference",
            Self::Link { .. } => "link",
            Self::Error { .. } => "error",
        }
    }

    /// Whether a later createArtifact call may put `new` in the place of this. An upload survives a repeated call, a reference may change, or
    /// become a link.
    fn may_become(&self, new: &Self) -> bool {
        match (self, new) {
            (Self::S3 { .. }, Self::S3 { .. })
            | (Self::Object { .. }, Self::Object { .. })
            | (Self::Reference { .. }, Self::Reference { .. } | Self::Link { .. }) => true,
            (Self::Link { .. }, Self::Link { .. }) | (Self::Error { .. }, Self::Error { .. }) => self == new,
            _ => false,
        }
    }
}

/// What createArtifact is asked for.
#[derive(Debug, Clone)]
pub struct NewArtifact {
    /// `contentType`, or the queue's default.
    pub content_type: String,
    /// `expires`
    pub expires: Timestamp,
    /// The rest, by `storageType`.
    pub storage: Storage,
}

/// An artifact of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// `contentType`
    pub content_type: String,
    /// `expires`
    pub expires: Timestamp,
    /// The rest, by `storageType`.
    pub storage: Storage,
}

/// All artifacts of a task.
#[derive(Debug, Default)]
pub(super) struct Artifacts(BTreeMap<u32, BTreeMap<String, Artifact>>);

impl Artifacts {
    pub(super) fn get(&self, run_id: u32, name: &str) -> Option<&Artifact> {
        self.0.get(&run_id)?.get(name)
    }

    /// Whether one of these expires then.
    fn any_expires(&self, when: Timestamp) -> bool {
        self.0.values().flat_map(BTreeMap::values).any(|artifact| artifact.expires == when)
    }

    /// Takes out all that have expired, and says whose names these were.
    fn take_expired(&mut self, now: Timestamp) -> Vec<(u32, String, Artifact)> {
        let mut taken = Vec::new();
        for (run_id, of_run) in &mut self.0 {
            let expired = of_run.iter().filter(|(_, artifact)| artifact.expires <= now);
            let names: Vec<String> = expired.map(|(name, _)| name.clone()).collect();
            taken.extend(names.iter().filter_map(|name| of_run.remove_entry(name)).map(|(name, one)| (*run_id, name, one)));
        }
        self.0.retain(|_, of_run| !of_run.is_empty());
        taken
    }

    /// Puts one there that was kept.
    pub(super) fn insert(&mut self, run_id: u32, name: String, artifact: Artifact) {
        self.0.entry(run_id).or_default().insert(name, artifact);
    }

    /// Runs and names of all.
    pub(super) fn names(&self) -> impl Iterator<Item = (u32, &str)> {
        self.0.iter().flat_map(|(run_id, of_run)| of_run.keys().map(|name| (*run_id, name.as_str())))
    }

    /// Everything in the store that belongs to these artifacts.
    pub(super) fn into_stored(self) -> impl Iterator<Item = Stored> {
        self.0.into_values().flat_map(BTreeMap::into_values).filter_map(|artifact| match artifact.storage {
            Storage::S3 { stored, .. } => stored,
            _ => None,
        })
    }
}

impl State {
    /// Creates an artifact, or replaces one by what the rules let take its place.
    pub fn create_artifact(
        &mut self,
        now: Timestamp,
        id: TaskId,
        run_id: u32,
        name: &str,
        new: NewArtifact,
    ) -> Result<Artifact, Refusal> {
        self.advance(now);
        if new.expires < now.saturating_sub(DRIFT).unwrap_or(now) {
            return Err(Refusal::Input(format!("artifact \"{name}\" expires in the past, at {:.3}", new.expires)));
        }
        let input = |what: String| Refusal::Input(what);
        let task = self.tasks.artifacts_mut(&id, run_id, name).ok_or_else(|| input(format!("task {id} does not exist")))?;
        let run = task.runs.get(run_id as usize).ok_or_else(|| input(format!("task {id} has no run {run_id}")))?;
        if run.hold.is_none() {
            return Err(input(format!("run {run_id} of task {id} was not claimed by a worker, so it has no artifacts")));
        }
        if new.expires > task.definition.expires {
            return Err(input(format!(
                "artifact \"{name}\" expires at {:.3}, after its task, which expires at {:.3}",
                new.expires, task.definition.expires
            )));
        }
        let open = match (run.state, &run.resolved) {
            (RunState::Running, _) => true,
            (RunState::Exception, Some((_, at))) => at.saturating_add(GRACE).is_ok_and(|end| now < end),
            _ => false,
        };
        if !open {
            return Err(Refusal::Conflict(format!(
                "run {run_id} of task {id} is {}: artifacts are accepted while it is running and for 25 minutes after an exception",
                run.state.as_str()
            )));
        }
        let of_run = task.artifacts.0.entry(run_id).or_default();
        let mut made = Artifact { content_type: new.content_type, expires: new.expires, storage: new.storage };
        if let Some(known) = of_run.get(name) {
            // A link takes no content type of its own, so it cannot contradict one.
            let is_link = matches!(made.storage, Storage::Link { .. });
            let same_type = is_link || known.content_type == made.content_type;
            if !same_type || made.expires < known.expires || !known.storage.may_become(&made.storage) {
                return Err(Refusal::Conflict(format!(
                    "artifact \"{name}\" of run {run_id} of task {id} exists with other properties: it is of type {}, has content type \"{}\" \
                     and expires at {:.3}",
                    known.storage.type_name(),
                    known.content_type,
                    known.expires
                )));
            }
            if let (Storage::S3 { stored: old, .. }, Storage::S3 { stored, .. }) = (&known.storage, &mut made.storage) {
                stored.clone_from(old);
            }
            if let (Storage::Object { upload_id: old, finished: was, .. }, Storage::Object { upload_id, finished, .. }) =
                (&known.storage, &mut made.storage)
            {
                upload_id.clone_from(old);
                *finished = *was;
            }
            if is_link {
                made.content_type.clone_from(&known.content_type);
            }
        }
        let task_expires = task.definition.expires;
        let before = of_run.insert(name.to_owned(), made.clone()).map(|before| before.expires);
        if let Some(before) = before.filter(|before| !task.artifacts.any_expires(*before)) {
            self.alarms.remove(&(before, id, Alarm::Artifacts));
        }
        // Most live as long as their task, and go with it.
        if made.expires < task_expires {
            self.alarms.insert((made.expires, id, Alarm::Artifacts));
        }
        Ok(made)
    }

    /// Removes the artifacts of a task that have expired before it.
    pub(super) fn forget_artifacts(&mut self, now: Timestamp, id: TaskId) {
        let Some(task) = self.tasks.get_mut_unnoted(&id) else { return };
        for (run_id, name, artifact) in task.artifacts.take_expired(now) {
            self.alarms.remove(&(artifact.expires, id, Alarm::Artifacts));
            self.tasks.note(|| Change::Artifact(id, run_id, name.into()));
            if let Storage::S3 { stored: Some(stored), .. } = artifact.storage {
                self.effects.push(Effect::Unstored(stored));
            }
        }
    }

    /// The artifact of that name.
    pub fn artifact(&mut self, now: Timestamp, id: TaskId, run_id: u32, name: &str) -> Result<Artifact, Refusal> {
        self.advance(now);
        let missing = || Refusal::NotFound(format!("run {run_id} of task {id} has no artifact \"{name}\", or it has expired"));
        let task = self.tasks.get(&id).ok_or_else(|| no_task(id))?;
        task.artifacts.get(run_id, name).cloned().ok_or_else(missing)
    }

    /// The id of the task's last run.
    pub fn latest_run(&mut self, now: Timestamp, id: TaskId) -> Result<u32, Refusal> {
        self.advance(now);
        let task = self.tasks.get(&id).ok_or_else(|| no_task(id))?;
        let last = task.runs.len().checked_sub(1).ok_or_else(|| Refusal::NotFound(format!("task {id} has no runs yet")))?;
        Ok(u32::try_from(last).unwrap_or(u32::MAX))
    }

    /// A run's artifacts in the order of their names, at most `limit` of those that come after `after`.
    pub fn artifacts(
        &mut self,
        now: Timestamp,
        id: TaskId,
        run_id: u32,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Artifact)>, Refusal> {
        self.advance(now);
        let task = self.tasks.get(&id).ok_or_else(|| no_task(id))?;
        if run_id as usize >= task.runs.len() {
            return Err(Refusal::NotFound(format!("task {id} has no run {run_id}")));
        }
        let Some(of_run) = task.artifacts.0.get(&run_id) else { return Ok(Vec::new()) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = of_run.range::<str, _>((from, Bound::Unbounded)).take(limit);
        Ok(page.map(|(name, artifact)| (name.clone(), artifact.clone())).collect())
    }

    /// The worker says that the object is all there. Repeating it changes nothing.
    pub fn finish_artifact(&mut self, now: Timestamp, id: TaskId, run_id: u32, name: &str, with: &str) -> Result<(), Refusal> {
        let known = self.artifact(now, id, run_id, name)?;
        let Storage::Object { upload_id, .. } = &known.storage else {
            let kind = known.storage.type_name();
            return Err(Refusal::Input(format!("artifact \"{name}\" is of type {kind}, which is not finished by a call")));
        };
        if upload_id != with {
            return Err(Refusal::Input(format!("artifact \"{name}\" is being uploaded with another uploadId")));
        }
        let task = self.tasks.artifacts_mut(&id, run_id, name);
        let slot = task.and_then(|task| task.artifacts.0.get_mut(&run_id)).and_then(|of_run| of_run.get_mut(name));
        if let Some(Artifact { storage: Storage::Object { finished, .. }, .. }) = slot {
            *finished = true;
        }
        Ok(())
    }

    /// Notes what was uploaded. What it replaces leaves as an effect, and so does the upload itself if its artifact is gone.
    pub fn stored(&mut self, now: Timestamp, id: TaskId, run_id: u32, name: &str, upload: Stored) -> Result<(), Refusal> {
        self.advance(now);
        let slot = self
            .tasks
            .artifacts_mut(&id, run_id, name)
            .and_then(|task| task.artifacts.0.get_mut(&run_id))
            .and_then(|of_run| of_run.get_mut(name));
        let Some(Artifact { storage: Storage::S3 { stored, .. }, .. }) = slot else {
            self.effects.push(Effect::Unstored(upload));
            return Err(Refusal::NotFound(format!("run {run_id} of task {id} has no artifact \"{name}\" to store")));
        };
        self.effects.extend(stored.replace(upload).map(Effect::Unstored));
        Ok(())
    }
}

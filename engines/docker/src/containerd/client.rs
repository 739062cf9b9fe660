//! containerd's API through its Unix socket: one method for each call that is needed, each with a bound.

use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::message::{
    AddResource, COMMIT, Commit, Content, CreateLease, DeleteLease, Descriptor, FieldMask, GetImage, Image, Images, Info,
    Infos, Labels, Leases, List, Mount, Mounts, Nothing, OneImage, Prepare, ReadContent, Resource, Snapshot, UpdateContent,
    Usage, WriteContent,
};

/// The snapshotter whose directories are written here, and the one that Docker uses unless told otherwise.
pub(super) const SNAPSHOTTER: &str = "overlayfs";

/// Longest that a call may take. Committing a snapshot walks through its files, and removal of garbage deletes them.
const CALL_BOUND: Duration = Duration::from_secs(180);
/// Longest that connecting may take.
const CONNECT_BOUND: Duration = Duration::from_secs(5);
/// Most that is read of an object that is held in memory, such as an image's configuration.
const OBJECT_BYTES: usize = 4 << 20;
/// Most objects of the content store that are looked at.
const OBJECTS: usize = 20_000;

/// A way to containerd for one namespace, perhaps under a lease. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Client {
    grpc: Grpc<Channel>,
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

/// What was wrong with a call: containerd's own words and the kind of the error.
#[derive(Debug, thiserror::Error)]
#[error("containerd: {what}: {message}")]
pub(super) struct CallError {
    what: &'static str,
    code: Code,
    message: String,
}

impl CallError {
    fn new(what: &'static str, status: &Status) -> Self {
        Self { what, code: status.code(), message: status.message().chars().take(500).collect() }
    }

    /// Whether the named object is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.code == Code::NotFound
    }

    /// Whether the object is there already.
    pub(super) fn is_duplicate(&self) -> bool {
        self.code == Code::AlreadyExists
    }
}

type Answer<T> = Result<T, CallError>;

impl Client {
    /// Connects to the socket at an absolute path.
    pub(super) async fn connect(socket: &str, namespace: &str) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(format!("unix://{socket}"))
            .map_err(|error| format!("containerd's address {socket:?}: {error}"))?
            .connect_timeout(CONNECT_BOUND);
        let connected = tokio::time::timeout(CONNECT_BOUND, endpoint.connect()).await;
        let channel = connected
            .map_err(|_| format!("connect to containerd at {socket}: no answer"))?
            .map_err(|error| format!("connect to containerd at {socket}: {error}"))?;
        let namespace = namespace.parse().map_err(|_| format!("containerd's namespace {namespace:?} is no header"))?;
        Ok(Self { grpc: Grpc::new(channel).max_decoding_message_size(OBJECT_BYTES * 2), namespace, lease: None })
    }

    /// The same way, on which everything that is made or touched belongs to a lease.
    pub(super) fn under(&self, lease: &str) -> Self {
        Self { lease: lease.parse().ok(), ..self.clone() }
    }

    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            request.metadata_mut().insert("containerd-lease", lease.clone());
        }
        request
    }

    async fn call<Q, R>(&self, path: &'static str, message: Q) -> Answer<R>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let mut grpc = self.grpc.clone();
        let called = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            grpc.unary(self.request(message), PathAndQuery::from_static(path), ProstCodec::default()).await
        };
        bounded(path, called).await.map(tonic::Response::into_inner)
    }

    /// A call with a stream of answers, each of which is given to `take` until it wants no more.
    async fn collect<Q, R>(&self, path: &'static str, message: Q, mut take: impl FnMut(R) -> bool) -> Answer<()>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let mut grpc = self.grpc.clone();
        let called = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let request = self.request(message);
            let answer = grpc.server_streaming(request, PathAndQuery::from_static(path), ProstCodec::default()).await?;
            let mut answers = answer.into_inner();
            while let Some(answer) = answers.message().await? {
                if !take(answer) {
                    break;
                }
            }
            Ok(())
        };
        bounded(path, called).await
    }

    /// Makes a lease with labels.
    pub(super) async fn create_lease(&self, id: &str, labels: Labels) -> Answer<()> {
        let message = CreateLease { id: id.to_owned(), labels };
        self.call("/containerd.services.leases.v1.Leases/Create", message).await.map(|Nothing {}| ())
    }

    /// Ends a lease. What nothing else refers to becomes garbage; with `sync` it is gone when the call returns.
    pub(super) async fn delete_lease(&self, id: &str, sync: bool) -> Answer<()> {
        let message = DeleteLease { id: id.to_owned(), sync };
        let deleted = self.call("/containerd.services.leases.v1.Leases/Delete", message).await.map(|Nothing {}| ());
        deleted.or_else(|error| if error.is_missing() { Ok(()) } else { Err(error) })
    }

    /// The identifiers of the leases with a label.
    pub(super) async fn leases(&self, label: &str, value: &str) -> Answer<Vec<String>> {
        let filters = vec![format!("labels.{label:?}=={value:?}")];
        let leases: Leases = self.call("/containerd.services.leases.v1.Leases/List", List { filters }).await?;
        Ok(leases.leases.into_iter().map(|lease| lease.id).collect())
    }

    /// Makes a lease hold a snapshot.
    pub(super) async fn hold_snapshot(&self, lease: &str, key: &str) -> Answer<()> {
        let resource = Some(Resource { id: key.to_owned(), kind: format!("snapshots/{SNAPSHOTTER}") });
        let message = AddResource { id: lease.to_owned(), resource };
        self.call("/containerd.services.leases.v1.Leases/AddResource", message).await.map(|Nothing {}| ())
    }

    /// Makes a snapshot that is written to; an empty parent means none.
    pub(super) async fn prepare(&self, key: &str, parent: &str) -> Answer<Vec<Mount>> {
        let message = Prepare { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned(), parent: parent.to_owned() };
        let mounts: Mounts = self.call("/containerd.services.snapshots.v1.Snapshots/Prepare", message).await?;
        Ok(mounts.mounts)
    }

    /// Makes a snapshot unchangeable, under a name.
    pub(super) async fn commit(&self, key: &str, name: &str) -> Answer<()> {
        let message = Commit { snapshotter: SNAPSHOTTER.to_owned(), name: name.to_owned(), key: key.to_owned() };
        self.call("/containerd.services.snapshots.v1.Snapshots/Commit", message).await.map(|Nothing {}| ())
    }

    /// Whether there is a snapshot of a name.
    pub(super) async fn has_snapshot(&self, key: &str) -> Answer<bool> {
        match self.call("/containerd.services.snapshots.v1.Snapshots/Stat", snapshot(key)).await {
            Ok(Nothing {}) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many files and directories containerd counts in a snapshot that is written to.
    pub(super) async fn inodes(&self, key: &str) -> Answer<i64> {
        let usage: Usage = self.call("/containerd.services.snapshots.v1.Snapshots/Usage", snapshot(key)).await?;
        Ok(usage.inodes)
    }

    /// Removes a snapshot that is written to.
    pub(super) async fn remove_snapshot(&self, key: &str) -> Answer<()> {
        self.call("/containerd.services.snapshots.v1.Snapshots/Remove", snapshot(key)).await.map(|Nothing {}| ())
    }

    /// What the content store holds, or the first part of it.
    pub(super) async fn contents(&self) -> Answer<Vec<Info>> {
        let mut found = Vec::new();
        let take = |infos: Infos| {
            found.extend(infos.infos);
            found.len() < OBJECTS
        };
        self.collect("/containerd.services.content.v1.Content/List", List::default(), take).await?;
        Ok(found)
    }

    /// A small object.
    pub(super) async fn read(&self, digest: &str) -> Answer<Vec<u8>> {
        let mut bytes = Vec::new();
        let take = |content: Content| {
            bytes.extend_from_slice(&content.data);
            bytes.len() <= OBJECT_BYTES
        };
        self.collect("/containerd.services.content.v1.Content/Read", ReadContent { digest: digest.to_owned() }, take).await?;
        Ok(bytes)
    }

    /// Removes an object, whatever refers to it.
    #[cfg(test)]
    pub(super) async fn lose(&self, digest: &str) -> Answer<()> {
        let message = ReadContent { digest: digest.to_owned() };
        self.call("/containerd.services.content.v1.Content/Delete", message).await.map(|Nothing {}| ())
    }

    /// Stores a small object. If it is there already it gets the labels.
    pub(super) async fn write(&self, reference: String, digest: &str, data: Vec<u8>, labels: Labels) -> Answer<()> {
        let total = i64::try_from(data.len()).unwrap_or(i64::MAX);
        self.store(WriteContent { action: COMMIT, reference, total, expected: digest.to_owned(), offset: 0, data, labels })
            .await
    }

    /// Makes an object known whose file is in the store already, put there by somebody else. The store takes a look at its
    /// size; it does not read it.
    pub(super) async fn adopt(&self, reference: String, digest: &str, bytes: u64, labels: Labels) -> Answer<()> {
        let total = i64::try_from(bytes).unwrap_or(i64::MAX);
        // The offset says that nothing is missing. A store that does not share content between namespaces refuses it.
        let (expected, data) = (digest.to_owned(), Vec::new());
        self.store(WriteContent { action: COMMIT, reference, total, expected, offset: total, data, labels }).await
    }

    async fn store(&self, message: WriteContent) -> Answer<()> {
        let (digest, labels) = (message.expected.clone(), message.labels.clone());
        let path = "/containerd.services.content.v1.Content/Write";
        let mut grpc = self.grpc.clone();
        let called = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let request = self.request(futures_util::stream::iter([message]));
            let answer = grpc.streaming(request, PathAndQuery::from_static(path), ProstCodec::default()).await?;
            let mut answers = answer.into_inner();
            while let Some(Nothing {}) = answers.message().await? {}
            Ok(())
        };
        match bounded(path, called).await {
            Err(error) if error.is_duplicate() && !labels.is_empty() => self.label(&digest, labels).await,
            Err(error) if error.is_duplicate() => Ok(()),
            done => done,
        }
    }

    /// Adds labels to an object of the content store.
    async fn label(&self, digest: &str, labels: Labels) -> Answer<()> {
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = Some(Info { digest: digest.to_owned(), size: 0, labels });
        let message = UpdateContent { info, update_mask: Some(FieldMask { paths }) };
        self.call("/containerd.services.content.v1.Content/Update", message).await.map(|Nothing {}| ())
    }

    /// The image of a name.
    pub(super) async fn image(&self, name: &str) -> Answer<Option<Image>> {
        match self.call("/containerd.services.images.v1.Images/Get", GetImage { name: name.to_owned() }).await {
            Ok(OneImage { image, .. }) => Ok(image),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of the images that mean an object.
    pub(super) async fn names_of(&self, digest: &str) -> Answer<Vec<String>> {
        let filters = vec![format!("target.digest=={digest}")];
        let images: Images = self.call("/containerd.services.images.v1.Images/List", List { filters }).await?;
        Ok(images.images.into_iter().map(|image| image.name).collect())
    }

    /// Makes a name mean an object, whether it meant another before or not.
    pub(super) async fn name(&self, name: &str, target: Descriptor) -> Answer<()> {
        let message = OneImage { image: Some(Image { name: name.to_owned(), target: Some(target) }), update_mask: None };
        let created =
            self.call("/containerd.services.images.v1.Images/Create", message.clone()).await.map(|OneImage { .. }| ());
        match created {
            Err(error) if error.is_duplicate() => {
                let update_mask = Some(FieldMask { paths: vec!["target".to_owned()] });
                let message = OneImage { update_mask, ..message };
                self.call("/containerd.services.images.v1.Images/Update", message).await.map(|OneImage { .. }| ())
            }
            done => done,
        }
    }
}

fn snapshot(key: &str) -> Snapshot {
    Snapshot { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() }
}

async fn bounded<T>(path: &'static str, call: impl Future<Output = Result<T, Status>>) -> Answer<T> {
    let what = path.rsplit_once(".v1.").map_or(path, |(_, call)| call);
    match tokio::time::timeout(CALL_BOUND, call).await {
        Ok(answer) => answer.map_err(|status| CallError::new(what, &status)),
        Err(_) => Err(CallError { what, code: Code::DeadlineExceeded, message: "no answer".to_owned() }),
    }
}

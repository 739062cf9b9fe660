//! The messages of containerd's API that are sent and read here, with the field numbers of its `api/` module, version 1.9.
//!
//! Only the fields that are used are declared; others are skipped by the decoder.

use std::collections::HashMap;

/// Labels of any object.
pub(super) type Labels = HashMap<String, String>;

/// `google.protobuf.FieldMask`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    pub paths: Vec<String>,
}

/// `containerd.types.Descriptor`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Descriptor {
    #[prost(string, tag = "1")]
    pub media_type: String,
    #[prost(string, tag = "2")]
    pub digest: String,
    #[prost(int64, tag = "3")]
    pub size: i64,
    #[prost(map = "string, string", tag = "5")]
    pub annotations: HashMap<String, String>,
}

/// `containerd.types.Mount`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Mount {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub source: String,
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// `services.leases.v1.CreateRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CreateLease {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(map = "string, string", tag = "3")]
    pub labels: Labels,
}

/// `services.leases.v1.DeleteRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DeleteLease {
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whether the garbage is gone when the call returns.
    #[prost(bool, tag = "2")]
    pub sync: bool,
}

/// A list request of any service: leases, images, content.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct List {
    #[prost(string, repeated, tag = "1")]
    pub filters: Vec<String>,
}

/// `services.leases.v1.Lease`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Lease {
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `services.leases.v1.ListResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Leases {
    #[prost(message, repeated, tag = "1")]
    pub leases: Vec<Lease>,
}

/// `services.leases.v1.AddResourceRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AddResource {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Resource>,
}

/// `services.leases.v1.Resource`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Resource {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub kind: String,
}

/// `services.snapshots.v1.PrepareSnapshotRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Prepare {
    #[prost(string, tag = "1")]
    pub snapshotter: String,
    #[prost(string, tag = "2")]
    pub key: String,
    #[prost(string, tag = "3")]
    pub parent: String,
}

/// `services.snapshots.v1.PrepareSnapshotResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Mounts {
    #[prost(message, repeated, tag = "1")]
    pub mounts: Vec<Mount>,
}

/// `services.snapshots.v1.CommitSnapshotRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Commit {
    #[prost(string, tag = "1")]
    pub snapshotter: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub key: String,
}

/// What names one snapshot: the requests of `Stat`, `Remove` and `Usage`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Snapshot {
    #[prost(string, tag = "1")]
    pub snapshotter: String,
    #[prost(string, tag = "2")]
    pub key: String,
}

/// `services.snapshots.v1.UsageResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Usage {
    #[prost(int64, tag = "2")]
    pub inodes: i64,
}

/// `services.content.v1.Info`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    pub digest: String,
    #[prost(int64, tag = "2")]
    pub size: i64,
    #[prost(map = "string, string", tag = "5")]
    pub labels: Labels,
}

/// `services.content.v1.ListContentResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Infos {
    #[prost(message, repeated, tag = "1")]
    pub infos: Vec<Info>,
}

/// `services.content.v1.UpdateRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct UpdateContent {
    #[prost(message, optional, tag = "1")]
    pub info: Option<Info>,
    #[prost(message, optional, tag = "2")]
    pub update_mask: Option<FieldMask>,
}

/// `services.content.v1.ReadContentRequest`, without an offset: all of it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReadContent {
    #[prost(string, tag = "1")]
    pub digest: String,
}

/// `services.content.v1.ReadContentResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Content {
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

/// `services.content.v1.WriteContentRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WriteContent {
    #[prost(int32, tag = "1")]
    pub action: i32,
    #[prost(string, tag = "2")]
    pub reference: String,
    #[prost(int64, tag = "3")]
    pub total: i64,
    #[prost(string, tag = "4")]
    pub expected: String,
    #[prost(int64, tag = "5")]
    pub offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    pub data: Vec<u8>,
    #[prost(map = "string, string", tag = "7")]
    pub labels: Labels,
}

/// `WriteAction.COMMIT`
pub(super) const COMMIT: i32 = 2;

/// `services.images.v1.Image`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub target: Option<Descriptor>,
}

/// The request and the answer that hold one image: `Create`, `Get`, `Update`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OneImage {
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
    /// Only in `UpdateImageRequest`; empty elsewhere.
    #[prost(message, optional, tag = "2")]
    pub update_mask: Option<FieldMask>,
}

/// `services.images.v1.ListImagesResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Images {
    #[prost(message, repeated, tag = "1")]
    pub images: Vec<Image>,
}

/// `services.images.v1.GetImageRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetImage {
    #[prost(string, tag = "1")]
    pub name: String,
}

/// An answer of which nothing is read.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Nothing {}

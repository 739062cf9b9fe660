//! The filter and the scanner against archives that are made up, whole and in pieces.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::HashSet;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    documents::{Name, sha256_hex},
    filter::Filter,
    known::{Known, LayerMember, Store},
    outcome::{ArchiveError, Bounds, Ending, Learned, Skip},
    tar::{END, Kind, Member, Piece, Scanner, TarError, push_file},
};
use crate::packing::Packing;

fn name() -> Name {
    Name { repository: "own.invalid/x".to_owned(), tag: "t".to_owned() }
}

/// A layer that is worth skipping. What is in it does not matter here.
fn layer(seed: u8) -> Vec<u8> {
    vec![seed; 100_000]
}

fn diff_id(layer: &[u8]) -> String {
    format!("sha256:{}", sha256_hex(layer))
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| diff_id(layer)).collect();
    json!({ "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": ids } }).to_string().into_bytes()
}

/// As `docker save` has written archives since version 25.
fn saved(layers: &[Vec<u8>], tags: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    let blob = |content: &[u8]| format!("blobs/sha256/{}", sha256_hex(content));
    for layer in layers {
        push_file(&mut out, &blob(layer), layer);
    }
    let config = config(layers);
    push_file(&mut out, &blob(&config), &config);
    let descriptors: Vec<Value> = layers.iter().map(|layer| json!({ "digest": diff_id(layer), "size": layer.len() })).collect();
    let manifest = json!({ "config": { "digest": diff_id(&config), "size": config.len() }, "layers": descriptors }).to_string();
    push_file(&mut out, &blob(manifest.as_bytes()), manifest.as_bytes());
    let entries: Vec<Value> = tags
        .iter()
        .map(|tag| json!({ "digest": diff_id(manifest.as_bytes()), "annotations": { "io.containerd.image.name": tag, "more": 1 } }))
        .collect();
    push_file(&mut out, "index.json", json!({ "schemaVersion": 2, "manifests": entries }).to_string().as_bytes());
    let names: Vec<String> = layers.iter().map(|layer| blob(layer)).collect();
    let items = json!([{ "Config": blob(&config), "RepoTags": tags, "Layers": names }]).to_string();
    push_file(&mut out, "manifest.json", items.as_bytes());
    push_file(&mut out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    push_file(&mut out, "repositories", br#"{"busybox":{"latest":"0"}}"#);
    out.extend_from_slice(&END);
    out
}

/// As kaniko and its relatives write them: the configuration first, layers under names that say nothing about their content.
fn kaniko(layers: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    let config = config(layers);
    push_file(&mut out, &diff_id(&config), &config);
    let names: Vec<String> = layers.iter().map(|layer| format!("{}.tar.gz", sha256_hex(&layer[1..]))).collect();
    for (name, layer) in names.iter().zip(layers) {
        push_file(&mut out, name, layer);
    }
    let items = json!([{ "Config": diff_id(&config), "RepoTags": ["a:b"], "Layers": names }]).to_string();
    push_file(&mut out, "manifest.json", items.as_bytes());
    out.extend_from_slice(&END);
    out
}

fn run(archive: &[u8], known: &Known, skip: Skip, chunk: usize) -> Result<(Vec<u8>, Ending), ArchiveError> {
    let own = name();
    let mut filter = Filter::new(known, skip, &own, Bounds::default());
    let (mut passed, mut out) = (Vec::new(), Vec::new());
    for piece in archive.chunks(chunk) {
        filter.take(Bytes::copy_from_slice(piece), &mut out)?;
        passed.extend(out.drain(..).flatten());
    }
    Ok((passed, filter.finish()?))
}

fn complete(archive: &[u8], known: &Known, skip: Skip) -> (Vec<u8>, Learned) {
    match run(archive, known, skip, 1000).unwrap() {
        (mut passed, Ending::Complete(tail, learned)) => {
            passed.extend(tail);
            (passed, *learned)
        }
        (_, again) => panic!("again with {again:?}"),
    }
}

/// Members and contents.
pub(super) fn members(archive: &[u8]) -> Vec<(Member, Vec<u8>)> {
    let mut scanner = Scanner::default();
    let mut input = Bytes::copy_from_slice(archive);
    let mut found: Vec<(Member, Vec<u8>)> = Vec::new();
    while let Some(piece) = scanner.next(&mut input).unwrap() {
        match piece {
            Piece::Member(member) => found.push((member, Vec::new())),
            Piece::Content(content) => found.last_mut().unwrap().1.extend(content),
            Piece::Padding(_) | Piece::End => {}
        }
    }
    scanner.finish().unwrap();
    found
}

fn document(archive: &[u8], name: &str) -> Value {
    let found: Vec<_> = members(archive).into_iter().filter(|(member, _)| member.name == name).collect();
    assert_eq!(found.len(), 1, "{name}");
    serde_json::from_slice(&found[0].1).unwrap()
}

fn member_names(archive: &[u8]) -> Vec<String> {
    members(archive).into_iter().map(|(member, _)| member.name).collect()
}

#[test]
fn names_in_an_archive_are_replaced_by_ours() {
    let archive = saved(&[layer(1), layer(2)], &["busybox:latest", "docker.io/library/debian:12"]);
    for store in [Store::Graph, Store::Containerd, Store::Unknown] {
        let (out, learned) = complete(&archive, &Known::nothing(store), Skip::Guess);
        assert_eq!(document(&out, "manifest.json")[0]["RepoTags"], json!(["own.invalid/x:t"]));
        let index = document(&out, "index.json");
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        assert_eq!(
            index["manifests"][0]["annotations"],
            json!({ "io.containerd.image.name": "own.invalid/x:t", "more": 1, "org.opencontainers.image.ref.name": "t" })
        );
        assert!(!member_names(&out).contains(&"repositories".to_owned()));
        assert_eq!(learned.skipped, (0, 0));
        assert_eq!(learned.image.unwrap().diff_ids, [diff_id(&layer(1)), diff_id(&layer(2))]);
    }
}

#[test]
fn documents_in_disguise_do_not_pass() {
    // A document under a name that means the same, and links that would put another document in its place.
    let mut archive = Vec::new();
    for alias in ["./manifest.json", "x/../manifest.json", "/manifest.json", "./index.json"] {
        push_file(&mut archive, alias, br#"[{"Config":"evil","RepoTags":["busybox:latest"],"Layers":[]}]"#);
    }
    let mut link = Vec::new();
    push_file(&mut link, "manifest.json", b"");
    link[156] = b'2';
    link[157..161].copy_from_slice(b"evil");
    archive.extend(resummed(link));
    archive.extend(saved(&[layer(1)], &["a:b"]));
    let (out, _) = complete(&archive, &Known::nothing(Store::Graph), Skip::Nothing);
    let found = member_names(&out);
    assert_eq!(found.iter().filter(|name| name.ends_with("manifest.json")).count(), 1, "{found:?}");
    assert_eq!(found.iter().filter(|name| name.ends_with("index.json")).count(), 1, "{found:?}");
    assert!(!String::from_utf8_lossy(&out).contains("busybox"));
}

fn resummed(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block[..512].iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

fn graph(chains: &[&[Vec<u8>]], members: Vec<LayerMember>) -> Known {
    let chains = chains.iter().map(|chain| chain.iter().map(|layer| diff_id(layer)).collect()).collect();
    Known::new(Store::Graph, chains, members)
}

#[test]
fn layers_that_are_there_are_left_out() {
    let (base, new) = (vec![layer(1), layer(2)], vec![layer(1), layer(2), layer(3)]);
    let archive = saved(&new, &["a:b"]);
    let (out, learned) = complete(&archive, &graph(&[&base], vec![]), Skip::Guess);
    assert_eq!(learned.skipped, (2, 200_000));
    assert!(out.len() < archive.len() - 200_000);
    assert!(member_names(&out).contains(&format!("blobs/sha256/{}", sha256_hex(&layer(3)))));

    // What is learned from one archive helps with the next one, whose names say nothing.
    let (_, learned) = complete(&kaniko(&base), &graph(&[], vec![]), Skip::Guess);
    assert_eq!((learned.skipped.0, learned.members.len()), (0, 2));
    let (_, second) = complete(&kaniko(&new), &graph(&[&base], learned.members), Skip::Guess);
    assert_eq!((second.skipped, second.members.len()), ((2, 200_000), 3));
}

#[test]
fn a_layer_in_another_place_is_sent_after_all() {
    let (there, new) = (vec![layer(9), layer(2)], vec![layer(1), layer(2), layer(3)]);
    let known = graph(&[&there, &[layer(1)]], vec![]);
    let Ending::Again(skip) = run(&saved(&new, &[]), &known, Skip::Guess, 4096).unwrap().1 else { panic!("no doubt") };
    let first = format!("blobs/sha256/{}", sha256_hex(&layer(1)));
    assert_eq!(skip, Skip::Exactly(HashSet::from([first])));
    let (out, learned) = complete(&saved(&new, &[]), &known, skip);
    assert_eq!(learned.skipped, (1, 100_000));
    assert!(member_names(&out).contains(&format!("blobs/sha256/{}", sha256_hex(&layer(2)))));
}

#[test]
fn an_archive_that_lies_about_its_members_is_not_believed() {
    // The member has the name and the size of a layer that is there; the configuration says that it is another one.
    let honest = kaniko(&[layer(1)]);
    let (_, learned) = complete(&honest, &graph(&[], vec![]), Skip::Guess);
    let lie = [layer(7)];
    let lying = {
        let mut out = Vec::new();
        push_file(&mut out, "c", &config(&lie));
        push_file(&mut out, &learned.members[0].name, &lie[0]);
        let items = json!([{ "Config": "c", "RepoTags": null, "Layers": [learned.members[0].name] }]);
        push_file(&mut out, "manifest.json", items.to_string().as_bytes());
        out
    };
    let known = graph(&[&[layer(1)]], learned.members);
    let (_, ending) = run(&lying, &known, Skip::Guess, 4096).unwrap();
    assert_eq!(ending, Ending::Again(Skip::Exactly(HashSet::new())));
}

#[test]
fn the_configuration_of_an_image_that_is_there_spares_all_layers() {
    let layers = [layer(1), layer(2)];
    let (out, learned) = complete(&kaniko(&layers), &graph(&[&layers], vec![]), Skip::Guess);
    assert_eq!(learned.skipped, (2, 200_000));
    assert!(out.len() < 10_000);
}

#[test]
fn without_an_oci_layout_one_is_made_for_containerd() {
    let base = [layer(1), layer(2)];
    let (plain, learned) = complete(&kaniko(&base), &Known::nothing(Store::Containerd), Skip::Guess);
    assert!(!member_names(&plain).contains(&"oci-layout".to_owned()));
    assert_eq!(learned.members[0].sha256, Some(sha256_hex(&layer(1))), "digests are computed, names are not believed");
    let known = Known::new(Store::Containerd, vec![], learned.members);
    let (out, second) = complete(&kaniko(&[layer(1), layer(2), layer(3)]), &known, Skip::Guess);
    assert_eq!(second.skipped, (2, 200_000));
    let index = document(&out, "index.json");
    let digest = index["manifests"][0]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let manifest = document(&out, &format!("blobs/sha256/{digest}"));
    let digests: Vec<_> = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect();
    assert_eq!(digests, [1, 2, 3].map(|seed| json!(diff_id(&layer(seed)))));
    assert!(!member_names(&out).contains(&"manifest.json".to_owned()));
}

#[test]
fn what_is_no_image_is_refused() {
    let known = Known::nothing(Store::Graph);
    let no_image = |archive: &[u8]| run(archive, &known, Skip::Guess, 777).unwrap_err().to_string();
    assert!(no_image(b"").contains("empty"));
    assert!(no_image(&[b'x'; 5000]).contains("no tar archive"));
    assert!(no_image(&END).contains("neither manifest.json nor index.json"));
    let archive = saved(&[layer(1)], &[]);
    assert!(no_image(&archive[..50_000]).contains("truncated"));
    let mut other = Vec::new();
    push_file(&mut other, "manifest.json", b"[]");
    assert!(no_image(&other).contains("lists none"));
    let mut other = Vec::new();
    push_file(&mut other, "manifest.json", b"{");
    assert!(no_image(&other).contains("read manifest.json"));

    let own = name();
    let mut filter = Filter::new(&known, Skip::Guess, &own, Bounds { bytes: 10_000, members: 2 });
    let error = filter.take(Bytes::from(vec![0; 20_000]), &mut Vec::new()).unwrap_err();
    assert_eq!(error, ArchiveError::TooLarge { limit: 10_000, what: "bytes" });
    let mut filter = Filter::new(&known, Skip::Guess, &own, Bounds { bytes: 1 << 30, members: 2 });
    let error = filter.take(archive.into(), &mut Vec::new()).unwrap_err();
    assert_eq!(error, ArchiveError::TooLarge { limit: 2, what: "members" });
}

#[test]
fn extended_headers_and_links_of_all_kinds_are_read() {
    // Python's tarfile wrote it: GNU and PAX long names, a sparse file, absolute and dangling hard links, devices.
    for (fixture, sparse) in [
        (&include_bytes!("../../tests/fixtures/odd-gnu.tar")[..], true),
        (include_bytes!("../../tests/fixtures/odd-pax.tar"), true),
    ] {
        let found = members(fixture);
        let by_name = |name: &str| found.iter().find(|(member, _)| member.name == name).unwrap_or_else(|| panic!("{name}"));
        let long = format!("{}/file", "long/".repeat(60).trim_end_matches('/'));
        assert_eq!(by_name(&long).1, b"content of the long one");
        assert_eq!(by_name("absolute").0.kind, Kind::Link);
        assert_eq!(by_name("absolute").0.target, "/etc/passwd");
        assert_eq!(by_name("dangling").0.target, "nowhere/at/all");
        assert_eq!(by_name("symlink").0.kind, Kind::Symlink);
        assert_eq!(by_name("fifo").0.kind, Kind::Other);
        assert_eq!(by_name("device").0.kind, Kind::Other);
        assert_eq!(found.iter().any(|(member, _)| member.kind == Kind::Sparse), sparse);
        assert_eq!(by_name("last").1, b"the end");
    }
}

proptest! {
    #[test]
    fn members_pass_byte_for_byte_however_the_archive_is_cut(
        contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..12),
        chunk in 1usize..3000,
        trailer in 0usize..5000,
    ) {
        let mut archive = Vec::new();
        for (at, content) in contents.iter().enumerate() {
            push_file(&mut archive, &format!("member-{at}"), content);
        }
        let plain = archive.len();
        archive.extend(saved(&[], &["x:y"]));
        archive.extend(vec![b'z'; trailer]);
        let (passed, ending) = run(&archive, &Known::nothing(Store::Graph), Skip::Guess, chunk).unwrap();
        prop_assert_eq!(&passed[..plain], &archive[..plain]);
        let complete = matches!(ending, Ending::Complete(..));
        prop_assert!(complete);
    }

    #[test]
    fn no_bytes_make_the_scanner_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..4096), at in 0usize..4096, chunk in 1usize..700) {
        // A valid beginning, so that more than the first checksum is reached.
        let mut archive = saved(&[], &[]);
        let at = at % archive.len();
        let end = (at + bytes.len()).min(archive.len());
        archive[at..end].swap_with_slice(&mut bytes[..end - at]);
        let _ = run(&archive, &Known::nothing(Store::Containerd), Skip::Guess, chunk);
    }

    #[test]
    fn a_cut_archive_is_never_taken_for_a_whole_one(cut in 0usize..100_000) {
        let archive = saved(&[layer(1)], &[]);
        let end = archive.len() - END.len();
        let cut = cut % end;
        // At the boundary of a member only the missing documents tell.
        let result = run(&archive[..cut], &Known::nothing(Store::Graph), Skip::Guess, 8192);
        if let Ok((_, ending)) = result {
            let cut_after_manifest = archive[..cut].windows(13).any(|window| window == b"manifest.json");
            prop_assert!(cut_after_manifest, "{ending:?}");
        }
    }
}

#[test]
fn a_number_beyond_the_format_and_a_header_without_its_member_are_errors() {
    let mut long = Vec::new();
    push_file(&mut long, "././@LongLink", b"name\0");
    long[156] = b'L';
    let long = resummed(long);
    let mut scanner = Scanner::default();
    let mut input = Bytes::from([long.clone(), END.to_vec()].concat());
    assert!(matches!(scanner.next(&mut input), Err(TarError::Extension(_))));
    let mut scanner = Scanner::default();
    assert_eq!(scanner.next(&mut Bytes::from(long)), Ok(None));
    assert!(matches!(scanner.finish(), Err(TarError::Truncated(_))));
    assert_eq!(Packing::of(b"\x1f\x8b\x08"), Packing::Gzip);
}

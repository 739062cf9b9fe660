//! Archives that are mended, whole and in pieces.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::io::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Mended, Mender, Plan, gzip_says};
use crate::image::{
    documents::{Name, sha256_hex},
    filter::Filter,
    known::{Known, Store},
    outcome::{ArchiveError, Bounds, Ending, Learned, Skip},
    tar::{END, Kind, file_header, push_file, seal},
    tests::members,
};

fn name() -> Name {
    Name { repository: "own.invalid/x".to_owned(), tag: "t".to_owned() }
}

fn push_link(layer: &mut Vec<u8>, name: &str, target: &str) {
    let mut block = file_header(name, 0);
    block[156] = b'1';
    block[157..157 + target.len()].copy_from_slice(target.as_bytes());
    seal(&mut block);
    layer.extend_from_slice(&block);
}

/// A layer with links of all kinds, and another content behind its end.
fn layer(behind: &[u8]) -> Vec<u8> {
    let mut layer = Vec::new();
    push_link(&mut layer, "early", "file");
    push_file(&mut layer, "file", &[7; 3000]);
    push_link(&mut layer, "absolute", "/file");
    push_link(&mut layer, "relative", "./file");
    push_link(&mut layer, "nowhere", "../not/there");
    push_link(&mut layer, "full", &"f".repeat(100));
    layer.extend_from_slice(behind);
    layer
}

fn gzip(layer: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(layer).unwrap();
    encoder.finish().unwrap()
}

/// An archive with these members as layers, whose configuration says that they unpack to these.
fn archive(members: &[Vec<u8>], layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256_hex(layer))).collect();
    let mut out = Vec::new();
    let config = json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids } }).to_string();
    push_file(&mut out, "config.json", config.as_bytes());
    let names: Vec<String> = (0..members.len()).map(|at| format!("{at}.tar.gz")).collect();
    for (name, member) in names.iter().zip(members) {
        push_file(&mut out, name, member);
    }
    push_file(&mut out, "manifest.json", json!([{ "Config": "config.json", "Layers": names }]).to_string().as_bytes());
    out.extend_from_slice(&END);
    out
}

/// What the first reading finds out.
fn plan(archive: &[u8]) -> Plan {
    let (known, own) = (Known::nothing(Store::Graph), name());
    let mut filter = Filter::new(&known, Skip::Guess, &own, Bounds::default());
    filter.take(Bytes::copy_from_slice(archive), &mut Vec::new()).unwrap();
    match filter.finish().unwrap() {
        Ending::Complete(_, learned) => learned.plan.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn run(archive: &[u8], plan: Plan, chunk: usize, bounds: Bounds) -> Result<(Vec<u8>, Ending), ArchiveError> {
    let mut mender = Mender::new(plan, bounds);
    let mut passed = Vec::new();
    for piece in archive.chunks(chunk) {
        mender.take(Bytes::copy_from_slice(piece), &mut |bytes| {
            passed.extend_from_slice(&bytes);
            true
        })?;
    }
    Ok((passed, mender.finish(&name())?))
}

fn complete(archive: &[u8], plan: Plan, chunk: usize) -> (Vec<u8>, Learned) {
    match run(archive, plan, chunk, Bounds::default()).unwrap() {
        (mut passed, Ending::Complete(tail, learned)) => {
            passed.extend(tail);
            (passed, *learned)
        }
        (_, other) => panic!("{other:?}"),
    }
}

#[test]
fn links_are_such_as_every_engine_makes() {
    let layers = [layer(&END), layer(b""), layer(&END[..512]), layer(&[&END[..], b"more"].concat())];
    let packed = [layers[0].clone(), gzip(&layers[1]), layers[2].clone(), gzip(&layers[3])];
    let image = archive(&packed, &layers);
    let mut plan = plan(&image);
    // A size that no tar archive usually has is not believed.
    assert_eq!(plan.layers[3].unpacked_bytes, None);
    plan.layers[3].unpacked_bytes = Some(layers[3].len() as u64);
    for chunk in [1, 700, image.len()] {
        let (out, learned) = complete(&image, plan.clone(), chunk);
        let found = members(&out);
        let document = |name: &str| found.iter().find(|(member, _)| member.name == name).unwrap().1.clone();
        let manifest: Value = serde_json::from_slice(&document("manifest.json")).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["own.invalid/x:t"]));
        let config = document(manifest[0]["Config"].as_str().unwrap());
        let described = learned.image.unwrap();
        assert_eq!(described.config_sha256, sha256_hex(&config));
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!((&config["os"], &config["rootfs"]["diff_ids"]), (&json!("linux"), &json!(described.diff_ids)));
        for (at, layer) in layers.iter().enumerate() {
            let mended = document(manifest[0]["Layers"][at].as_str().unwrap());
            assert_eq!(described.diff_ids[at], format!("sha256:{}", sha256_hex(&mended)));
            assert_eq!(mended.len(), layer.len());
            let made: Vec<(Kind, String, String)> =
                members(&mended).into_iter().map(|(member, _)| (member.kind, member.name, member.target)).collect();
            let expected = [
                (Kind::Symlink, "early", "/file"),
                (Kind::File, "file", ""),
                (Kind::Link, "absolute", "file"),
                (Kind::Link, "relative", "./file"),
                (Kind::Symlink, "nowhere", "/../not/there"),
            ];
            let text = |(kind, name, target): (Kind, &str, &str)| (kind, name.to_owned(), target.to_owned());
            assert_eq!(made[..5], expected.map(text), "layer {at}");
            assert_eq!((made[5].0, made.len()), (Kind::Other, 6), "no header has room for a longer target");
        }
        assert_eq!((learned.mended.relative, learned.mended.symbolic, learned.mended.left_out), (4, 8, 4));
        let warning = learned.mended.warning("x").unwrap();
        assert!(warning.contains("12 hard links") && warning.contains("4 of them were left out"), "{warning}");
    }
}

#[test]
fn layers_that_need_nothing_keep_their_digests() {
    let mut usual = Vec::new();
    push_file(&mut usual, "a", b"b");
    push_link(&mut usual, "c", "a");
    usual.extend_from_slice(&END);
    let image = archive(&[gzip(&usual), zstd::encode_all(&usual[..], 1).unwrap()], &[usual.clone(), usual.clone()]);
    let mut plan = plan(&image);
    assert_eq!((plan.layers[0].unpacked_bytes, plan.layers[1].unpacked_bytes), (Some(usual.len() as u64), None));
    plan.layers[1].unpacked_bytes = plan.layers[0].unpacked_bytes;
    let (out, learned) = complete(&image, plan.clone(), 1000);
    assert_eq!(learned.image.unwrap().config_sha256, sha256_hex(&plan.config));
    assert_eq!(learned.mended, Mended::default());
    assert!(members(&out).iter().take(2).all(|(_, content)| *content == usual));
}

#[test]
fn sizes_that_are_wrong_are_found_out_for_all_layers() {
    let layers = [layer(&END), layer(b"")];
    let image = archive(&layers.each_ref().map(|layer| gzip(layer)), &layers);
    let good = plan(&image);
    for wrong in [None, Some(512), Some(1 << 20)] {
        let mut plan = good.clone();
        plan.layers[0].unpacked_bytes = wrong;
        plan.layers[1].unpacked_bytes = None;
        let (passed, ending) = run(&image, plan, 100, Bounds::default()).unwrap();
        let said = usize::try_from(wrong.unwrap_or_default()).unwrap();
        assert!(passed.len() <= 512 + said.min(layers[0].len()), "no more than was said, and nothing after the first layer");
        let Ending::Mend(exact) = ending else { panic!("{ending:?}") };
        assert_eq!((&exact.layers, exact.exact), (&good.layers, true));
        complete(&image, exact.clone(), 100);
        let mut wrong = exact;
        wrong.layers[1].unpacked_bytes = Some(1024);
        let again = run(&image, wrong, 100, Bounds::default());
        assert!(matches!(again, Err(ArchiveError::NoImage(why)) if why.contains("change")));
    }
}

#[test]
fn what_lies_or_is_too_large_is_refused() {
    let layers = [layer(&END)];
    let lying = archive(&[gzip(&layer(b""))], &layers);
    let refused = run(&lying, plan(&lying), 1000, Bounds::default());
    assert!(matches!(refused, Err(ArchiveError::NoImage(why)) if why.contains("its configuration says")));
    let mut bomb = Vec::new();
    push_file(&mut bomb, "zeros", &vec![0; 8 << 20]);
    let bomb = archive(&[gzip(&bomb)], &[bomb]);
    let bounds = Bounds { bytes: 1 << 20, ..Bounds::default() };
    for known in [true, false] {
        let mut plan = plan(&bomb);
        if !known {
            plan.layers[0].unpacked_bytes = None;
        }
        assert!(matches!(run(&bomb, plan, 1000, bounds), Err(ArchiveError::TooLarge { .. })), "{known}");
    }
    let good = archive(&[gzip(&layers[0])], &layers);
    let mut cut = gzip(&layers[0]);
    cut.truncate(cut.len() / 2);
    let cut = archive(&[cut], &layers);
    for (broken, why) in [(&cut, "a layer"), (&archive(&[gzip(b"no archive")], &layers), "a layer")] {
        let error = run(broken, plan(broken), 1000, Bounds::default()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    assert!(run(&good[..good.len() / 2 - 100], plan(&good), 1000, Bounds::default()).is_err(), "it ends too early");
}

#[test]
fn what_gzip_says_about_a_size() {
    assert_eq!(gzip_says(10_240_u32.to_le_bytes(), 900), Some(10_240));
    assert_eq!(gzip_says(10_240_u32.to_le_bytes(), 10_290), Some(10_240), "it could not be compressed");
    assert_eq!(gzip_says(512_u32.to_le_bytes(), 3 << 30), Some((1 << 32) + 512));
    assert_eq!(gzip_says(100_u32.to_le_bytes(), 90), None);
}

#[test]
fn what_engines_say_about_links() {
    let plan = Plan { config: Bytes::new(), layers: Vec::new(), order: Vec::new(), exact: false };
    for said in [
        "Error processing tar file(exit status 1): link /opt/one /opt/two: no such file or directory",
        "linkat opt/one opt/two: no such file or directory",
        "Error unpacking image x: apply layer error for \"x\": failed to extract layer sha256:12: link /data/a /data/b: no such f",
        "failed to register layer: invalid hardlink target \"/usr/bin/perlbug\"",
    ] {
        assert!(plan.answers(said), "{said}");
    }
    for said in ["archive/tar: invalid tar header", "readlink /a: no such file or directory", "mkdir /link: no such file"] {
        assert!(!plan.answers(said), "{said}");
    }
}

//! Archives of our own, of the `tar` command, and of nobody.

use std::{path::Path, process::Command};

use proptest::{collection::vec, prelude::*};

use super::{writer::Writer, *};

/// Things with their contents, and whether the archive came to its end.
type Found = (Vec<(Item, Vec<u8>)>, bool);

/// What an archive holds, fed in pieces of these sizes, over and over.
fn read(archive: &[u8], sizes: &[usize]) -> Result<Found, TarError> {
    let mut tar = Tar::new();
    let mut things: Vec<(Item, Vec<u8>)> = Vec::new();
    let mut rest = archive;
    let mut sizes = sizes.iter().cycle();
    let mut open = false;
    loop {
        match tar.next()? {
            Some(Event::Entry(item)) => {
                assert!(!open, "the file before is not done");
                open = matches!(item.kind, Kind::File(_));
                things.push((item, Vec::new()));
            }
            Some(Event::Data(piece)) => {
                assert!(open && !piece.is_empty());
                let (_, content) = things.last_mut().expect("an entry");
                content.extend_from_slice(&piece);
                assert!(content.len() <= 64 << 20, "more than these tests write");
            }
            Some(Event::Done) => {
                assert!(open);
                open = false;
                let (item, content) = things.last().expect("an entry");
                assert_eq!(item.kind, Kind::File(content.len() as u64));
            }
            Some(Event::End) => return Ok((things, true)),
            None if rest.is_empty() => return Ok((things, false)),
            None => {
                let length = sizes.next().copied().unwrap_or(1).clamp(1, rest.len());
                tar.feed(Bytes::copy_from_slice(&rest[..length]));
                rest = &rest[length..];
            }
        }
    }
}

fn item(name: &[u8], target: &[u8], kind: Kind) -> Item {
    Item { name: name.to_vec(), target: target.to_vec(), kind }
}

#[test]
fn the_ways_to_write_long_names_mean_the_same() {
    let long = [b"d/".repeat(200), b"file".to_vec()].concat();
    let mut writer = Writer::default();
    writer.item(b'0', &long, b"", b"pax");
    writer.item(b'2', b"link", &long, b"");
    writer.raw(b'L', b"././@LongLink", b"", long.len() as u64 + 1, &[&long[..], b"\0"].concat());
    writer.raw(b'K', b"././@LongLink", b"", long.len() as u64 + 1, &[&long[..], b"\0"].concat());
    writer.raw(b'1', b"cut off", b"cut off", 77, b"");
    writer.raw(b'g', b"global", b"", 14, b"14 comment=abc");
    writer.raw(b'6', b"fifo", b"", 0, b"");
    writer.raw(b'9', b"new", b"", 600, &[1; 600]);
    writer.pax(&[("size", b"5"), ("path", b"odd\nname=\xff")]);
    writer.raw(0, b"x", b"", 0, b"12345");
    let (things, ended) = read(&writer.end(), &[100]).expect("an archive");
    assert!(ended);
    let expected = [
        (item(&long, b"", Kind::File(3)), b"pax".to_vec()),
        (item(b"link", &long, Kind::Link), Vec::new()),
        (item(&long, &long, Kind::HardLink), Vec::new()),
        (item(b"fifo", b"", Kind::Special("named pipe")), Vec::new()),
        (item(b"new", b"", Kind::Special("thing of an unknown kind")), Vec::new()),
        (item(b"odd\nname=\xff", b"", Kind::File(5)), b"12345".to_vec()),
    ];
    assert_eq!(things, expected);
}

#[test]
fn what_is_no_archive_or_claims_too_much_is_an_error() {
    let mut wrong = Writer::default();
    wrong.item(b'0', b"name", b"", b"");
    wrong.bytes[3] ^= 1;
    assert_eq!(read(&wrong.end(), &[512]), Err(TarError::Checksum));
    let mut long = Writer::default();
    long.raw(b'x', b"x", b"", TEXT_BYTES + 1, b"");
    assert_eq!(read(&long.end(), &[512]), Err(TarError::TooLong));
    for records in ["5 a=b\n", "99 path=a\n", "x path=a\n", "9 path=a\n9", "8 path=ab", "4 a\n"] {
        let mut writer = Writer::default();
        writer.raw(b'x', b"x", b"", records.len() as u64, records.as_bytes());
        writer.item(b'0', b"name", b"", b"");
        assert!(read(&writer.end(), &[512]).is_err(), "{records:?}");
    }
    let mut huge = Writer::default();
    huge.raw(b'0', b"x", b"", u64::MAX, b"");
    assert_eq!(read(&huge.end(), &[512]), Err(TarError::Number));
    let mut cut = Writer::default();
    cut.item(b'0', b"name", b"", &[7; 2000]);
    let (things, ended) = read(&cut.bytes[..1500], &[512]).expect("the beginning of an archive");
    assert!(!ended && things[0].1.len() == 988);
}

#[test]
fn maps_that_do_not_fit_are_errors() {
    // Overlapping, behind the end, more and fewer stored bytes than there are, half a pair, too new.
    for (map, bytes, major) in [
        ("0,5,3,5", "20", "0"),
        ("0,5,9,5", "12", "0"),
        ("0,5,9,6", "20", "0"),
        ("0,5", "20", "0"),
        ("0", "20", "0"),
        ("0,5,9,5", "20", "2"),
    ] {
        let mut writer = Writer::default();
        let (map, bytes, major) = (map.as_bytes(), bytes.as_bytes(), major.as_bytes());
        writer.pax(&[("GNU.sparse.major", major), ("GNU.sparse.map", map), ("GNU.sparse.size", bytes)]);
        writer.raw(b'0', b"x", b"", 10, &[1; 10]);
        assert_eq!(read(&writer.end(), &[512]).map(|_| ()), Err(TarError::Map), "{:?}", str::from_utf8(map));
    }
    let mut fits = Writer::default();
    fits.pax(&[("GNU.sparse.map", b"2,5,9,5"), ("GNU.sparse.size", b"20"), ("GNU.sparse.name", b"right")]);
    fits.raw(b'0', b"wrong", b"", 10, &[1; 10]);
    let (things, _) = read(&fits.end(), &[512]).expect("an archive");
    let content = [&[0; 2][..], &[1; 5], &[0; 2], &[1; 5], &[0; 6]].concat();
    assert_eq!(things, [(item(b"right", b"", Kind::File(20)), content)]);
}

#[test]
fn holes_that_are_passed_over_cost_nothing() {
    let mut writer = Writer::default();
    writer.pax(&[("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", b"1152921504606846976")]);
    writer.raw(b'0', b"vast", b"", 5, &[1; 5]);
    writer.item(b'0', b"next", b"", b"n");
    let mut tar = Tar::new();
    tar.feed(writer.end().into());
    assert!(matches!(tar.next(), Ok(Some(Event::Entry(_)))));
    tar.skip();
    let mut events = 0;
    while tar.next().expect("an archive") != Some(Event::Done) {
        events += 1;
    }
    assert!(events <= 1);
    assert!(matches!(tar.next(), Ok(Some(Event::Entry(item))) if item.name == b"next"));
}

/// A directory with everything that `tar` knows, packed in each of its formats.
#[test]
fn archives_of_the_tar_command_are_understood() {
    use std::os::unix::fs::{FileExt as _, symlink};
    let dir = tempfile::tempdir().expect("a directory");
    let top = dir.path().join("top");
    let deep = top.join("a".repeat(90)).join("b".repeat(90));
    std::fs::create_dir_all(&deep).expect("made");
    let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(deep.join("file"), &text).expect("written");
    std::fs::write(top.join("empty"), b"").expect("written");
    std::fs::hard_link(deep.join("file"), top.join("same")).expect("linked");
    symlink("x".repeat(150), top.join("long link")).expect("linked");
    nix::unistd::mkfifo(&top.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    // More stored parts than fit into a header, and into one block after it.
    let sparse = std::fs::File::create(top.join("sparse")).expect("made");
    for at in 0..60 {
        sparse.write_all_at(&[at + 1; 4096], u64::from(at) * 65_536).expect("written");
    }
    sparse.set_len(5 << 20).expect("longer");
    let holes = std::fs::read(top.join("sparse")).expect("read");
    let versions: [&[&str]; 6] = [
        &["--format=gnu"],
        &["--format=pax"],
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ];
    for options in versions {
        let archive = packed(dir.path(), options);
        if options.contains(&"--sparse") {
            assert!(archive.len() < 2 << 20, "{options:?}: nothing is sparse here");
        }
        let (things, ended) = read(&archive, &[10_000]).expect("an archive");
        assert!(ended);
        let find = |name: &str| {
            let wanted = format!("top/{name}");
            things.iter().find(|(item, _)| item.name == wanted.as_bytes()).unwrap_or_else(|| panic!("{options:?}: no {name}"))
        };
        let deep = format!("{}/{}/file", "a".repeat(90), "b".repeat(90));
        assert!(find(&deep).1 == text || find("same").1 == text, "{options:?}");
        assert!(find(&deep).0.kind == Kind::HardLink || find("same").0.kind == Kind::HardLink, "{options:?}");
        assert_eq!(find("long link").0.target, "x".repeat(150).into_bytes(), "{options:?}");
        assert_eq!(find("fifo").0.kind, Kind::Special("named pipe"), "{options:?}");
        assert_eq!(find("empty").0.kind, Kind::File(0), "{options:?}");
        assert!(find("sparse").1 == holes, "{options:?}");
    }
}

fn packed(dir: &Path, options: &[&str]) -> Vec<u8> {
    let made = Command::new("tar").args(options).args(["-c", "-f", "-", "top"]).current_dir(dir).output().expect("tar runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    // Directories end with a slash, so names here do not; and no NUL.
    vec(any::<u8>().prop_filter("NUL", |byte| *byte != 0), 1..300).prop_map(|mut name| {
        name.push(b'n');
        name
    })
}

fn things() -> impl Strategy<Value = Vec<(u8, Vec<u8>, Vec<u8>)>> {
    let file = (Just(b'0'), names(), vec(any::<u8>(), 0..3000));
    let other = (prop::sample::select(b"12".to_vec()), names(), names());
    vec(prop_oneof![file, other], 0..8)
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_arrives(things in things(), sizes in vec(1_usize..2000, 1..10)) {
        let mut writer = Writer::default();
        for (flag, name, more) in &things {
            if *flag == b'0' { writer.item(*flag, name, b"", more) } else { writer.item(*flag, name, more, b"") }
        }
        let archive = writer.end();
        let (found, ended) = read(&archive, &sizes).expect("an archive");
        prop_assert!(ended);
        prop_assert_eq!(found.len(), things.len());
        for ((flag, name, more), (item, content)) in things.iter().zip(&found) {
            prop_assert_eq!(name, &item.name);
            prop_assert_eq!(more, if *flag == b'0' { content } else { &item.target });
        }
        // Whatever is missing at the end, nothing else comes out of it.
        let cut = sizes[0].min(archive.len());
        let (fewer, ended) = read(&archive[..archive.len() - cut], &sizes).expect("an archive");
        prop_assert!(ended || cut > 512);
        for (short, whole) in fewer.iter().zip(&found) {
            prop_assert_eq!(&short.0, &whole.0);
            prop_assert!(whole.1.starts_with(&short.1));
        }
    }

    #[test]
    fn arbitrary_bytes_end_in_an_error_or_an_end(bytes in vec(any::<u8>(), 0..5000), sizes in vec(1_usize..2000, 1..10)) {
        drop(read(&bytes, &sizes));
    }

    /// Headers with a right checksum, and anything in them and after them.
    #[test]
    fn arbitrary_headers_do_neither(
        headers in vec((any::<[u8; 32]>(), prop::sample::select(b"0157xgLKS26\0".to_vec()), 0..4000_u64, vec(any::<u8>(), 0..1500)), 1..6),
        digits in "[0-9]{1,3}[ ,]?(GNU.sparse.(map|offset|numbytes|size|realsize|major|name)|path|size)?=?[0-9,]{0,9}\n",
    ) {
        let mut tar = Tar::new();
        let mut writer = Writer::default();
        for (noise, flag, stated, data) in headers {
            let mut block = [0; 512];
            block[124..136].copy_from_slice(format!("{stated:011o}\0").as_bytes());
            block[386..418].copy_from_slice(&noise);
            block[482..514 - 2].copy_from_slice(&noise[2..]);
            block[156] = flag;
            writer.block(block);
            writer.data(if flag == b'x' { digits.as_bytes() } else { &data });
        }
        tar.feed(writer.end().into());
        // A vast hole has as many pieces as it has; this many are enough.
        for _ in 0..10_000 {
            if matches!(tar.next(), Err(_) | Ok(None | Some(Event::End))) {
                break;
            }
        }
    }
}

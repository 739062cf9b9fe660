//! What real engines give of real containers.

use std::{os::unix::net::UnixListener, time::Duration};

use tc_engine::{Content, Kind, ReadError};

use super::{
    bytes,
    engines::{Ran, engines},
    file, read, told,
};

#[tokio::test]
async fn files_are_found_through_links_and_never_on_the_host() {
    let script = "
        mkdir -p /out/deep/er /other; echo one > /out/one; echo two > /other/two; echo closed > /out/closed; chmod 0 /out/closed
        echo inside > /etc/shadow
        ln -s /other/two /out/absolute; ln -s ../../one /out/deep/er/relative; ln -s /out/deep /by; ln -s er/../../one /out/deep/dots
        ln -s /etc/shadow /out/shadow; ln -s /nowhere /out/dangling; ln -s b /out/a; ln -s a /out/b; ln -s ../../../../../out/one /out/up
        ln -s /by/er/relative /out/chain
        mkfifo /out/fifo; mknod /out/null c 1 3; : > /out/empty
        i=0; last=/out/one; while [ $i -lt 41 ]; do ln -s $last /out/hop$i; last=hop$i; i=$((i+1)); done
        odd=$(printf '/out/a\\nb %%2f?&=+é'); echo odd > \"$odd\"
        echo root > /at-root; dd if=/dev/zero of=/out/large bs=1M count=3 2> /dev/null; ln -s large /out/to-large
    ";
    let host_secret = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    for engine in engines("files_are_found_through_links_and_never_on_the_host").await {
        let ran = Ran::script(&engine, script, &[], &[]).await;
        let long = "x".repeat(300);
        for (path, expected) in [
            ("/out/one", "one\n"),
            ("out/one", "one\n"),
            ("./out//deep/../one/", "one\n"),
            ("at-root", "root\n"),
            ("/out/closed", "closed\n"),
            ("/out/empty", ""),
            ("/out/absolute", "two\n"),
            ("/out/deep/er/relative", "one\n"),
            ("/by/er/relative", "one\n"),
            ("/out/deep/dots", "one\n"),
            ("/out/chain", "one\n"),
            ("/out/up", "one\n"),
            ("/out/hop39", "one\n"),
            ("/out/hop40", "!too many levels of symbolic links"),
            ("/out/shadow", "inside\n"),
            ("/out/a\nb %2f?&=+é", "odd\n"),
            ("/out/large", "stream of 3145728"),
            ("/out/to-large", "stream of 3145728"),
            ("/out/dangling", "!missing"),
            ("/out/nothing", "!missing"),
            ("/out/one/below", "!missing"),
            ("/nowhere/at/all", "!missing"),
            ("/out/a", "!too many levels of symbolic links"),
            ("/out/fifo", "!is a named pipe, which has no content to upload"),
            ("/out/null", "!is a character device, which has no content to upload"),
            ("/out", "!directory"),
            ("/by", "!directory"),
            ("/", "!directory"),
            ("", "!directory"),
        ] {
            assert_eq!(file(&ran.archive, path).await, expected, "{path} on {}", engine.host());
        }
        assert!(file(&ran.archive, &long).await.starts_with('!'));
        assert_ne!(file(&ran.archive, "/etc/hostname").await, host_secret);
    }
}

#[tokio::test]
async fn a_directory_is_read_to_its_end_whatever_is_in_it() {
    let script = "
        mkdir -p /out/b/c /out/b.d /out/none; echo 1 > /out/b/c/1; echo 2 > /out/b/2; echo 3 > /out/b.d/3; echo 4 > /out/a; chmod 0 /out/a
        ln /out/a /out/b/same; ln -s ../a /out/b/link; ln -s b /out/to-directory; ln -s nothing /out/dangling; ln -s loop /out/loop
        mkfifo /out/fifo; mknod /out/disk b 7 0; : > /out/zero
        echo odd > \"$(printf '/out/bad\\377')\"; echo line > \"$(printf '/out/line\\nbreak')\"; mkdir /out/...; echo dots > /out/.../..x
        dd if=/dev/urandom of=/out/medium bs=1M count=5 2> /dev/null; ln /out/medium /out/zz-same-medium; sha256sum < /out/medium > /sum
        dd if=/dev/zero of=/out/sparse bs=1 count=1 seek=3000000 2> /dev/null
        dd if=/dev/zero of=/out/vast bs=1 count=1 seek=80000000 2> /dev/null
        long=/out/$(printf 'x%.0s' $(seq 200)); mkdir -p $long/$(printf 'y%.0s' $(seq 200)); echo long > $long/$(printf 'y%.0s' $(seq 200))/z
        ln -s /out /way; mkdir /empty
    ";
    let long = format!("{}/{}/z", "x".repeat(200), "y".repeat(200));
    for engine in engines("a_directory_is_read_to_its_end_whatever_is_in_it").await {
        let ran = Ran::script(&engine, script, &[], &[]).await;
        let expected = [
            ".../..x=dots\n",
            "a=4\n",
            "b/2=2\n",
            "b/c/1=1\n",
            "b.d/3=3\n",
            "bad\u{fffd}=!its name is not valid UTF-8",
            "disk=!is a block device, which has no content to upload",
            "fifo=!is a named pipe, which has no content to upload",
            "line\nbreak=line\n",
            "medium=file of 5242880",
            "sparse=file of 3000001",
            &format!("{long}=long\n"),
            "zero=",
            // Links and what is large.
            "b/link=4\n",
            "b/same=4\n",
            "dangling=!missing",
            "loop=!too many levels of symbolic links",
            "to-directory=!directory",
            "vast=stream of 80000001",
            "zz-same-medium=stream of 5242880",
        ];
        for path in ["/out", "way", "/out/"] {
            assert_eq!(read(&ran.archive, path, Kind::Directory).await, expected, "{path} on {}", engine.host());
        }
        assert_eq!(read(&ran.archive, "/empty", Kind::Directory).await, [""; 0]);
        for (path, expected) in [
            ("/nothing", "=!missing"),
            ("/out/a", "=!no directory"),
            ("/out/b/link", "=!no directory"),
            ("/out/loop", "=!too many levels of symbolic links"),
            ("/out/fifo", "=!is a named pipe, which has no content to upload"),
        ] {
            assert_eq!(read(&ran.archive, path, Kind::Directory).await, [expected], "{path}");
        }
        // The bytes of the spooled one are the right ones.
        let mut entries = ran.archive.read("/out", Kind::Directory);
        let mut found = None;
        while let Some(entry) = entries.recv().await {
            if entry.relative == "medium" {
                assert_eq!(entry.shown, "/out/medium");
                found = Some(entry.content.expect("a file"));
            }
        }
        let content = bytes(found.expect("medium")).await;
        let sum = file(&ran.archive, "/sum").await;
        assert_eq!(sum.split(' ').next().map(str::to_owned), Some(sha256(&content)));
        assert_eq!(std::fs::read_dir(ran.spool()).expect("readable").count(), 0);
    }
}

fn sha256(content: &[u8]) -> String {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum runs");
    child.stdin.take().expect("piped").write_all(content).expect("written");
    let output = child.wait_with_output().expect("a sum");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn volumes_and_binds_of_a_stopped_container_are_seen() {
    for engine in engines("volumes_and_binds_of_a_stopped_container_are_seen").await {
        let host = tempfile::tempdir().expect("a directory");
        std::fs::write(host.path().join("before"), "before\n").expect("written");
        let _socket = UnixListener::bind(host.path().join("socket")).expect("a socket");
        let bind = format!("{}:/cache", host.path().display());
        let script = "echo v > /volume/file; ln -s /volume /cache/link; echo after > /cache/after; echo out > /plain";
        let ran = Ran::script(&engine, script, &["/volume", "/deep/volume"], &[bind]).await;
        assert_eq!(read(&ran.archive, "/volume", Kind::Directory).await, ["file=v\n"]);
        assert_eq!(read(&ran.archive, "/deep", Kind::Directory).await, [""; 0]);
        assert_eq!(read(&ran.archive, "/cache/link", Kind::Directory).await, ["file=v\n"], "through a volume");
        // Archives hold no sockets; asked for by its name, it is one.
        assert_eq!(
            read(&ran.archive, "/cache", Kind::Directory).await,
            ["after=after\n", "before=before\n", "link=!directory"]
        );
        let socket = file(&ran.archive, "/cache/socket").await;
        assert_eq!(socket, "!is a socket, which has no content to upload", "{}", engine.host());
    }
}

#[tokio::test]
async fn streams_can_be_opened_again_and_notice_what_changed() {
    for engine in engines("streams_can_be_opened_again_and_notice_what_changed").await {
        let host = tempfile::tempdir().expect("a directory");
        let path = host.path().join("file");
        std::fs::write(&path, vec![7; 3 << 20]).expect("written");
        let bind = format!("{}:/cache", host.path().display());
        let ran = Ran::script(&engine, "true", &[], &[bind]).await;
        let entry = ran.archive.read("/cache/file", Kind::File).recv().await.expect("an entry");
        let Ok(Content::Stream(stream)) = entry.content else { panic!("it is large") };
        // Given up in the middle: the next one does not have to wait for long, and begins at the first byte.
        let mut cut = stream.open().await.expect("opened");
        cut.next().await.expect("read").expect("a piece");
        drop(cut);
        assert_eq!(bytes(Content::Stream(stream.clone())).await, vec![7; 3 << 20]);
        std::fs::write(&path, vec![7; (3 << 20) + 1]).expect("written");
        let broken = stream.open().await.err().expect("it grew");
        assert_eq!(broken, ReadError::Broken("it had 3145728 bytes and now has 3145729".to_owned()));
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(stream.open().await, Err(ReadError::Broken(_))));
    }
}

/// As when the store has a bad minute: everybody who uploads wants another stream while a directory is being read.
#[tokio::test]
async fn a_directory_whose_reader_waits_for_another_stream_goes_on() {
    let script =
        "mkdir /out; for i in $(seq 10 40); do echo $i > /out/$i; done; dd if=/dev/zero of=/large bs=1M count=2 2> /dev/null";
    for engine in engines("a_directory_whose_reader_waits_for_another_stream_goes_on").await {
        let ran = Ran::script(&engine, script, &[], &[]).await;
        let large = ran.archive.read("/large", Kind::File).recv().await.expect("an entry").content.expect("a file");
        let mut entries = ran.archive.read("/out", Kind::Directory);
        let mut lines = vec![told(entries.recv().await.expect("an entry")).await];
        // The walk has the turn, and nobody takes its entries until this is through.
        let came = tokio::time::timeout(Duration::from_secs(30), bytes(large)).await.expect("no deadlock");
        assert_eq!(came.len(), 2 << 20);
        while let Some(entry) = entries.recv().await {
            lines.push(told(entry).await);
        }
        let expected: Vec<String> = (10..=40).map(|i| format!("{i}={i}\n")).collect();
        assert_eq!(lines, expected);
    }
}

#[tokio::test]
async fn nobody_keeps_the_container_locked_after_the_reader_is_gone() {
    // The last one is more than sockets hold, so the engine cannot get rid of the archive by itself.
    let script =
        "mkdir /out; for i in $(seq 30); do echo $i > /out/$i; done; dd if=/dev/zero of=/out/z bs=1M count=20 2> /dev/null";
    for engine in engines("nobody_keeps_the_container_locked_after_the_reader_is_gone").await {
        let ran = Ran::script(&engine, script, &[], &[]).await;
        let mut entries = ran.archive.read("/out", Kind::Directory);
        entries.recv().await.expect("an entry");
        // The walk is in its middle, and would wait for its reader as long as nobody else asks by way of the archive.
        drop(entries);
        let inspected = tokio::time::timeout(
            Duration::from_secs(20),
            engine.docker().inspect_container(&ran.id, None::<bollard::query_parameters::InspectContainerOptions>),
        );
        inspected.await.expect("no lock").expect("inspected");
        assert_eq!(file(&ran.archive, "/nothing").await, "!missing");
    }
}

#[tokio::test]
async fn a_container_that_is_not_there_is_no_missing_file() {
    for engine in engines("a_container_that_is_not_there_is_no_missing_file").await {
        let spool = tempfile::tempdir().expect("a directory");
        let archive = super::Archive::new(engine.clone(), "tc-test-archive-no-such", spool.path());
        for kind in [Kind::File, Kind::Directory] {
            let lines = read(&archive, "/out", kind).await;
            assert_eq!(lines.len(), 1);
            assert!(lines[0].to_lowercase().starts_with("=!lost: the container is gone: no such container"), "{lines:?}");
        }
    }
}

//! Measures the loading of an image against `zstd -dc FILE | docker load`, in one run.
//!
//! `cargo run -p tc-engine-docker --example image_load -- HOST TREE WORK`: cuts the files below TREE into eleven layers, writes two
//! archives below WORK (the second one has two other layers on top), and loads them by hand and by our way.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on says so by panicking")]

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use tc_engine::{EngineError, Fault, ImageBytes, ImageStream, ImageWant, Progress};
use tc_engine_docker::{
    Connection,
    image::{Images, ImagesOptions},
};
use tokio::sync::mpsc;

const LAYERS: usize = 11;
const REPEATS: usize = 3;
/// More than this does not come out of a pipe at once.
const PIPE_BYTES: usize = 64 << 10;

/// A file that is digested and decompressed while it is read, as the worker does it with a download.
struct Packed(PathBuf);

struct Unpacking {
    chunks: mpsc::Receiver<Bytes>,
    digest: Option<std::thread::JoinHandle<[u8; 32]>>,
    sha256: Option<[u8; 32]>,
}

#[async_trait]
impl ImageBytes for Packed {
    async fn open(&self) -> Result<Box<dyn ImageStream>, EngineError> {
        let mut zstd = Command::new("zstd").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut to, mut from) = (zstd.stdin.take().unwrap(), zstd.stdout.take().unwrap());
        let mut file = fs::File::open(&self.0).unwrap();
        let digest = std::thread::spawn(move || {
            let mut context = Context::new(&SHA256);
            let mut buffer = vec![0; PIPE_BYTES];
            loop {
                let read = file.read(&mut buffer).unwrap();
                if read == 0 {
                    return context.finish().as_ref().try_into().unwrap();
                }
                context.update(&buffer[..read]);
                to.write_all(&buffer[..read]).unwrap();
            }
        });
        let (sender, chunks) = mpsc::channel(8);
        std::thread::spawn(move || {
            loop {
                let mut buffer = vec![0; PIPE_BYTES];
                let read = from.read(&mut buffer).unwrap();
                buffer.truncate(read);
                if read == 0 || sender.blocking_send(buffer.into()).is_err() {
                    break;
                }
            }
            drop(from);
            zstd.wait()
        });
        Ok(Box::new(Unpacking { chunks, digest: Some(digest), sha256: None }))
    }
}

#[async_trait]
impl ImageStream for Unpacking {
    async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        let next = self.chunks.recv().await;
        if next.is_none()
            && let Some(digest) = self.digest.take()
        {
            self.sha256 = Some(digest.join().map_err(|_| EngineError::new(Fault::Worker, "the digest panicked"))?);
        }
        Ok(next)
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        self.sha256
    }

    fn downloaded(&self) -> (u64, Option<u64>) {
        (0, None)
    }
}

struct Silent;

impl Progress for Silent {
    fn line(&self, text: &str) {
        println!("    {text}");
    }
}

fn shell(script: &str) -> String {
    let output = Command::new("bash").args(["-euo", "pipefail", "-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Builds both archives with standard tools: by hand, so that the engine under test has no part in it.
fn build(tree: &Path, work: &Path) -> Vec<PathBuf> {
    let script = format!(
        r#"
cd {work}; rm -rf lists layers; mkdir lists layers
(cd {tree}; find usr etc bin lib lib64 sbin -xdev ! -type d -printf '%s %p\n' | LC_ALL=C sort -k2) > all
awk -v n={LAYERS} '{{m=0; for (i=1; i<n; i++) if (sum[i]+0 < sum[m]+0) m=i; sum[m]+=$1+512; sub(/^[0-9]+ /, ""); print > sprintf("lists/%02d", m)}}' all
for list in lists/*; do tar -C {tree} --numeric-owner --sort=name -cf layers/$(basename $list).tar -T $list; done
for top in 09 10; do cp layers/$top.tar layers/$top-new.tar; echo $top > more; tar -rf layers/$top-new.tar more; done
"#,
        work = work.display(),
        tree = tree.display()
    );
    shell(&script);
    let pack = |name: &str, suffix: &str| {
        let script = format!(
            r#"
cd {work}; rm -rf pack; mkdir -p pack/blobs/sha256; ids=""; names=""
for n in 00 01 02 03 04 05 06 07 08 09 10; do
  f=layers/$n.tar; case $n in 09|10) f=layers/$n{suffix}.tar;; esac
  h=$(sha256sum < $f | cut -d' ' -f1); ln $f pack/blobs/sha256/$h; ids="$ids,\"sha256:$h\""; names="$names,\"blobs/sha256/$h\""; layers="${{layers:-}},{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:$h\",\"size\":$(stat -c %s $f)}}"
done
printf '{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[%s]}}}}' "${{ids#,}}" > config
c=$(sha256sum < config | cut -d' ' -f1); cs=$(stat -c %s config); mv config pack/blobs/sha256/$c
printf '{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s}},"layers":[%s]}}' $c $cs "${{layers#,}}" > man
m=$(sha256sum < man | cut -d' ' -f1); ms=$(stat -c %s man); mv man pack/blobs/sha256/$m
printf '{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{{"io.containerd.image.name":"docker.io/library/bench-load:x"}}}}]}}' $m $ms > pack/index.json
printf '[{{"Config":"blobs/sha256/%s","RepoTags":["bench-load:x"],"Layers":[%s]}}]' $c "${{names#,}}" > pack/manifest.json
printf '{{"imageLayoutVersion":"1.0.0"}}' > pack/oci-layout
tar -C pack --sort=name -cf - blobs index.json manifest.json oci-layout | zstd -q -3 -T0 -f -o {name}
rm -rf pack
"#,
            work = work.display()
        );
        shell(&script);
        work.join(name)
    };
    let archives = vec![pack("one.tar.zst", ""), pack("two.tar.zst", "-new")];
    shell(&format!("rm -rf {0}/lists {0}/layers {0}/all {0}/more", work.display()));
    archives
}

struct Engine(String);

impl Engine {
    fn docker(&self, args: &str) -> String {
        shell(&format!("docker -H {} {args}", self.0))
    }

    fn clear(&self, names: &[&str]) {
        for name in names {
            let _ = Command::new("docker").args(["-H", &self.0, "rmi", "-f", name]).output();
        }
        // Names are gone at once, what they stood for is being removed for a while on some engines.
        self.docker("images -q >/dev/null");
        shell("sync");
    }

    fn by_hand(&self, archive: &Path) -> Duration {
        timed(|| {
            shell(&format!("zstd -dc {} | docker -H {} load", archive.display(), self.0));
        })
    }

    async fn ours(&self, images: &Images, key: &str, archive: &Path) -> (Duration, String) {
        let want = ImageWant::Artifact { key: key.to_owned(), shown: key.to_owned() };
        let start = Instant::now();
        let image = images.image(&want, Some(Arc::new(Packed(archive.to_owned()))), Arc::new(Silent)).await.unwrap();
        (start.elapsed(), image.id)
    }

    async fn images(&self) -> (Images, tempfile::TempDir) {
        let state = tempfile::tempdir().unwrap();
        let connection = Connection::open(&self.0).await.unwrap();
        (Images::new(ImagesOptions::new(connection, state.path().to_owned())), state)
    }
}

fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [host, tree, work] = args.as_slice() else { panic!("usage: image_load HOST TREE WORK") };
    let engine = Engine(host.clone());
    let work = Path::new(work);
    fs::create_dir_all(work).unwrap();
    let archives = if work.join("two.tar.zst").exists() {
        vec![work.join("one.tar.zst"), work.join("two.tar.zst")]
    } else {
        build(Path::new(tree), work)
    };
    let bytes = shell(&format!("zstd -dc {} | wc -c", archives[1].display()));
    println!("{host}: {bytes} bytes in {LAYERS} layers, {} compressed", fs::metadata(&archives[1]).unwrap().len());
    let (mut hand, mut cold, mut half, mut warm, mut hand_half) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..REPEATS {
        hand.push(engine.by_hand(&archives[1]));
        engine.clear(&["bench-load:x"]);

        let (images, _state) = engine.images().await;
        let (time, id) = engine.ours(&images, "bench:two", &archives[1]).await;
        cold.push(time);
        warm.push(engine.ours(&images, "bench:two", &archives[1]).await.0);
        engine.clear(&[&id]);

        let (images, _state) = engine.images().await;
        let (_, one) = engine.ours(&images, "bench:one", &archives[0]).await;
        let (time, two) = engine.ours(&images, "bench:two", &archives[1]).await;
        half.push(time);
        engine.clear(&[&two]);
        hand_half.push(engine.by_hand(&archives[1]));
        engine.clear(&["bench-load:x", &one]);
    }
    let floor = middle(hand);
    println!("by hand: {floor:.2} s; by hand with 9 layers there: {:.2} s", middle(hand_half));
    for (what, times) in [("cold", cold), ("9 of 11 layers there", half), ("warm", warm)] {
        let time = middle(times);
        println!("{what}: {time:.3} s, {:.3} x by hand", time / floor);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}

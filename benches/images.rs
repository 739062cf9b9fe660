//! What an image costs until a container can be made from it, beside `curl | zstd -dc | docker load` in the same run.
//!
//! `cargo bench --profile ci --bench images` prints a table for each engine that `TC_DOCKER_CLASSIC`, `TC_DOCKER_GRAPH` and
//! `TC_DOCKER_CONTAINERD` name. `TC_DOCKER_TREE` is the root of a file system, of which images in eleven layers are made; it should
//! have some hundred megabytes. The archives are artifacts of a task in a queue of this process, for both. Everything is in turns, and
//! the disk comes to rest in between, so that whatever else the machine does hits both; medians count.
//!
//! The road past the engine is measured where the engine keeps its images in containerd's store and this process is root.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use support::{Deployment, engines, middle, resident, shell};
use tc_engine::{ImageBytes, ImageWant, Progress};
use tc_engine_docker::{
    Connection,
    image::{Images, ImagesOptions},
};
use tc_worker::content::{Artifact, ImageArchive};

#[expect(dead_code, reason = "each bench needs some of it")]
mod support;

const NAMES: [&str; 2] = ["public/one.tar.zst", "public/two.tar.zst"];
/// How often the disk is looked at while something loads.
const LOOK: Duration = Duration::from_millis(20);

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let rounds = if smoke { 1 } else { 5 };
    let mut engines = engines();
    if smoke {
        // That it runs, not what it measures: the last one takes every road.
        engines.drain(..engines.len().saturating_sub(1));
    }
    let Ok(tree) = std::env::var("TC_DOCKER_TREE") else { return println!("NOT RUN: TC_DOCKER_TREE names no file system") };
    if engines.is_empty() {
        return println!("NOT RUN: no variable names a Docker engine");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let deployment = Deployment::start().await;
        let work = tempfile::tempdir().expect("a directory");
        shell(build(Path::new(&tree), work.path())).await;
        let mut bench = Bench { deployment, tasks: Vec::new() };
        for (file, name) in ["one.tar.zst", "two.tar.zst"].iter().zip(NAMES) {
            bench.tasks.push(bench.deployment.publish(&work.path().join(file), name).await);
        }
        let sizes = shell(format!("cd {0}; stat -c %s two.tar.zst; zstd -dc two.tar.zst | wc -c", work.path().display())).await;
        println!("An image of {} bytes (compressed, and not), 11 layers.\n", sizes.replace('\n', " and "));
        println!("| engine | image | measured | floor in the same run | ratio |");
        println!("|---|---|---|---|---|");
        for (kind, host) in engines {
            bench.measure(kind, &host, rounds).await;
        }
        println!("\nresident at most, queue included: {}", resident());
    });
}

/// Two images, of which the second has two other layers on top, made by standard tools, so that what is measured has no part in them.
fn build(tree: &Path, work: &Path) -> String {
    let script = r#"
cd WORK; mkdir lists layers
(cd TREE; find usr etc bin lib lib64 sbin -xdev ! -type d -printf '%s %p\n' | LC_ALL=C sort -k2) > all
awk -v n=11 '{m=0; for (i=1; i<n; i++) if (sum[i]+0 < sum[m]+0) m=i; sum[m]+=$1+512; sub(/^[0-9]+ /, ""); print > sprintf("lists/%02d", m)}' all
for list in lists/*; do tar -C TREE --numeric-owner --sort=name -cf layers/$(basename $list).tar -T $list; done
for top in 09 10; do cp layers/$top.tar layers/$top-new.tar; echo $top > more; tar -rf layers/$top-new.tar more; done
pack() {
  rm -rf pack; mkdir -p pack/blobs/sha256; ids=""; names=""; layers=""
  for n in 00 01 02 03 04 05 06 07 08 09 10; do
    f=layers/$n.tar; case $n in 09|10) f=layers/$n$2.tar;; esac
    h=$(sha256sum < $f | cut -d' ' -f1); ln $f pack/blobs/sha256/$h; ids="$ids,\"sha256:$h\""; names="$names,\"blobs/sha256/$h\""
    layers="$layers,{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:$h\",\"size\":$(stat -c %s $f)}"
  done
  printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}' "${ids#,}" > config
  c=$(sha256sum < config | cut -d' ' -f1); cs=$(stat -c %s config); mv config pack/blobs/sha256/$c
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[%s]}' $c $cs "${layers#,}" > man
  m=$(sha256sum < man | cut -d' ' -f1); ms=$(stat -c %s man); mv man pack/blobs/sha256/$m
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"io.containerd.image.name":"docker.io/library/tc-bench-load:x"}}]}' $m $ms > pack/index.json
  printf '[{"Config":"blobs/sha256/%s","RepoTags":["tc-bench-load:x"],"Layers":[%s]}]' $c "${names#,}" > pack/manifest.json
  printf '{"imageLayoutVersion":"1.0.0"}' > pack/oci-layout
  tar -C pack --sort=name -cf - blobs index.json manifest.json oci-layout | zstd -q -3 -T0 -f -o $1
}
pack one.tar.zst ""; pack two.tar.zst "-new"
rm -rf pack lists layers all more
"#;
    script.replace("WORK", &work.display().to_string()).replace("TREE", &tree.display().to_string())
}

struct Silent;

impl Progress for Silent {
    fn line(&self, _: &str) {}
}

/// How long something took, and how many bytes lay on the disk for its sake at most.
#[derive(Default)]
struct Took {
    times: Vec<Duration>,
    spooled: u64,
}

impl Took {
    fn add(&mut self, (time, spooled): (Duration, u64)) {
        self.times.push(time);
        self.spooled = self.spooled.max(spooled);
    }
}

struct Bench {
    deployment: Deployment,
    tasks: Vec<String>,
}

impl Bench {
    async fn measure(&self, kind: &str, host: &str, rounds: usize) {
        let (mut hand, mut cold, mut half, mut warm, mut past) =
            (Took::default(), Took::default(), Took::default(), Took::default(), Took::default());
        let root = docker(host, "info --format {{.DockerRootDir}}").await;
        let containerd = docker(host, "info --format '{{.DriverStatus}}'").await.contains("io.containerd.snapshotter");
        for _ in 0..rounds {
            hand.add(self.by_hand(host, &root).await);
            clear(host, &["tc-bench-load:x"]).await;

            let (images, state) = images(host, false).await;
            let (took, id) = self.ours(&images, 1, &root, state.path()).await;
            cold.add(took);
            warm.add(self.ours(&images, 1, &root, state.path()).await.0);
            clear(host, &[&id]).await;

            let (images, state) = self::images(host, false).await;
            let (_, one) = self.ours(&images, 0, &root, state.path()).await;
            let (took, two) = self.ours(&images, 1, &root, state.path()).await;
            half.add(took);
            clear(host, &[&two, &one]).await;

            if containerd {
                let (images, state) = self::images(host, true).await;
                let (took, id) = self.ours(&images, 1, &root, state.path()).await;
                past.add(took);
                clear(host, &[&id]).await;
            }
        }
        let floor = middle(&hand.times);
        let mut rows = vec![("cold", &cold), ("9 of 11 layers there", &half), ("warm", &warm)];
        if containerd {
            rows.push(("cold, past the engine", &past));
        }
        for (what, took) in rows {
            let time = middle(&took.times);
            println!("| {kind} | {what} | {time:.2} s | {floor:.2} s | {:.2} × |", time / floor);
        }
        let mib = |took: &Took| took.spooled >> 20;
        let (by_hand, through, past) = (mib(&hand), mib(&cold).max(mib(&half)), mib(&past));
        let past = if containerd { format!("; past the engine {past} MiB") } else { String::new() };
        println!("| {kind} | peak of temporary files, the engine's included | {through} MiB{past} | {by_hand} MiB | |");
    }

    async fn by_hand(&self, host: &str, root: &str) -> (Duration, u64) {
        let url = self.deployment.url(&self.tasks[1], NAMES[1]);
        let disk = Disk::watch(vec![format!("{root}/tmp").into()]);
        let began = Instant::now();
        shell(format!("curl -sfL '{url}' | zstd -dc | docker -H {host} load")).await;
        (began.elapsed(), disk.peak())
    }

    async fn ours(&self, images: &Images, number: usize, root: &str, state: &Path) -> ((Duration, u64), String) {
        let queue = self.deployment.queue.clone();
        let task_id = self.tasks[number].clone();
        let key = format!("bench/{number}");
        let archive = ImageArchive::new(Artifact { queue, task_id, run_id: 0, name: NAMES[number].to_owned() });
        let want = ImageWant::Artifact { key: key.clone(), shown: key };
        let disk = Disk::watch(vec![format!("{root}/tmp").into(), state.to_owned()]);
        let began = Instant::now();
        let archive: Arc<dyn ImageBytes> = Arc::new(archive);
        let image = images.image(&want, Some(archive), Arc::new(Silent)).await.expect("an image");
        ((began.elapsed(), disk.peak()), image.id)
    }
}

async fn images(host: &str, past_the_engine: bool) -> (Images, tempfile::TempDir) {
    let state = tempfile::tempdir().expect("a directory");
    let connection = Connection::open(host).await.expect("the engine answers");
    let options = ImagesOptions { past_the_engine, ..ImagesOptions::new(connection, state.path().to_owned()) };
    (Images::new(options), state)
}

async fn docker(host: &str, arguments: &str) -> String {
    shell(format!("docker -H {host} {arguments}")).await
}

/// Removes images and waits until the disk has come to rest.
async fn clear(host: &str, names: &[&str]) {
    for name in names {
        shell(format!("docker -H {host} rmi -f {name} > /dev/null 2>&1 || true")).await;
    }
    // Names are gone at once, what they stood for is being removed for a while on some engines.
    shell(format!("docker -H {host} images -q > /dev/null; sync")).await;
}

/// Bytes below some directories, looked at again and again on a thread of its own.
struct Disk {
    peak: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Disk {
    fn watch(dirs: Vec<std::path::PathBuf>) -> Self {
        let (peak, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (highest, ended) = (Arc::clone(&peak), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let now = dirs.iter().map(|dir| below(dir)).sum();
                highest.fetch_max(now, Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        Self { peak, over, thread }
    }

    fn peak(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
        self.peak.load(Ordering::Relaxed)
    }
}

/// Bytes of all files below a directory. What goes away meanwhile has no bytes.
fn below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => below(&entry.path()),
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    };
    entries.map(size).sum()
}

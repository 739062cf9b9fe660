//! Measures the log path against what a shell does with the same bytes on the same machine in the same run.
//!
//! ```text
//! cargo bench --bench log                  # real text of this machine: a listing of its files, its C headers, our sources
//! cargo bench --bench log -- FILE…         # logs of your own
//! ```

#![expect(clippy::cast_precision_loss, reason = "ratios and rates are printed with a few digits")]

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tc_engine::Sink as _;
use tc_worker::{
    log::{LiveServer, LogOptions, TaskLog},
    seam::{SystemClock, SystemRandom},
};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const MIB: f64 = (1 << 20) as f64;

/// What goes through the log path in one round.
const FLOOD_BYTES: u64 = 512 << 20;

const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let given: Vec<PathBuf> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).map(PathBuf::from).collect();
    let dir = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let samples = if given.is_empty() { machine_text(dir.path())? } else { given };

    println!("| what | budget | measured |\n|---|---|---|");
    flood(&runtime, dir.path(), &samples)?;
    let mut rate = f64::INFINITY;
    for sample in &samples {
        rate = rate.min(compression(&runtime, dir.path(), sample)?);
    }
    seals(&runtime, dir.path(), &samples[0], rate)?;
    Ok(())
}

/// Files of real text that every machine has.
fn machine_text(dir: &Path) -> Result<Vec<PathBuf>> {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut samples = Vec::new();
    for (name, script) in [
        ("listing", "find /usr /etc /var -xdev -ls 2>/dev/null | head -c 32000000"),
        ("headers", "find /usr/include -name '*.h' -type f -exec cat {} + 2>/dev/null | head -c 16000000"),
        ("sources", "cat $(find \"$0\" -name '*.rs')"),
    ] {
        let path = dir.join(name);
        let status = Command::new("sh").args(["-c", script, sources]).stdout(File::create(&path)?).status()?;
        if status.success() && fs::metadata(&path)?.len() > 1000 {
            samples.push(path);
        }
    }
    Ok(samples)
}

fn new_log(dir: &Path) -> Result<Arc<TaskLog>> {
    Ok(TaskLog::create(LogOptions::new(dir.join("spool"), "log", Arc::new(SystemClock)))?)
}

/// `cat F` through a pipe into the log, with one live and one stalled reader, against `cat F | cat > file`.
fn flood(runtime: &tokio::runtime::Runtime, dir: &Path, samples: &[PathBuf]) -> Result<()> {
    let input = dir.join("flood");
    let mut file = File::create(&input)?;
    let mut size = 0;
    while size < FLOOD_BYTES {
        for sample in samples {
            size += io::copy(&mut File::open(sample)?, &mut file)?;
        }
    }
    drop(file);

    let mut ratios = Vec::new();
    let mut rates = Vec::new();
    for round in 0..=ROUNDS {
        let begin = Instant::now();
        let script = "cat \"$0\" | cat > \"$1\"";
        let status = Command::new("sh").args(["-c", script]).arg(&input).arg(dir.join("copy")).status()?;
        let floor = begin.elapsed();
        assert!(status.success());
        fs::remove_file(dir.join("copy"))?;
        let took = runtime.block_on(flood_once(dir, &input, size))?;
        // The first round fills the caches.
        if round > 0 {
            ratios.push(floor.as_secs_f64() / took.as_secs_f64());
            rates.push(size as f64 / MIB / took.as_secs_f64());
        }
    }
    ratios.sort_by(f64::total_cmp);
    rates.sort_by(f64::total_cmp);
    println!(
        "| log path, one live and one stalled reader | ≥ 0.6 × `cat F \\| cat > file` | {:.2} × ({:.2}–{:.2}; {:.0} MiB/s) |",
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1],
        rates[ROUNDS / 2]
    );
    println!("| peak resident, this program | ≤ 20 MB | {:.1} MB |", peak_resident_mb()?);
    fs::remove_file(input)?;
    Ok(())
}

async fn flood_once(dir: &Path, input: &Path, size: u64) -> Result<Duration> {
    let log = new_log(dir)?;
    let server = LiveServer::bind((Ipv4Addr::LOCALHOST, 0).into(), Arc::new(SystemRandom)).await?;
    let published = server.publish(&log);
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", published.path());
    let connect = || -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port()))?;
        stream.write_all(request.as_bytes())?;
        Ok(stream)
    };
    let stalled = connect()?;
    let mut live = connect()?;
    let reading = thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        let mut seen = 0;
        while let Ok(n @ 1..) = live.read(&mut buffer) {
            seen += n as u64;
        }
        seen
    });

    let begin = Instant::now();
    let mut cat = Command::new("cat").arg(input).stdout(Stdio::piped()).spawn()?;
    let mut pipe = cat.stdout.take().ok_or("no pipe")?;
    let sink = Arc::clone(&log);
    let pumping = thread::spawn(move || -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match pipe.read(&mut buffer)? {
                0 => return Ok(()),
                n => sink.write(&buffer[..n]),
            }
        }
    });
    pumping.join().map_err(|_| "the pump panicked")??;
    let took = begin.elapsed();
    cat.wait()?;
    assert_eq!(log.len(), size);
    // Ends the readers; what it compresses is measured elsewhere.
    drop(log);
    assert!(reading.join().map_err(|_| "the reader panicked")? >= size);
    drop(stalled);
    Ok(took)
}

/// The size against `gzip -6`, and the rate of `gzip -6` in bytes per second.
fn compression(runtime: &tokio::runtime::Runtime, dir: &Path, sample: &Path) -> Result<f64> {
    let plain_bytes = fs::metadata(sample)?.len();
    let reference = dir.join("reference.gz");
    let begin = Instant::now();
    Command::new("gzip").args(["-6", "-n", "-c"]).arg(sample).stdout(File::create(&reference)?).status()?;
    let rate = plain_bytes as f64 / begin.elapsed().as_secs_f64();
    let reference_bytes = fs::metadata(&reference)?.len();

    let log = new_log(dir)?;
    log.write(&fs::read(sample)?);
    let begin = Instant::now();
    let sealed = runtime.block_on(log.seal())?;
    let own_rate = plain_bytes as f64 / begin.elapsed().as_secs_f64();
    assert_eq!(sealed.plain_bytes, plain_bytes);
    println!(
        "| compressed size, {} ({:.1} MiB) | ≤ 1.02 × `gzip -6` | {:.4} × ({:.0} MiB/s; `gzip -6` {:.0} MiB/s) |",
        sample.file_name().unwrap_or_default().display(),
        plain_bytes as f64 / MIB,
        sealed.gzip_bytes as f64 / reference_bytes as f64,
        own_rate / MIB,
        rate / MIB,
    );
    Ok(rate)
}

/// From the last line to the sealed log: right after a flood, after a log that the compressor could follow, and of a small log.
fn seals(runtime: &tokio::runtime::Runtime, dir: &Path, sample: &Path, gzip_rate: f64) -> Result<()> {
    let text = fs::read(sample)?;
    let row = |what: &str, rest: usize, took: Duration| {
        let allowed = Duration::from_secs_f64(rest as f64 / gzip_rate) + Duration::from_millis(100);
        println!("| last line → sealed, {what} | ≤ {allowed:.1?} (bytes / `gzip -6` rate + 100 ms) | {took:.1?} |");
    };

    let log = new_log(dir)?;
    text.chunks(64 << 10).for_each(|piece| log.write(piece));
    row("right after a flood", text.len(), seal(runtime, &log)?);

    let log = new_log(dir)?;
    for piece in text.chunks(64 << 10) {
        log.write(piece);
        // As fast as half of what gzip does, so that the compressor follows.
        thread::sleep(Duration::from_secs_f64(2.0 * piece.len() as f64 / gzip_rate));
    }
    row("of a log that came slowly", 0, seal(runtime, &log)?);

    let mut times = Vec::new();
    for _ in 0..200 {
        let log = new_log(dir)?;
        log.write(&text[..500.min(text.len())]);
        times.push(seal(runtime, &log)?);
    }
    times.sort();
    row("of 500 bytes, p50", 500, times[100]);

    let begin = Instant::now();
    for _ in 0..1000 {
        let log = new_log(dir)?;
        log.write(b"hello\n");
        log.info("Exit Code: 0");
        drop((runtime.block_on(log.seal())?, log));
    }
    println!("| a whole log of two lines: create, write, seal, vanish | | {:.0?} |", begin.elapsed() / 1000);
    Ok(())
}

fn seal(runtime: &tokio::runtime::Runtime, log: &TaskLog) -> Result<Duration> {
    let begin = Instant::now();
    log.error("the last line");
    runtime.block_on(log.seal())?;
    Ok(begin.elapsed())
}

fn peak_resident_mb() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}

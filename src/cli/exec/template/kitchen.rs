//! The kitchen: a process of this program that renders one template and ends, with bounds on time, memory, depth and size.
//!
//! ```text
//! cook: request ─stdin─▶ kitchen ─stdout─▶ tasks or what is wrong
//!         └─ too slow, too much, crashed ─▶ killed, and that is what is wrong
//! ```

use std::{
    io::{self, Read, Write},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::render::{Failed, Request, render};
use crate::{
    graph::rendered::{Batch, Rendered},
    seam::{SystemRandom, slugid},
};

/// The only argument of a kitchen. People do not type it.
const ENTRY: &str = "render a template of tasks";
/// This program, also after its file was replaced.
const MYSELF: &str = "/proc/self/exe";
/// How long rendering may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same in seconds of a processor, in case nobody is left who is patient.
const PROCESSOR_SECS: u64 = 20;
/// How much memory a kitchen may ask for.
const MEMORY_BYTES: u64 = 2 << 30;
/// Its stack. Only what is used of it costs anything.
const STACK_BYTES: usize = 256 << 20;
/// The largest result.
const RESULT_BYTES: u64 = 64 << 20;

/// Renders in a kitchen. Blocks for `PATIENCE` at most, and a little.
pub fn cook(request: &Request) -> Result<Batch, Failed> {
    let whole = |message: String| Failed { message, pointer: "/tasks".to_owned() };
    let order = serde_json::to_vec(request).map_err(|error| whole(format!("cannot be handed over: {error}")))?;
    match serve(order) {
        Ok(answer) => match serde_json::from_slice::<Answer>(&answer) {
            Ok(Answer::Tasks { tasks, ids }) => {
                let tasks = tasks.into_iter().map(|(pointer, value)| Rendered { value, pointer }).collect();
                Ok(Batch { tasks, ids })
            }
            Ok(Answer::Failed(failed)) => Err(failed),
            Err(_) => Err(whole("gives something that is nested too deeply".to_owned())),
        },
        Err(message) => Err(whole(message)),
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
enum Answer {
    Tasks {
        /// Each with the part of the template that it comes from.
        tasks: Vec<(String, serde_json::Value)>,
        /// Labels with their ids.
        ids: Vec<(String, String)>,
    },
    Failed(Failed),
}

/// One visit to a kitchen.
fn serve(order: Vec<u8>) -> Result<Vec<u8>, String> {
    let unusable = |error: io::Error| format!("cannot be rendered: start a process for it: {error}");
    let mut kitchen = Command::new(MYSELF)
        .arg0("tc-worker")
        .arg(ENTRY)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(unusable)?;
    let answer = wait(&mut kitchen, order);
    // Of a process that has ended there is nothing to kill.
    drop(kitchen.kill());
    let ended = kitchen.wait().map_err(unusable)?;
    match answer {
        None => Err(format!("takes longer than {} s to render", PATIENCE.as_secs())),
        Some(Err(error)) => Err(format!("cannot be rendered: {error}")),
        Some(Ok(answer)) if answer.len() as u64 > RESULT_BYTES => {
            Err(format!("gives more than {} MiB of tasks", RESULT_BYTES >> 20))
        }
        Some(Ok(answer)) if answer.is_empty() => Err(match ended.signal() {
            Some(_) => "is nested too deeply or needs too much memory to render".to_owned(),
            None => "cannot be rendered: the JSON-e library has failed".to_owned(),
        }),
        Some(Ok(answer)) => Ok(answer),
    }
}

/// Hands the order in and waits for the answer; none when it takes too long.
fn wait(kitchen: &mut Child, order: Vec<u8>) -> Option<io::Result<Vec<u8>>> {
    let (mut stdin, stdout) = (kitchen.stdin.take()?, kitchen.stdout.take()?);
    let (tell, told) = mpsc::channel();
    // Both end when the kitchen does.
    std::thread::spawn(move || {
        // A kitchen that does not listen says why.
        drop(stdin.write_all(&order));
    });
    std::thread::spawn(move || {
        let mut answer = Vec::new();
        let read = stdout.take(RESULT_BYTES + 1).read_to_end(&mut answer);
        drop(tell.send(read.map(|_| answer)));
    });
    match told.recv_timeout(PATIENCE) {
        Ok(answer) => Some(answer),
        Err(mpsc::RecvTimeoutError::Timeout) => None,
        Err(mpsc::RecvTimeoutError::Disconnected) => Some(Err(io::Error::other("its reader has failed"))),
    }
}

/// Whether this process is a kitchen; then it has done its work, and this is its exit code.
pub fn entered() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ENTRY || arguments.next().is_some() {
        return None;
    }
    let code = |well: bool| if well { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let limit = |bound: u64| Rlimit { current: Some(bound), maximum: Some(bound) };
    let bounds = [(Resource::As, MEMORY_BYTES), (Resource::Cpu, PROCESSOR_SECS), (Resource::Core, 0)];
    if bounds.into_iter().any(|(resource, bound)| setrlimit(resource, limit(bound)).is_err()) {
        return Some(code(false));
    }
    let cook = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| -> io::Result<()> {
        let mut order = Vec::new();
        io::stdin().lock().read_to_end(&mut order)?;
        let request: Request = serde_json::from_slice(&order)?;
        let answer = match render(&request, &|| slugid(&SystemRandom)) {
            Ok(Batch { tasks, ids }) => {
                Answer::Tasks { tasks: tasks.into_iter().map(|task| (task.pointer, task.value)).collect(), ids }
            }
            Err(failed) => Answer::Failed(failed),
        };
        let answer = serde_json::to_vec(&answer)?;
        io::stdout().lock().write_all(&answer)
    });
    // A panic of the library is an answer, too: none.
    Some(code(cook.is_ok_and(|cook| matches!(cook.join(), Ok(Ok(()))))))
}

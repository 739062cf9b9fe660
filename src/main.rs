//! The program: a runtime, a command, an exit code.

use std::{process::ExitCode, time::Duration};

use tc_worker::cli;

/// The worker itself needs little: its work is waiting, copying bytes, and compressing logs, which has threads of its own.
const THREADS: usize = 2;
/// How long threads that still read or write a file may hold up the end of the process.
const LAST_FILES: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    // Before anything else: this is how the binary is entered inside of a run, where no runtime is wanted.
    if let Some(code) = cli::engine::entered_inside_a_run() {
        return code;
    }
    if let Some(code) = cli::exec::template::kitchen::entered() {
        return code;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            cli::problems::Failure::new(cli::INTERNAL_ERROR, "start the threads of this program").because(&error).show();
            return ExitCode::from(cli::INTERNAL_ERROR);
        }
    };
    let code = runtime.block_on(cli::main(std::env::args_os()));
    runtime.shutdown_timeout(LAST_FILES);
    ExitCode::from(code)
}

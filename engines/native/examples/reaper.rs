//! A program that is nothing but a reaper, for the tests of this crate. The worker's binary has it as a hidden sub-command.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1) {
        Some(command) if command == tc_engine_native::REAPER_COMMAND => tc_engine_native::reaper_main(),
        _ => ExitCode::FAILURE,
    }
}

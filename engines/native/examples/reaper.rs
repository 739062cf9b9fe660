//! The smallest program that can be a reaper. The engine's own tests use it; the worker's binary does the same.

fn main() -> std::process::ExitCode {
    tc_engine_native::reaper_main()
}

//! System calls of Linux that no safe wrapper among our dependencies offers, each behind a safe function.
//!
//! This is the only crate with unsafe code. It decides nothing: callers say what they want and get the kernel's answer.
//! It needs Linux 5.15 or newer; where a call is younger than that, the caller is told and can go another way.

pub mod open;
pub mod process;
pub mod readiness;
pub mod spawn;
pub mod thread;
pub mod wait;

//! The integration tests: the real binary, real sockets, real processes. One program, so that it links once.

mod docker;
mod house;
mod support;

mod admission;
mod bad_config;
mod bad_payload;
mod bad_queue;
mod check;
mod exec;
mod exec_input;
mod exec_template;
mod exec_view;
mod faults;
mod lease;
mod ledger;
mod log;
mod queue;
mod road;
mod signals;
mod traces;
mod uploads;

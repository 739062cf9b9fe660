//! The engine with real processes, in every way of holding them together that this machine allows.

mod containment;
mod death;
mod files;
mod output;
mod starting;
mod support;

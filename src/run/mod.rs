//! stub
pub mod kill;
pub mod lease;
pub mod outcome;

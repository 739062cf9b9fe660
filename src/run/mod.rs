//! stub
pub mod lease;

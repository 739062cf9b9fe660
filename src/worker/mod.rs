//! stub
pub mod slots;

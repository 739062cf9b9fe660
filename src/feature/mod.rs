//! stub
pub mod table;

//! Tasks in containers, through the Docker Engine API.
//!
//! | room | owns |
//! |---|---|
//! | [`connection`] | the way to the engine: address, negotiated version, raw streams |
//! | [`image`] | bringing images, knowing which are there, removing those nobody uses |
//! | [`archive`] | reading what a container left behind |
//! | [`containerd`] | images written past the engine, into the store it shares with containerd |

pub mod archive;
pub mod connection;
pub mod containerd;
pub mod image;

pub use connection::Connection;

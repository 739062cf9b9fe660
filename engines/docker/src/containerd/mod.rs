//! Images written past the engine, into the store that it shares with containerd.

mod archive;
mod client;
mod description;
mod feed;
mod header;
mod layer;
mod message;
mod tar;
mod tree;

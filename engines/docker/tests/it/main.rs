//! The Docker engine, against real ones.

mod image;

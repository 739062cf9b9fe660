//! Reading what a container left behind.

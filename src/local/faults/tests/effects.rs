//! What faults look like on real connections.

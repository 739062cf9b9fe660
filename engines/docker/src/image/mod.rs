//! Images: bringing them, knowing which are there, removing those that nobody uses.

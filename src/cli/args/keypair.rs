//! What can be said to `new-ed25519-keypair`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `new-ed25519-keypair`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  tc-worker new-ed25519-keypair --file /etc/tc-worker/key > key.pub

Exit Codes:
  0   made
  75  the key could not be written")]
pub struct KeypairArgs {
    /// Where to write the private key, readable for its owner only
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
}

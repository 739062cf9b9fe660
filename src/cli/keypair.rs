//! `new-ed25519-keypair`: the seed goes to a file, the public key to standard output, both in base64, as the reference does.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{args::KeypairArgs, problems::Failure};
use crate::seam::{Disk as _, Lasting, Random as _, SystemDisk, SystemRandom};

/// The exit code when the key could not be written.
const CANNOT_CREATE: u8 = 75;

/// Makes a pair; returns the public key.
pub fn make(arguments: &KeypairArgs) -> Result<String, Failure> {
    let mut seed = [0; 32];
    SystemRandom.fill(&mut seed);
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
        .map_err(|error| Failure::new(CANNOT_CREATE, "make a key").because(&error))?;
    SystemDisk.replace(&arguments.file, BASE64_STANDARD.encode(seed).as_bytes(), 0o600, Lasting::Power).map_err(|error| {
        Failure::new(CANNOT_CREATE, format!("write the private key to \"{}\"", arguments.file.display())).because(&error)
    })?;
    Ok(BASE64_STANDARD.encode(pair.public_key()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_seed_in_the_file_belongs_to_the_public_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("key");
        let public = make(&KeypairArgs { file: file.clone() }).expect("made");
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        let seed = BASE64_STANDARD.decode(std::fs::read(&file).expect("readable")).expect("base64");
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed");
        assert_eq!(BASE64_STANDARD.encode(pair.public_key()), public);
        let nowhere = make(&KeypairArgs { file: dir.path().join("no/where") }).expect_err("no directory");
        assert_eq!(nowhere.code, 75);
    }
}

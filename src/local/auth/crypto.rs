//! The `hawk` crate's cryptography, on the one crypto library in the tree.

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac, rand};
use hawk::{
    DigestAlgorithm,
    crypto::{CryptoError, Cryptographer, Hasher, HmacKey},
};

struct AwsLc;

/// Makes `hawk` usable. Calling it again changes nothing.
pub(crate) fn install() {
    // The only error is that somebody did it before, and this is the only place that does it.
    let _ = hawk::crypto::set_cryptographer(&AwsLc);
}

struct Key(hmac::Key);

impl HmacKey for Key {
    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Ok(hmac::sign(&self.0, data).as_ref().to_vec())
    }
}

struct Digest(digest::Context);

impl Hasher for Digest {
    fn update(&mut self, data: &[u8]) -> Result<(), CryptoError> {
        self.0.update(data);
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u8>, CryptoError> {
        Ok(self.0.clone().finish().as_ref().to_vec())
    }
}

impl Cryptographer for AwsLc {
    fn rand_bytes(&self, output: &mut [u8]) -> Result<(), CryptoError> {
        rand::fill(output).map_err(|error| CryptoError::Other(error.into()))
    }

    fn new_key(&self, algorithm: DigestAlgorithm, key: &[u8]) -> Result<Box<dyn HmacKey>, CryptoError> {
        let algorithm = match algorithm {
            DigestAlgorithm::Sha256 => hmac::HMAC_SHA256,
            DigestAlgorithm::Sha384 => hmac::HMAC_SHA384,
            DigestAlgorithm::Sha512 => hmac::HMAC_SHA512,
            other => return Err(CryptoError::UnsupportedDigest(other)),
        };
        Ok(Box::new(Key(hmac::Key::new(algorithm, key))))
    }

    fn new_hasher(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn Hasher>, CryptoError> {
        let algorithm = match algorithm {
            DigestAlgorithm::Sha256 => &digest::SHA256,
            DigestAlgorithm::Sha384 => &digest::SHA384,
            DigestAlgorithm::Sha512 => &digest::SHA512,
            other => return Err(CryptoError::UnsupportedDigest(other)),
        };
        Ok(Box::new(Digest(digest::Context::new(algorithm))))
    }

    fn constant_time_compare(&self, a: &[u8], b: &[u8]) -> bool {
        verify_slices_are_equal(a, b).is_ok()
    }
}

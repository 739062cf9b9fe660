//! Randomness, from one source.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

/// A source of random bytes.
pub trait Random: Send + Sync + 'static {
    /// Fills the whole buffer.
    fn fill(&self, buffer: &mut [u8]);

    /// A number in `0.0..1.0`, for jitter.
    fn fraction(&self) -> f64 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }
}

/// The operating system's generator: good enough for secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        // The generator only fails where the operating system has none, and then nothing else of TLS or Hawk works either.
        aws_lc_rs::rand::fill(buffer).expect("the operating system provides random bytes");
    }
}

/// The same sequence for the same seed. For tests only.
#[derive(Debug)]
pub struct SeededRandom {
    state: AtomicU64,
    order: Mutex<()>,
}

impl SeededRandom {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed), order: Mutex::new(()) }
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        let _whole_buffers = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in buffer {
            // A Weyl sequence through a mixing step: uniform enough for jitter and ids in tests.
            let mut x = self.state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            *byte = (x >> 56) as u8;
        }
    }
}

/// A new slugid: a version 4 UUID in 22 characters of URL-safe base64. This "nice" form never begins with `-`.
pub fn slugid(random: &dyn Random) -> String {
    let mut bytes = [0_u8; 16];
    random.fill(&mut bytes);
    bytes[0] &= 0x7f;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slugid_has_the_shape_that_the_services_check() {
        let random = SeededRandom::new(7);
        for _ in 0..200 {
            let id = slugid(&random);
            let bytes = id.as_bytes();
            assert_eq!(id.len(), 22);
            assert!((b'A'..=b'f').contains(&bytes[0]), "{id}");
            assert!((b'Q'..=b'T').contains(&bytes[8]), "{id}");
            assert!(b"CGKOSWaeimquy26-".contains(&bytes[10]), "{id}");
            assert!(b"AQgw".contains(&bytes[21]), "{id}");
        }
    }

    #[test]
    fn a_fraction_stays_below_one() {
        let random = SystemRandom;
        assert!((0..1000).map(|_| random.fraction()).all(|f| (0.0..1.0).contains(&f)));
    }
}

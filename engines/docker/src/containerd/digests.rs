//! Digests as texts, and what is named after them. Pure.

use aws_lc_rs::digest::{SHA256, digest};

/// `sha256:` and 64 digits.
pub(super) fn named(sha256: [u8; 32]) -> String {
    use std::fmt::Write as _;
    sha256.iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The digest of bytes.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest(&SHA256, bytes).as_ref());
    named(sha256)
}

/// Whether a text is a digest as this module writes them.
pub(super) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// The chain identifiers of layers: what the snapshots of a stack are called.
pub(super) fn chain(diffs: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diffs.len());
    for diff in diffs {
        let next = chain.last().map_or_else(|| diff.clone(), |below| digest_of(format!("{below} {diff}").as_bytes()));
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_identifiers_are_those_of_the_specification() {
        let diffs = ["sha256:a", "sha256:b"].map(str::to_owned);
        assert_eq!(chain(&diffs), ["sha256:a".to_owned(), digest_of(b"sha256:a sha256:b")]);
        assert!(chain(&[]).is_empty());
    }
}

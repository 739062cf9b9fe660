//! One header block.

use super::{Owner, TarError};

/// Everything in an archive is made of blocks of this size.
pub(super) const BLOCK: usize = 512;

/// More bytes than any file has; what is larger would overflow sums.
pub(super) const MOST_BYTES: u64 = 1 << 62;

/// A header block as it is.
pub(super) struct Raw<'a>(pub(super) &'a [u8; BLOCK]);

impl Raw<'_> {
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// The sum of all bytes, that of the sum itself taken as spaces. Very old programs added signed bytes.
    pub(super) fn verify(&self) -> Result<(), TarError> {
        let stated = i64::try_from(number(&self.0[148..156])?).map_err(|_| TarError::Checksum)?;
        let bytes = || self.0.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        if stated == unsigned || stated == signed { Ok(()) } else { Err(TarError::Checksum) }
    }

    pub(super) fn flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn size(&self) -> Result<u64, TarError> {
        number(&self.0[124..136])
    }

    /// Whose it is; with bits of the mode alone, without those of its kind.
    pub(super) fn owner(&self) -> Result<Owner, TarError> {
        let mode = u32::try_from(number(&self.0[100..108])? & 0o7777).map_err(|_| TarError::Number)?;
        Ok(Owner { uid: number(&self.0[108..116])?, gid: number(&self.0[116..124])?, mode })
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let is_ustar = &self.0[257..263] == b"ustar\0";
        match text(&self.0[345..500]) {
            prefix if is_ustar && !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    pub(super) fn target(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }
}

/// What comes before the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits between spaces or NULs; or, with the highest bit set, the bytes of the number itself.
pub(super) fn number(field: &[u8]) -> Result<u64, TarError> {
    let (base, digits) = match field {
        [0x80, rest @ ..] => (256, rest),
        _ => (8, text(field).trim_ascii()),
    };
    let number = digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = match byte {
            _ if base == 256 => u64::from(*byte),
            b'0'..=b'7' => u64::from(byte - b'0'),
            _ => return Err(TarError::Number),
        };
        sum.checked_mul(base).and_then(|sum| sum.checked_add(digit)).ok_or(TarError::Number)
    })?;
    if number > MOST_BYTES { Err(TarError::Number) } else { Ok(number) }
}

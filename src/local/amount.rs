//! Amounts as people write them: `1MB`, `10MB/s`, `500ms`. Pure.

use std::{num::NonZeroU64, time::Duration};

/// Units of sizes, in bytes.
const SIZES: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];
/// Units of times, in milliseconds.
const TIMES: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
/// No time here is longer than this. It keeps sums of times far away from where they would overflow.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A size, in bytes: a whole number and one of `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`; without a unit it counts bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    scaled(text, SIZES).ok_or_else(|| format!("`{text}` is no size; sizes look like 500, 64KiB, 1MB"))
}

/// A rate, in bytes per second: a size above nothing, and perhaps `/s`.
pub fn bytes_per_sec(text: &str) -> Result<NonZeroU64, String> {
    let rate = scaled(text.strip_suffix("/s").unwrap_or(text), SIZES).and_then(NonZeroU64::new);
    rate.ok_or_else(|| format!("`{text}` is no rate; rates look like 500KB/s, 10MB/s"))
}

/// A time of at most a day: a whole number and one of `ms`, `s`, `m`, `h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let time = scaled(text, TIMES).map(Duration::from_millis).filter(|time| *time <= LONGEST);
    time.ok_or_else(|| format!("`{text}` is no time of at most a day; times look like 300ms, 2s, 1m"))
}

/// As [`duration`]; a number alone counts milliseconds.
pub fn millis(text: &str) -> Result<Duration, String> {
    let bare = text.bytes().all(|byte| byte.is_ascii_digit());
    if bare { duration(&format!("{text}ms")).map_err(|_| duration_problem(text)) } else { duration(text) }
}

fn duration_problem(text: &str) -> String {
    format!("`{text}` is no number of milliseconds up to a day")
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(known, _)| *known == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_what_they_say() {
        for (text, expected) in [("0", 0), ("17", 17), ("3B", 3), ("2kB", 2000), ("64KiB", 65536), ("1MB", 1_000_000)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        assert_eq!(bytes_per_sec("10MB/s").map(NonZeroU64::get), Ok(10_000_000));
        assert_eq!(bytes_per_sec("10").map(NonZeroU64::get), Ok(10));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!((millis("50"), millis("50ms")), (Ok(Duration::from_millis(50)), Ok(Duration::from_millis(50))));
    }

    #[test]
    fn what_is_no_amount_is_refused_by_name() {
        for text in ["", "MB", "-1", "1.5MB", "1 MB", "1mb", "99999999999999999999", "18446744073709551615kB", "１"] {
            assert!(bytes(text).is_err_and(|error| error.contains(&format!("`{text}`"))), "{text}");
        }
        for text in ["", "2", "s", "25h", "1441m", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["0", "0MB/s", "MB/s", "/s"] {
            assert!(bytes_per_sec(text).is_err(), "{text}");
        }
        assert!(millis("86400001").is_err() && millis("").is_err());
    }
}

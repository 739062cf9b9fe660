//! The shapes of strings that our schemas ask for by `format` or `pattern`.
//!
//! The patterns are few and fixed, so each has a function of its own instead of a regular expression engine. The table is the list
//! of all of them; a test fails when a schema names another one, and the agreement test holds the functions against the expressions.

use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::Offset;

/// One shape of a string.
pub(super) struct Shape {
    /// How the schemas call it: a format name or a regular expression.
    name: &'static str,
    /// What it is, to stand behind "must be".
    pub(super) sentence: &'static str,
    pub(super) holds: fn(&str) -> bool,
}

const SHAPES: [Shape; 5] = [
    Shape {
        name: "date-time",
        sentence: "a date and time with a time zone, such as 2030-01-31T12:00:00Z",
        holds: |text| date_time(text).is_some(),
    },
    Shape { name: "uri", sentence: "a URL with its scheme, such as https://example.com/x", holds: is_uri },
    Shape {
        name: "^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$",
        sentence: "a task id (22 characters)",
        holds: is_task_id,
    },
    Shape { name: "^[a-f0-9]{64}$", sentence: "a SHA-256 digest in 64 lower-case hexadecimal digits", holds: is_sha256 },
    Shape { name: "^[A-Za-z0-9/+]+[=]{0,2}$", sentence: "base64", holds: is_base64 },
];

pub(super) fn shape(name: &str) -> Option<&'static Shape> {
    SHAPES.iter().find(|shape| shape.name == name)
}

/// Reads a date and time as RFC 3339 has it, with a capital `T` and `Z`, as the reference worker does.
///
/// The last day of the year 9999, which people write for "never", is later than the last timestamp there is; it becomes that one.
pub fn date_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let digits = |from: usize, count: usize| -> Option<i16> {
        let part = bytes.get(from..from + count)?;
        part.iter().try_fold(0_i16, |number, byte| {
            byte.is_ascii_digit().then(|| number.checked_mul(10)?.checked_add(i16::from(byte - b'0'))).flatten()
        })
    };
    let small = |from: usize| digits(from, 2).and_then(|number| i8::try_from(number).ok());
    let separated = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !separated.iter().all(|(at, byte)| bytes.get(*at) == Some(byte)) {
        return None;
    }
    let date = jiff::civil::Date::new(digits(0, 4)?, small(5)?, small(8)?).ok()?;
    let rest = bytes.get(19..)?;
    let fraction = match rest {
        [b'.', digits @ ..] => digits.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        _ => 0,
    };
    if rest.first() == Some(&b'.') && fraction == 0 {
        return None;
    }
    let mut nanos = 0_i32;
    for place in 0..9 {
        let digit = if place < fraction { rest[1 + place] - b'0' } else { 0 };
        nanos = nanos * 10 + i32::from(digit);
    }
    let time = Time::new(small(11)?, small(14)?, small(17)?, nanos).ok()?;
    let zone_at = 19 + if fraction > 0 { fraction + 1 } else { 0 };
    let offset_secs = match bytes.get(zone_at..)? {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (i32::from(digits(zone_at + 1, 2)?), i32::from(digits(zone_at + 4, 2)?));
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -60 } else { 60 }
        }
        _ => return None,
    };
    let offset = Offset::from_seconds(offset_secs).ok()?;
    let edge = if date.year() > 5000 { Timestamp::MAX } else { Timestamp::MIN };
    Some(offset.to_timestamp(DateTime::from_parts(date, time)).unwrap_or(edge))
}

/// An absolute URL as the reference worker reads one: lenient about what stands in a query or a path, strict about the rest.
pub fn is_uri(text: &str) -> bool {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == b'\\') {
        return false;
    }
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let mut letters = scheme.bytes();
    let starts_well = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !starts_well || !letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return false;
    }
    if !percent_signs_hold(fragment) {
        return false;
    }
    let path = rest.split_once('?').map_or(rest, |(path, _)| path);
    let Some(path) = path.strip_prefix('/') else {
        // Something like `mailto:a@b`, about which nothing more is known.
        return true;
    };
    match path.strip_prefix('/') {
        Some(path) if !path.starts_with('/') => {
            let (authority, path) = path.split_once('/').unwrap_or((path, ""));
            is_authority(authority) && percent_signs_hold(path)
        }
        _ => percent_signs_hold(path),
    }
}

fn is_authority(authority: &str) -> bool {
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let user_holds = user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte));
    if !user_holds || !percent_signs_hold(user) {
        return false;
    }
    let (name, port) = if host.starts_with('[') {
        let Some((name, port)) = host.rsplit_once(']') else { return false };
        (name, port)
    } else {
        host.rfind(':').map_or((host, ""), |colon| host.split_at(colon))
    };
    let port_holds = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    let name_holds =
        name.bytes().all(|byte| byte >= 0x80 || byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"%".contains(&byte));
    port_holds && name_holds && percent_signs_hold(name)
}

/// Every percent sign begins an escape of two hexadecimal digits.
fn percent_signs_hold(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

fn is_slug_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn is_task_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 22
        && bytes.iter().all(|byte| is_slug_letter(*byte))
        && matches!(bytes[8], b'Q'..=b'T')
        && b"CGKOSWaeimquy26-".contains(&bytes[10])
        && b"AQgw".contains(&bytes[21])
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'a'..=b'f' | b'0'..=b'9'))
}

fn is_base64(text: &str) -> bool {
    let letters = text.trim_end_matches('=');
    text.len() - letters.len() <= 2
        && !letters.is_empty()
        && letters.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'/' || byte == b'+')
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::{date_time, is_uri};
    use jiff::Timestamp;

    #[test]
    fn date_times_are_rfc_3339() {
        for good in
            ["2030-01-31T12:00:00Z", "2030-01-31T12:00:00.123456789Z", "2030-01-31T12:00:00+05:30", "2024-02-29T00:00:00-00:00"]
        {
            assert_eq!(date_time(good), Some(good.parse::<Timestamp>().unwrap()), "{good}");
        }
        assert_eq!(date_time("2030-01-31T12:00:00.123456789999Z"), date_time("2030-01-31T12:00:00.123456789Z"));
        assert_eq!(date_time("9999-12-31T23:59:59.999Z"), Some(Timestamp::MAX));
        for bad in [
            "",
            "2030-01-31",
            "12:00:00Z",
            "2030-01-31 12:00:00Z",
            "2030-01-31t12:00:00Z",
            "2030-01-31T12:00:00z",
            "2030-01-31T12:00:00",
            "2030-01-31T12:00Z",
            "2030-1-31T12:00:00Z",
            "2030-02-30T12:00:00Z",
            "2030-01-31T24:00:00Z",
            "2030-01-31T12:00:60Z",
            "2030-01-31T12:00:00.Z",
            "2030-01-31T12:00:00,5Z",
            "2030-01-31T12:00:00+24:00",
            "2030-01-31T12:00:00+0100",
            "2030-01-31T12:00:00Z ",
            "+2030-01-31T12:00:00Z",
            "2030-01-31T12:00:00é",
        ] {
            assert_eq!(date_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn uris_are_absolute() {
        for good in [
            "https://example.com",
            "https://user:pw@example.com:8443/a%20b?x={y}|z#top",
            "http://[::1]:80/",
            "ftp://h/a b",
            "mailto:a@b",
            "file:///etc/motd",
            "https://exämple.org/ä",
        ] {
            assert!(is_uri(good), "{good}");
        }
        for bad in [
            "",
            "example.com/x",
            "/x",
            "//h/x",
            "1http://h",
            "http://h/%zz",
            "http://h/%2",
            "http://h:80x/",
            "http://a b/",
            "http:\\\\h",
            "http://[::1",
            "http://h/\n",
            ":x",
        ] {
            assert!(!is_uri(bad), "{bad}");
        }
    }
}

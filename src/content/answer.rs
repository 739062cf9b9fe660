//! What a server's answer means for a download that has come so far. Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};

use crate::api::pause;

/// What is known of the bytes that are fetched, from the first answer on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Version {
    /// The server's name for this version of them.
    pub(super) etag: Option<String>,
    /// How many there are, as they are transported.
    pub(super) total: Option<u64>,
    /// Whether they are transported in gzip.
    pub(super) gzip: bool,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The body begins with the first byte.
    FromStart(Version),
    /// The body goes on where the last one broke off.
    Continue(Version),
    /// Everything was there already.
    Complete,
    /// It is at another URL.
    Elsewhere(String),
    /// This URL is not good, or not any more.
    UrlRefused(String),
    /// Ranges of this server are of no use.
    NoRanges(String),
    /// It may work next time, after a pause that the server may have asked for.
    Again(String, Option<Duration>),
    /// It never will.
    Never(String),
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

impl Version {
    fn of(headers: &HeaderMap, total: Option<u64>) -> Self {
        let encoding = text(headers, header::CONTENT_ENCODING).unwrap_or_default().to_ascii_lowercase();
        Self {
            etag: text(headers, header::ETAG).map(str::to_owned),
            total,
            // Other encodings were not asked for. Whoever stored one stored a file in that format.
            gzip: matches!(encoding.as_str(), "gzip" | "x-gzip"),
        }
    }

    /// The name by which a server decides whether it goes on; a weak one says nothing about bytes.
    pub(super) fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| etag.starts_with('"'))
    }

    /// Whether both can be the same bytes, as far as is known.
    fn fits(&self, other: &Self) -> bool {
        fn agree<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            a.zip(b).is_none_or(|(a, b)| a == b)
        }
        agree(self.etag.as_ref(), other.etag.as_ref())
            && agree(self.total.as_ref(), other.total.as_ref())
            && self.gzip == other.gzip
    }
}

/// `bytes 5-9/10`, `bytes 5-9/*`, `bytes */10`: the first byte and the number of all.
fn content_range(headers: &HeaderMap) -> (Option<u64>, Option<u64>) {
    let Some((range, total)) = text(headers, header::CONTENT_RANGE).and_then(|t| t.strip_prefix("bytes ")?.split_once('/'))
    else {
        return (None, None);
    };
    (range.split_once('-').and_then(|(first, _)| first.parse().ok()), total.parse().ok())
}

/// Judges an answer. `offset` bytes have come so far, and `asked` says whether only the rest was asked for.
pub(super) fn judge(status: u16, headers: &HeaderMap, known: Option<&Version>, offset: u64, asked: bool) -> Verdict {
    let refused = || format!("HTTP status {status}");
    match status {
        200 => {
            let total = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
            let version = Version::of(headers, total);
            match known {
                // Whoever reads was told already, also when no byte has come yet.
                Some(known) if known.gzip != version.gzip => {
                    Verdict::Again("the server encodes it another way than before".to_owned(), None)
                }
                _ => Verdict::FromStart(version),
            }
        }
        206 if asked => {
            let (first, total) = content_range(headers);
            let mut version = Version::of(headers, total);
            let fits = known.is_none_or(|known| {
                version.total = version.total.or(known.total);
                version.etag = version.etag.take().or_else(|| known.etag.clone());
                known.fits(&version)
            });
            match first {
                Some(first) if first == offset && fits => Verdict::Continue(version),
                Some(first) if first == offset => Verdict::NoRanges("it is another one than before".to_owned()),
                _ => Verdict::NoRanges("the server sends another part than it was asked for".to_owned()),
            }
        }
        416 if asked => match content_range(headers).1 {
            Some(total) if total == offset && known.is_none_or(|known| known.total.is_none_or(|t| t == total)) => {
                Verdict::Complete
            }
            _ => Verdict::NoRanges("the server does not have the rest".to_owned()),
        },
        301 | 302 | 303 | 307 | 308 => match text(headers, header::LOCATION) {
            Some(to) => Verdict::Elsewhere(to.to_owned()),
            None => Verdict::Never(format!("HTTP status {status} without a location")),
        },
        // Stores answer 400, too, when a signature has expired.
        400 | 401 | 403 => Verdict::UrlRefused(refused()),
        408 | 429 | 500.. => Verdict::Again(refused(), pause(headers)),
        _ => Verdict::Never(refused()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value"))).collect()
    }

    fn known() -> Version {
        Version { etag: Some("\"a\"".to_owned()), total: Some(10), gzip: false }
    }

    #[test]
    fn a_part_counts_only_if_it_is_the_rest_of_the_same() {
        let part = |range: &str, etag: &str| {
            let headers = headers(&[(header::CONTENT_RANGE, range), (header::ETAG, etag)]);
            judge(206, &headers, Some(&known()), 5, true)
        };
        assert_eq!(part("bytes 5-9/10", "\"a\""), Verdict::Continue(known()));
        assert_eq!(part("bytes 5-9/*", "\"a\""), Verdict::Continue(known()));
        for (range, etag) in [
            ("bytes 5-9/10", "\"b\""),
            ("bytes 5-9/11", "\"a\""),
            ("bytes 4-9/10", "\"a\""),
            ("bytes 0-9/10", "\"a\""),
            ("bytes */10", "\"a\""),
            ("nonsense", "\"a\""),
        ] {
            assert!(matches!(part(range, etag), Verdict::NoRanges(_)), "{range} {etag}");
        }
        let encoded = headers(&[(header::CONTENT_RANGE, "bytes 5-9/10"), (header::CONTENT_ENCODING, "gzip")]);
        assert!(matches!(judge(206, &encoded, Some(&known()), 5, true), Verdict::NoRanges(_)));
        assert!(matches!(judge(206, &HeaderMap::new(), None, 0, false), Verdict::Never(_)), "nobody asked for a part");
    }

    #[test]
    fn nothing_is_left_only_if_the_server_says_so() {
        let none = |range: &str| judge(416, &headers(&[(header::CONTENT_RANGE, range)]), Some(&known()), 10, true);
        assert_eq!(none("bytes */10"), Verdict::Complete);
        assert!(matches!(none("bytes */11"), Verdict::NoRanges(_)));
        assert!(matches!(none("bytes */*"), Verdict::NoRanges(_)));
        let unknown = Version::default();
        let other = headers(&[(header::CONTENT_RANGE, "bytes */7")]);
        assert_eq!(judge(416, &other, Some(&unknown), 7, true), Verdict::Complete);
    }

    #[test]
    fn answers_are_told_apart() {
        let plain = HeaderMap::new();
        for (status, expected) in
            [(403, "refused"), (400, "refused"), (404, "never"), (410, "never"), (503, "again"), (429, "again")]
        {
            let found = match judge(status, &plain, None, 0, false) {
                Verdict::UrlRefused(_) => "refused",
                Verdict::Never(_) => "never",
                Verdict::Again(..) => "again",
                other => panic!("{status}: {other:?}"),
            };
            assert_eq!(found, expected, "{status}");
        }
        let busy = headers(&[(header::RETRY_AFTER, "7")]);
        assert_eq!(judge(503, &busy, None, 0, false), Verdict::Again("HTTP status 503".into(), Some(Duration::from_secs(7))));
        let moved = headers(&[(header::LOCATION, "/x")]);
        assert_eq!(judge(307, &moved, None, 0, false), Verdict::Elsewhere("/x".into()));
        let gzip = headers(&[(header::CONTENT_ENCODING, "GZIP")]);
        assert!(matches!(judge(200, &gzip, None, 0, false), Verdict::FromStart(Version { gzip: true, .. })));
        for offset in [0, 5] {
            assert!(matches!(judge(200, &gzip, Some(&known()), offset, offset > 0), Verdict::Again(..)));
        }
    }

    #[test]
    fn only_strong_names_are_compared_by_servers() {
        assert_eq!(known().strong_etag(), Some("\"a\""));
        assert_eq!(Version { etag: Some("W/\"a\"".into()), ..known() }.strong_etag(), None);
    }
}

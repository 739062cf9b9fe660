//! Media types and encodings by file extension. The tables are those of the reference's documentation and code.

use tc_payload::native::Encoding;

/// Extensions of files that are compressed already; they are uploaded as they are. Compared with case, as the reference does.
const COMPRESSED: &[&str] = &[
    "7z", "aab", "apk", "br", "bz2", "deb", "dmg", "flv", "gif", "gz", "jar", "jpeg", "jpg", "lz", "lz4", "mz", "npz", "pkg",
    "png", "swf", "sz", "tbz", "tgz", "wasm", "webp", "whl", "woff", "woff2", "xpi", "xz", "zip", "zst", "zz",
];

/// The extension of a path: what follows the last dot of its last component.
fn extension(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map(|(_, extension)| extension)
}

/// The media type of a file, by its path.
pub fn content_type(path: &str) -> String {
    let Some(extension) = extension(path).map(str::to_ascii_lowercase) else { return OCTETS.to_owned() };
    match extension.as_str() {
        "log" => return "text/plain".to_owned(),
        "jsonl" => return "application/jsonl".to_owned(),
        _ => {}
    }
    match mime_guess::from_ext(&extension).first_raw() {
        // The database has no character sets; programs expect one.
        Some(text) if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        Some(other) => other.to_owned(),
        None => OCTETS.to_owned(),
    }
}

const OCTETS: &str = "application/octet-stream";

/// The encoding of a file in the store, by its path.
pub fn content_encoding(path: &str) -> Encoding {
    match extension(path) {
        Some(extension) if COMPRESSED.contains(&extension) => Encoding::Identity,
        _ => Encoding::Gzip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_follow_the_extension_of_the_last_component() {
        for (path, expected) in [
            ("a/b.log", "text/plain"),
            ("b.LOG", "text/plain"),
            ("x.jsonl", "application/jsonl"),
            ("x.txt", "text/plain; charset=utf-8"),
            ("x.html", "text/html; charset=utf-8"),
            ("x.json", "application/json"),
            ("x.png", "image/png"),
            ("x.d/none", OCTETS),
            ("none", OCTETS),
            ("x.unheardof", OCTETS),
        ] {
            assert_eq!(content_type(path), expected, "{path}");
        }
    }

    #[test]
    fn compressed_files_stay_as_they_are_and_case_counts() {
        assert_eq!(content_encoding("a.tar.zst"), Encoding::Identity);
        assert_eq!(content_encoding("a.jpg"), Encoding::Identity);
        assert_eq!(content_encoding("a.JPG"), Encoding::Gzip);
        assert_eq!(content_encoding("a.txt"), Encoding::Gzip);
        assert_eq!(content_encoding("gz"), Encoding::Gzip);
    }
}

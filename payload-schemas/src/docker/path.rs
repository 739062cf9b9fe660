//! Paths in a container.

/// The path of a directory that the worker puts into a container: absolute, `/`, `.` and empty parts taken out of it.
///
/// It is taken literally, whatever other characters it has: it goes to the engine as a field of its own, in which a colon
/// begins no options. `Err` is a fragment that says what is wrong.
pub(super) fn mount_point(path: &str) -> Result<String, &'static str> {
    if path.contains('\0') {
        return Err("has a NUL character");
    }
    if !path.starts_with('/') {
        return Err("must be absolute");
    }
    if path.split('/').any(|part| part == "..") {
        // Where it leads depends on the image's links, and the engine would guess.
        return Err("must not have `..` in it");
    }
    let clean = lexical(path);
    if clean == "/" { Err("must not be the container's root") } else { Ok(clean) }
}

/// Why no engine mounts anything at a path of a container, whatever the image: what is there is the kernel's or the engine's own.
///
/// The worker leaves it to the engine, whose refusal ends the task with exit code 125 or 127.
pub fn kept_by_the_engine(path: &str, privileged: bool) -> Option<&'static str> {
    let clean = lexical(path);
    match clean.as_str() {
        "/etc/hosts" | "/etc/hostname" | "/etc/resolv.conf" => Some("is a file that the engine makes"),
        "/dev" if !privileged => Some("is where the devices are that every container needs"),
        clean if clean == "/proc" || clean.starts_with("/proc/") => Some("is the kernel's, where nothing can be mounted"),
        _ => None,
    }
}

/// The path of something in a container to be read, seen from its root.
pub(super) fn readable(path: &str) -> Result<String, &'static str> {
    if path.contains('\0') {
        return Err("has a NUL character");
    }
    if path.is_empty() {
        return Err("is empty");
    }
    Ok(lexical(path))
}

/// Takes `.`, `..` and empty parts out, as the engine does before it looks.
fn lexical(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::{kept_by_the_engine, mount_point, readable};

    #[test]
    fn mount_points_are_literal() {
        for (path, clean) in [
            ("/x", "/x"),
            ("/x/", "/x"),
            ("//x/./y//", "/x/y"),
            ("/x:ro,z", "/x:ro,z"),
            ("/x y\n", "/x y\n"),
            ("/..x/x..", "/..x/x.."),
        ] {
            assert_eq!(mount_point(path).as_deref(), Ok(clean));
        }
        for path in ["", "x", "./x", "x:/y", "/", "//", "/.", "/a/../b", "/..", "/a/..", "/a\0b"] {
            assert!(mount_point(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn some_places_are_taken() {
        for path in ["/proc", "/proc/x/y", "/dev/", "/./etc/hosts"] {
            assert!(kept_by_the_engine(path, false).is_some(), "{path}");
        }
        for path in ["/", "/processes", "/dev/shm", "/sys", "/etc", "/etc/hosts.d"] {
            assert_eq!(kept_by_the_engine(path, false), None, "{path}");
        }
        assert_eq!(kept_by_the_engine("/dev", true), None);
    }

    #[test]
    fn paths_to_read_begin_at_the_root() {
        for (path, clean) in [("x", "/x"), ("/x/", "/x"), ("/x/.", "/x"), ("/a/../b", "/b"), ("../../b", "/b"), ("/", "/")] {
            assert_eq!(readable(path).as_deref(), Ok(clean));
        }
        assert!(readable("").is_err() && readable("a\0").is_err());
    }
}

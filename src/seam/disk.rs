//! Small files that the worker keeps for itself, and how much room there is.

use std::{
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// The disk, for small state files. Task logs and artifacts do not go through here.
pub trait Disk: Send + Sync + 'static {
    /// The file's content, or nothing if there is no such file.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Replaces the file in one step: a reader sees the old content or the new one.
    fn replace(&self, path: &Path, content: &[u8], mode: u32, lasting: Lasting) -> io::Result<()>;

    /// Removes the file; it is no error if there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Bytes that an unprivileged user can still write on the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// What a file has to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// A loss of power: the content is on the disk when the call returns.
    Power,
    /// The end of the process. What only informs people is not worth a wait for the disk.
    Process,
}

/// The machine's own disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs_err::read(path) {
            Ok(content) => Ok(Some(content)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn replace(&self, path: &Path, content: &[u8], mode: u32, lasting: Lasting) -> io::Result<()> {
        let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".tc-worker-").tempfile_in(dir)?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        if lasting == Lasting::Power {
            file.as_file().sync_data()?;
        }
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs_err::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(path)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_leaves_the_mode_and_no_other_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state.json");
        SystemDisk.replace(&path, b"1", 0o600, Lasting::Power).expect("first");
        SystemDisk.replace(&path, b"2", 0o600, Lasting::Process).expect("second");
        assert_eq!(SystemDisk.read(&path).expect("read"), Some(b"2".to_vec()));
        assert_eq!(path.metadata().expect("stat").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
        SystemDisk.remove(&path).expect("remove");
        SystemDisk.remove(&path).expect("remove again");
        assert_eq!(SystemDisk.read(&path).expect("read"), None);
        assert!(SystemDisk.free_bytes(dir.path()).expect("free") > 0);
    }
}

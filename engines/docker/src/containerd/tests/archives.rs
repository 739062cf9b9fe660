//! Archives made by the tests, entry by entry.

use super::super::digests::digest_of;

/// What every entry is dated.
pub(super) const SECS: u64 = 1_700_000_000;

/// A tar archive on its way.
#[derive(Default, Clone)]
pub(super) struct Tar(pub Vec<u8>);

/// An entry; the defaults are an empty file of root's.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub path: &'a str,
    pub flag: u8,
    pub link: &'a str,
    pub mode: u32,
    pub owner: (u32, u32),
    pub device: (u32, u32),
    pub data: &'a [u8],
    /// Records of an extension in front.
    pub records: Vec<(&'a str, &'a [u8])>,
}

pub(super) fn item(path: &str) -> Item<'_> {
    Item { path, flag: b'0', link: "", mode: 0o644, owner: (0, 0), device: (0, 0), data: b"", records: Vec::new() }
}

impl Tar {
    pub(super) fn put(mut self, item: &Item<'_>) -> Self {
        if !item.records.is_empty() {
            let mut data = Vec::new();
            for (key, value) in &item.records {
                let rest = key.len() + value.len() + 3;
                let mut length = rest + rest.to_string().len();
                if length.to_string().len() > rest.to_string().len() {
                    length += 1;
                }
                data.extend_from_slice(format!("{length} {key}=").as_bytes());
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            self.block("extension", b'x', &Item { data: &data, ..item_header() }, data.len());
            self.data(&data);
        }
        self.block(item.path, item.flag, item, item.data.len());
        self.data(item.data);
        self
    }

    pub(super) fn file(self, path: &str, data: &[u8]) -> Self {
        self.put(&Item { data, ..item(path) })
    }

    pub(super) fn directory(self, path: &str, mode: u32) -> Self {
        self.put(&Item { flag: b'5', mode, ..item(path) })
    }

    pub(super) fn symlink(self, path: &str, link: &str) -> Self {
        self.put(&Item { flag: b'2', link, mode: 0o777, ..item(path) })
    }

    pub(super) fn hard_link(self, path: &str, link: &str) -> Self {
        self.put(&Item { flag: b'1', link, ..item(path) })
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    fn block(&mut self, path: &str, flag: u8, item: &Item<'_>, bytes: usize) {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, &path.as_bytes()[..path.len().min(100)]);
        put(100, format!("{:07o}", item.mode).as_bytes());
        put(108, format!("{:07o}", item.owner.0).as_bytes());
        put(116, format!("{:07o}", item.owner.1).as_bytes());
        put(124, format!("{bytes:011o}").as_bytes());
        put(136, format!("{SECS:011o}").as_bytes());
        put(156, &[flag]);
        put(157, item.link.as_bytes());
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}", item.device.0).as_bytes());
        put(337, format!("{:07o}", item.device.1).as_bytes());
        put(148, b"        ");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend_from_slice(&block);
    }

    fn data(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }
}

fn item_header() -> Item<'static> {
    item("extension")
}

/// An image with a name that no other test uses.
pub(super) struct Made {
    pub archive: Vec<u8>,
    pub name: String,
}

/// An archive of an image in the old form, with these layers from the lowest on.
pub(super) fn image(name: &str, layers: &[Vec<u8>]) -> Made {
    let diffs: Vec<String> = layers.iter().map(|layer| digest_of(layer)).collect();
    lying_image(name, layers, &diffs)
}

/// The same with compressed layers.
pub(super) fn packed_image(name: &str, layers: &[Vec<u8>], packed: &[Vec<u8>]) -> Made {
    let diffs: Vec<String> = layers.iter().map(|layer| digest_of(layer)).collect();
    lying_image(name, packed, &diffs)
}

/// The same, whatever its configuration says about the layers.
pub(super) fn lying_image(name: &str, layers: &[Vec<u8>], diffs: &[String]) -> Made {
    named_image(name, layers, diffs, |number, _| format!("{number}/layer.tar"))
}

/// An image whose layers are called after their digests, as they are in a layout.
pub(super) fn digested_image(name: &str, layers: &[Vec<u8>]) -> Made {
    let diffs: Vec<String> = layers.iter().map(|layer| digest_of(layer)).collect();
    named_image(name, layers, &diffs, |_, layer| digest_of(layer).replace("sha256:", "blobs/sha256/"))
}

fn named_image(name: &str, layers: &[Vec<u8>], diffs: &[String], path: impl Fn(usize, &[u8]) -> String) -> Made {
    let name = format!("tc-test/{name}-{}:1", std::process::id());
    let config = serde_json::json!({
        "architecture": super::super::architecture(), "os": "linux", "created": "2024-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin"], "Labels": {"test": name}, "Volumes": {"/v": {}}},
        "rootfs": {"type": "layers", "diff_ids": diffs},
    });
    let paths: Vec<String> = layers.iter().enumerate().map(|(number, layer)| path(number, layer)).collect();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": paths}]);
    let mut tar = Tar::default();
    for (path, layer) in paths.iter().zip(layers) {
        tar = tar.file(path, layer);
    }
    let tar = tar.file("config.json", config.to_string().as_bytes()).file("manifest.json", manifest.to_string().as_bytes());
    Made { archive: tar.end(), name }
}

/// The lowest layer of images that are to run: a shell.
pub(super) fn base() -> Option<Tar> {
    let busybox = std::fs::read("/bin/busybox").ok()?;
    let mut tar = Tar::default().directory("bin", 0o755).put(&Item { mode: 0o755, data: &busybox, ..item("bin/busybox") });
    for applet in ["sh", "cat", "stat", "ls"] {
        tar = tar.symlink(&format!("bin/{applet}"), "busybox");
    }
    Some(tar)
}

/// A digest, to compare files by.
pub(super) fn short(bytes: &[u8]) -> String {
    digest_of(bytes)[7..19].to_owned()
}

//! Image archives in the formats of the programs that write them.

use std::{fs, io::Write as _};

use aws_lc_rs::digest::{SHA256, digest};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

/// SHA-256 in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}

/// A header block.
fn header(name: &str, flag: u8, bytes: usize, link: &str) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000755");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{bytes:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[148..156].copy_from_slice(b"        ");
    block[156] = flag;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// A tar archive.
#[derive(Default, Clone)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn file(mut self, name: &str, content: &[u8]) -> Self {
        self.0.extend(header(name, b'0', content.len(), ""));
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn hard_link(mut self, name: &str, target: &str) -> Self {
        self.0.extend(header(name, b'1', 0, target));
        self
    }

    pub fn symlink(mut self, name: &str, target: &str) -> Self {
        self.0.extend(header(name, b'2', 0, target));
        self
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A layer with a shell's tools, of about 2 MB. Another one for each test, so that no test brings layers for another one.
pub fn busybox(test: &str) -> Vec<u8> {
    let tools = Tar::default().file("bin/busybox", &fs::read("/bin/busybox").unwrap());
    tools.hard_link("bin/cat", "bin/busybox").file("test", test.as_bytes()).end()
}

/// A layer of about 300 kB that compresses badly, with one file that tells which it is.
pub fn layer(name: &str, content: &str) -> Vec<u8> {
    let mut noise = Vec::new();
    let mut seed = digest(&SHA256, content.as_bytes()).as_ref().to_vec();
    while noise.len() < 300_000 {
        seed = digest(&SHA256, &seed).as_ref().to_vec();
        noise.extend_from_slice(&seed);
    }
    Tar::default().file(name, content.as_bytes()).file(&format!("{name}.noise"), &noise).end()
}

/// An image before it is written down.
#[derive(Clone)]
pub struct Built {
    pub layers: Vec<Vec<u8>>,
    pub tags: Vec<String>,
}

impl Built {
    pub fn new(layers: Vec<Vec<u8>>, tags: &[&str]) -> Self {
        Self { layers, tags: tags.iter().map(|tag| (*tag).to_owned()).collect() }
    }

    pub fn config(&self) -> Vec<u8> {
        let ids: Vec<String> = self.layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
        let history: Vec<Value> = ids.iter().map(|_| json!({ "created_by": "test" })).collect();
        json!({
            "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z", "history": history,
            "config": { "Cmd": ["/bin/busybox", "true"] },
            "rootfs": { "type": "layers", "diff_ids": ids },
        })
        .to_string()
        .into_bytes()
    }

    fn manifest(&self, config: &str, layers: &[String]) -> Vec<u8> {
        let tags = if self.tags.is_empty() { Value::Null } else { json!(self.tags) };
        json!([{ "Config": config, "RepoTags": tags, "Layers": layers }]).to_string().into_bytes()
    }

    /// `docker save` since 25. Without `compatible` as `buildctl --output type=oci`: no `manifest.json`.
    pub fn saved(&self, compatible: bool) -> Vec<u8> {
        let blob = |content: &[u8]| format!("blobs/sha256/{}", hex(content));
        let descriptor = |kind: &str, content: &[u8]| {
            json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": format!("sha256:{}", hex(content)),
                "size": content.len(),
            })
        };
        let config = self.config();
        let layers: Vec<Value> = self.layers.iter().map(|layer| descriptor("layer.v1.tar", layer)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &config), "layers": layers,
        })
        .to_string()
        .into_bytes();
        let entry = descriptor("manifest.v1+json", &manifest);
        let entries: Vec<Value> = if self.tags.is_empty() {
            vec![entry]
        } else {
            let named = |tag: &String| {
                let mut entry = entry.clone();
                entry["annotations"] = json!({ "io.containerd.image.name": format!("docker.io/library/{tag}") });
                entry
            };
            self.tags.iter().map(named).collect()
        };
        let mut blobs: Vec<&Vec<u8>> = self.layers.iter().chain([&config, &manifest]).collect();
        blobs.sort_by_key(|content| hex(content));
        blobs.dedup();
        let mut tar = Tar::default();
        for content in blobs {
            tar = tar.file(&blob(content), content);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries });
        tar = tar.file("index.json", index.to_string().as_bytes());
        if compatible {
            let names: Vec<String> = self.layers.iter().map(|layer| blob(layer)).collect();
            tar = tar.file("manifest.json", &self.manifest(&blob(&config), &names));
        }
        tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).end()
    }

    /// `docker save` before 25: a directory per layer, the second of two equal layers a symbolic link.
    pub fn legacy(&self) -> Vec<u8> {
        let config = self.config();
        let mut tar = Tar::default();
        let mut names: Vec<String> = Vec::new();
        for (at, layer) in self.layers.iter().enumerate() {
            let directory = hex(format!("{}{}", hex(layer), names.len()).as_bytes());
            tar = tar.file(&format!("{directory}/VERSION"), b"1.0").file(&format!("{directory}/json"), b"{}");
            let name = format!("{directory}/layer.tar");
            tar = match self.layers[..at].iter().position(|earlier| earlier == layer) {
                Some(earlier) => tar.symlink(&name, &format!("../{}", names[earlier])),
                None => tar.file(&name, layer),
            };
            names.push(name);
        }
        let config_name = format!("{}.json", hex(&config));
        tar.file(&config_name, &config)
            .file("manifest.json", &self.manifest(&config_name, &names))
            .file("repositories", br#"{"busybox":{"latest":"0000"}}"#)
            .end()
    }

    /// kaniko and others with the same library: configuration, compressed layers, manifest.
    pub fn kaniko(&self) -> Vec<u8> {
        self.packed(gzip)
    }

    /// The same with layers that are compressed in another way.
    pub fn packed(&self, pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let config = self.config();
        let config_name = format!("sha256:{}", hex(&config));
        let mut tar = Tar::default().file(&config_name, &config);
        let mut names: Vec<String> = Vec::new();
        for layer in &self.layers {
            let packed = pack(layer);
            let name = format!("{}.tar.gz", hex(&packed));
            if !names.contains(&name) {
                tar = tar.file(&name, &packed);
            }
            names.push(name);
        }
        tar.file("manifest.json", &self.manifest(&config_name, &names)).end()
    }
}

/// Compressed with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

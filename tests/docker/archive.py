"""Archives of images, written here byte by byte, in the forms that builders and engines are known to write.

An image is its configuration and its layers; a layer is a tar file. Three forms:

    layout   as engines write them now: an OCI layout with `manifest.json` beside it
    legacy   as engines wrote them before: a directory per layer
    kaniko   as kaniko writes them: configuration first, each layer a gzip file of its own, `manifest.json` last
"""

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path

# All that is written here carries this date, so that the same input gives the same digests.
DATE, SECONDS = "2024-01-01T00:00:00Z", 1704067200


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Layer:
    """A tar file of one layer, in a file of its own."""

    def __init__(self, path):
        self.path = Path(path)
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        self.digest, self.size = digest.hexdigest(), self.path.stat().st_size


class Image:
    """A configuration with its layers and names."""

    def __init__(self, layers, names=(), config=None, diff_ids=None):
        self.layers, self.names = list(layers), list(names)
        self.config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": DATE,
                "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], **(config or {})},
                "rootfs": {"type": "layers", "diff_ids": diff_ids or [f"sha256:{layer.digest}" for layer in layers]},
                "history": [{"created": DATE, "created_by": f"layer {n}"} for n, _ in enumerate(layers)],
            }
        ).encode()
        self.digest = sha256(self.config)


class Writer:
    """A tar file on its way out; the entries come in the order in which they are put."""

    def __init__(self, out):
        self.tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT)

    def entry(self, name, kind=tarfile.REGTYPE, mode=0o644, **fields):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime = kind, mode, SECONDS
        for key, value in fields.items():
            setattr(info, key, value)
        return info

    def directory(self, name, mode=0o755, **fields):
        self.tar.addfile(self.entry(name, tarfile.DIRTYPE, mode, **fields))

    def link(self, name, target, kind=tarfile.SYMTYPE):
        self.tar.addfile(self.entry(name, kind, 0o777, linkname=target))

    def data(self, name, data, mode=0o644, **fields):
        data = data if isinstance(data, bytes) else data.encode()
        self.tar.addfile(self.entry(name, mode=mode, size=len(data), **fields), io.BytesIO(data))

    def file(self, name, path, mode=0o644):
        with open(path, "rb") as file:
            self.tar.addfile(self.entry(name, mode=mode, size=os.fstat(file.fileno()).st_size), file)

    def copy(self, name, path, seen):
        """A file of any kind as it is, with its owner; what is `seen` already becomes a hard link."""
        status = os.lstat(path)
        info = self.tar.gettarinfo(str(path), arcname=name)
        if info is None or stat.S_ISSOCK(status.st_mode):
            return
        info.uname = info.gname = ""
        first = seen.setdefault((status.st_dev, status.st_ino), name)
        if stat.S_ISREG(status.st_mode) and first != name:
            info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
        elif stat.S_ISREG(status.st_mode):
            # tarfile takes a second name of a file for a link of its own accord, and it may be in another layer.
            info.type, info.size = tarfile.REGTYPE, status.st_size
        if info.isreg():
            with open(path, "rb") as file:
                self.tar.addfile(info, file)
        else:
            self.tar.addfile(info)

    def close(self):
        self.tar.close()


def layout(image, out):
    """As engines write them now."""
    writer = Writer(out)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": f"sha256:{image.digest}",
                "size": len(image.config),
            },
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": f"sha256:{layer.digest}", "size": layer.size}
                for layer in image.layers
            ],
        }
    ).encode()
    writer.directory("blobs")
    writer.directory("blobs/sha256")
    blobs = {layer.digest: layer for layer in image.layers}
    for digest in sorted([*blobs, image.digest, sha256(manifest)]):
        if digest in blobs:
            writer.file(f"blobs/sha256/{digest}", blobs[digest].path)
        else:
            writer.data(f"blobs/sha256/{digest}", image.config if digest == image.digest else manifest)
    index = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": f"sha256:{sha256(manifest)}", "size": len(manifest)}
    named = [
        {
            **index,
            "annotations": {
                "io.containerd.image.name": f"docker.io/{name}",
                "org.opencontainers.image.ref.name": name.rpartition(":")[2],
            },
        }
        for name in image.names
    ]
    writer.data("index.json", json.dumps({"schemaVersion": 2, "manifests": named or [index]}))
    writer.data(
        "manifest.json",
        json.dumps(
            [
                {
                    "Config": f"blobs/sha256/{image.digest}",
                    "RepoTags": image.names or None,
                    "Layers": [f"blobs/sha256/{layer.digest}" for layer in image.layers],
                }
            ]
        ),
    )
    writer.data("oci-layout", '{"imageLayoutVersion": "1.0.0"}')
    writer.close()


def legacy(image, out):
    """As engines wrote them before: a directory per layer, the configuration beside them, the manifest near the end."""
    writer = Writer(out)
    writer.data(f"{image.digest}.json", image.config)
    parent, directories = None, []
    for layer in image.layers:
        # The old identifiers are only names; they have to differ from one layer to the next.
        own = sha256(f"{parent} {layer.digest}".encode())
        writer.directory(own)
        writer.data(f"{own}/VERSION", "1.0")
        writer.data(f"{own}/json", json.dumps({"id": own, **({"parent": parent} if parent else {}), "created": DATE}))
        writer.file(f"{own}/layer.tar", layer.path)
        parent = own
        directories.append(f"{own}/layer.tar")
    writer.data("manifest.json", json.dumps([{"Config": f"{image.digest}.json", "RepoTags": image.names or None, "Layers": directories}]))
    repositories = {}
    for name in image.names:
        repository, _, tag = name.rpartition(":")
        repositories.setdefault(repository, {})[tag] = parent
    writer.data("repositories", json.dumps(repositories))
    writer.close()


def kaniko(image, out):
    """As kaniko writes them: no directories, compressed layers, the manifest last."""
    writer = Writer(out)
    writer.data(f"sha256:{image.digest}", image.config)
    names = []
    for layer in image.layers:
        packed = gzip.compress(layer.path.read_bytes(), 1, mtime=0)
        names.append(f"{sha256(packed)}.tar.gz")
        writer.data(names[-1], packed)
    writer.data("manifest.json", json.dumps([{"Config": f"sha256:{image.digest}", "RepoTags": image.names, "Layers": names}]))
    writer.close()


FORMS = {"layout": layout, "legacy": legacy, "kaniko": kaniko}

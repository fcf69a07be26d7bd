"""An image of one file, which needs no engine: the one that holds the namespaces of a Pod."""

import hashlib
import io
import json
import os
import tarfile

NAME = "docker.io/library/pause:3.2"


def write_pause(program, path):
    """Writes the image NAME of the static ``program`` to ``path``, an archive as `docker save` makes them."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo("pause")
        entry.mode, entry.size = 0o755, os.path.getsize(program)
        with open(program, "rb") as file:
            archive.addfile(entry, file)
    digest = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/pause"], "User": "65535"},
                         "rootfs": {"type": "layers", "diff_ids": [digest]}}).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": [NAME], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as archive:
        for member, content in ((name, config), ("manifest.json", manifest), ("layer.tar", layer.getvalue())):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

"""The options of the workers beyond the trainer's own host, with their defaults: how many they may be, and who is told
how many are wanted."""

import os
import re
from dataclasses import dataclass
from typing import Optional, Tuple, Union

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import check, check_whole, is_loopback
from stoker.pipeline.storage.safe_files import UnsafeFile, read_whole
from stoker.pipeline.text import native
from stoker.pipeline.transport.keys import check_private
from stoker.trainer import kubernetes

Path = Union[str, "os.PathLike[str]"]
MAX_WORKERS = 100000                  # of a fleet
MAX_TOKEN_BYTES = 1024
_TOKEN = re.compile(rb"[!-~]{16,512}")


@dataclass(frozen=True)
class FleetOptions:
    """How many workers are wanted beyond the trainer's own, and who is told. Raises ConfigError.

    ``status``: HOST:PORT at which a small HTTP server tells it, and shows the run (port 0: a free one);
    ``status_token_file``: a file with the token that requests need, without which the address must be one of loopback.
    ``min_workers`` and ``max_workers``: the limits of the number. ``scale_deployment``: [NAMESPACE/]NAME of the
    Deployment of workers that a trainer in a Pod of Kubernetes keeps at this number."""
    status: Optional[str] = None
    status_token_file: Optional[Path] = None
    min_workers: int = 1
    max_workers: int = 64
    scale_deployment: Optional[str] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "min_workers", check_whole("min_workers", self.min_workers, 0, MAX_WORKERS))
        object.__setattr__(self, "max_workers", check_whole("max_workers", self.max_workers, 1, MAX_WORKERS))
        if self.min_workers > self.max_workers:
            raise ConfigError("min_workers %d is more than max_workers %d" % (self.min_workers, self.max_workers))
        if self.scale_deployment is not None:
            kubernetes.parse(self.scale_deployment)
        if self.status is None:
            if self.status_token_file is not None:
                raise ConfigError("status_token_file is for the status address, and there is none: give "
                                  "status='HOST:PORT' (--status HOST:PORT) as well")
            return
        host, _ = host_and_port(self.status)
        if self.status_token_file is None and not is_loopback("tcp://%s:1" % host):
            raise ConfigError(
                "status %s is open to other hosts: give status_token_file='FILE' (--status-token-file FILE), a file "
                "with a token that each request must have. To make one: (umask 077; head -c 32 /dev/urandom | base64 "
                "> FILE)" % self.status)

    @property
    def is_used(self) -> bool:
        """Whether anything is told how many workers are wanted."""
        return self.status is not None or self.scale_deployment is not None

    def token(self) -> Optional[bytes]:
        """The token that requests need; None: they need none. Raises ConfigError."""
        return None if self.status_token_file is None else read_token(os.fspath(self.status_token_file))


NO_FLEET = FleetOptions()


def host_and_port(address: object) -> Tuple[str, int]:
    """'HOST:PORT' -> (HOST, PORT); the host of '[::1]:80' is '::1'. Raises ConfigError."""
    match = re.match(r"(\[[:.%\w]+\]|[^:/\s\[\]]+):(\d{1,5})$", address) if isinstance(address, str) else None
    check(match is not None and int(match.group(2)) <= 65535, "status",
          "must look like 127.0.0.1:8265, with a port from 1 to 65535, or 0 for a free one", address)
    assert match is not None
    host = match.group(1).strip("[]")
    return "0.0.0.0" if host == "*" else host, int(match.group(2))


def read_token(path: str, name: str = "status_token_file") -> bytes:
    """The token in the file ``path``, which no other user may read. Raises ConfigError, with the option's ``name``."""
    path = native(path)
    try:
        token = read_whole(path, MAX_TOKEN_BYTES, links=True).strip()
        check_private(path, name, "write a new token into it")
    except UnsafeFile as error:
        raise ConfigError("%s: %r cannot be used: %s" % (name, path, error.strerror)) from error
    except OSError as error:
        raise ConfigError("%s: cannot read %r: %s. To make one: (umask 077; head -c 32 /dev/urandom | "
                          "base64 > %s)" % (name, path, error.strerror, path)) from error
    if not _TOKEN.fullmatch(token):
        raise ConfigError("%s: %r must hold one line of 16 to 512 letters, digits or signs, and no spaces"
                          % (name, path))
    return token

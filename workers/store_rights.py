"""What a worker in its sandbox needs to read a store elsewhere: the ports that the store's client connects to, and the
files from which the client takes credentials and certificates. Pure: it is told the environment. All of it is granted
only where the data's root is a URL.
"""

import os
from typing import List, Mapping, Sequence, Set
from urllib.parse import urlsplit

from stoker.pipeline.storage.folder import is_store

#: Of the stores' web services, and of services of the cloud's machine that give it credentials.
_PORTS = (80, 443)
#: Variables whose value is a URL that clients connect to.
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT",
              "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_METADATA_ENDPOINT",
              "STORAGE_EMULATOR_HOST", "GOOGLE_BASE_URL", "GOOGLE_SERVICE_PATH", "GCE_METADATA_HOST",
              "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "AZURITE_BLOB_STORAGE_URL", "AZURE_AUTHORITY_HOST",
              "MSI_ENDPOINT", "IDENTITY_ENDPOINT", "http_proxy", "https_proxy", "all_proxy")
_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"     # name=value;...
_EMULATOR_PORT = 10000                              # of Azure's, if AZURE_STORAGE_USE_EMULATOR asks for it
_HOME_FILES = (".aws", ".config/gcloud", ".azure", ".netrc")
#: Variables whose value is a file or a folder that clients read.
_FILES = ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_CA_BUNDLE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
          "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "AZURE_CONFIG_DIR", "NETRC", "SSL_CERT_FILE",
          "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: Files that are replaced while a worker runs, by the name of a link in the folder that has them.
_TOKENS = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AZURE_FEDERATED_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
_TOKEN_FOLDERS = ("/var/run/secrets/", "/run/secrets/")
_SYSTEM = ("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/local/share/ca-certificates")


def stores_of(roots: Sequence[str]) -> List[str]:
    """The roots that are URLs."""
    return [root for root in roots if is_store(root)]


def ports(roots: Sequence[str], environment: Mapping[str, str]) -> List[int]:
    """The ports that are needed for these roots, ascending; none if none is a URL."""
    stores = stores_of(roots)
    if not stores:
        return []
    found: Set[int] = set(_PORTS)
    urls = [root for root in stores if root.startswith("http")]
    for name in _ENDPOINTS:
        urls += [environment.get(name, ""), environment.get(name.upper(), "")]
    urls += [part.partition("=")[2] for part in environment.get(_CONNECTION, "").split(";")]
    for url in urls:
        port = _port(url)
        if port:
            found.add(port)
    if environment.get("AZURE_STORAGE_USE_EMULATOR") or "UseDevelopmentStorage" in environment.get(_CONNECTION, ""):
        found.add(_EMULATOR_PORT)
    return sorted(found)


def _port(url: str) -> int:
    """The port of a URL or a host with a port; 0 if it names none."""
    try:
        return urlsplit(url if "://" in url else "//" + url).port or 0
    except ValueError:
        return 0


def files(roots: Sequence[str], environment: Mapping[str, str], home: str) -> List[str]:
    """The files and folders that clients read for these roots, whether they are there or not; none if none is a URL."""
    if not stores_of(roots):
        return []
    found = [os.path.join(home, name) for name in _HOME_FILES] + list(_SYSTEM)
    for name in _FILES + _TOKENS:
        path = environment.get(name, "")
        if not os.path.isabs(path):
            continue
        found.append(path)
        if name in _TOKENS and path.startswith(_TOKEN_FOLDERS):
            found.append(os.path.dirname(path))
    return found

"""The formats of pictures that the Pillow of this Python opens: WebP only where its libwebp is safe, TIFF where tests
name it."""

import pytest
from PIL import features

from stoker.pipeline.formats import FORMATS, why_not

WEBP_IS_SAFE = not why_not("webp", FORMATS, features.version("webp"))
needs_webp = pytest.mark.skipif(not WEBP_IS_SAFE, reason="this Pillow has libwebp %s, and Stoker opens no WebP with it"
                                                         % features.version("webp"))
#: The reason why a WebP is bad elsewhere.
WEBP_REASON = "WebP, not opened, for libwebp [0-9.]+ has CVE-2023-4863"


def kinds(names):
    """``names`` of files as parameters of a test; those of WebPs are skipped where they are not opened."""
    return [pytest.param(name, marks=needs_webp) if name.endswith("webp") else name for name in names]

"""The versions of which a worker tells its trainer."""

import glob
import os
import platform

from stoker.pipeline.formats import described
from stoker.workers import formats


def versions() -> str:
    """The versions that may make pictures differ between workers: of Python, Pillow (or pillow-simd), its decoder."""
    import PIL
    from PIL import features
    site = os.path.dirname(os.path.dirname(os.path.abspath(PIL.__file__)))
    pillow = "pillow-simd" if glob.glob(os.path.join(glob.escape(site), "[Pp]illow_[Ss][Ii][Mm][Dd]-*")) else "pillow"
    jpeg = ("libjpeg-turbo %s" % features.version_feature("libjpeg_turbo") if features.check("libjpeg_turbo")
            else "libjpeg %s" % features.version_codec("jpg"))
    return "python %s, %s %s, %s, %s" % (platform.python_version(), pillow, PIL.__version__, jpeg,
                                         described(formats.versions()))

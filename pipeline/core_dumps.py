"""A core dump of a process holds its keys, and the pictures that it has in memory."""

import resource
from contextlib import suppress


def forbid() -> None:
    """Lets neither this process nor those that it starts leave a core dump when they crash. For Stoker's own programs:
    it cannot be undone without privileges."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

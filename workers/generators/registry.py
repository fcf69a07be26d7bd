"""Which generators there are: three by name, and the user's own by module:function.
"""

from __future__ import generator_stop

import importlib
import inspect
from typing import Callable, Iterable, Iterator, Sequence

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.protocol.messages import Job, Lease
from stoker.workers.generators.numerical import numerical
from stoker.workers.generators.output import Output
from stoker.workers.generators.pictures import augmented, image

Generator = Callable[[Iterable[Lease], Job], Iterator[Output]]
BUILT_IN = {generator.__name__: generator for generator in (numerical, image, augmented)}


def find(name: str, allowed: Sequence[str]) -> Generator:
    """The generator called ``name``: one of the three, or the user's 'module:function' if it is in ``allowed``.

    Names come from the trainer, over the network; importing runs code. So this worker's own command line says what
    may be imported. Raises ConfigError if there is no such generator here, or it is not allowed.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ConfigError("generator %r: is none of %s, and not of the form module:function"
                          % (name, ", ".join(BUILT_IN)))
    if name not in allowed:
        raise ConfigError("generator %r: this worker does not allow it (allowed: %s); start the worker with "
                          "--allow-generator %s" % (name, ", ".join(allowed) or "none", name))
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # whatever the user's module does when it is imported
        raise ConfigError("generator %r: importing %s on this worker failed: %s: %s"
                          % (name, module, type(error).__name__, error)) from error
    if found is None:
        raise ConfigError("generator %r: the module %s has no %s" % (name, module, function))
    if not inspect.isgeneratorfunction(found):
        raise ConfigError("generator %r: %s is no generator function (a def with a yield in it, which is handed "
                          "leases and a job) but a %s" % (name, function, type(found).__name__))
    return found

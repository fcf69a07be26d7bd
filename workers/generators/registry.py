"""The generators by name: the built-in ones, and the user's own as module:function."""

from __future__ import generator_stop

import importlib
import inspect
import socket
from typing import Sequence

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import GENERATORS
from stoker.pipeline.protocol.messages import Job
from stoker.workers.generators.numerical import numerical
from stoker.workers.generators.pictures import augmented, image
from stoker.workers.generators.producer import Generator

_FUNCTIONS = {generator.__name__: generator for generator in (numerical, image, augmented)}


def find(name: str, allowed: Sequence[str]) -> Generator:
    """The generator called ``name``: one of GENERATORS, or the user's 'module:function' if it is in ``allowed``.

    Names come from the trainer, over the network, and importing runs code. So the worker's own command line says what
    may be imported. Raises ConfigError if there is no such generator here, or it is not allowed.
    """
    if name in GENERATORS:
        return _FUNCTIONS[name]
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ConfigError("generator %r: is none of %s, and not of the form module:function"
                          % (name, ", ".join(GENERATORS)))
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
        raise ConfigError("generator %r: %s is no generator function (a def with a yield in it, called with leases "
                          "and a job) but a %s" % (name, function, type(found).__name__))
    generator: Generator = found
    return generator


def check_links(job: Job, permitted: bool) -> None:
    """Raises ConfigError if ``job`` follows links out of the data folder, and this worker's options do not permit it:
    the trainer alone must not decide which files of this host are read."""
    if job.follow_links and not permitted:
        raise ConfigError("the run follows links that lead out of %s, which this worker on %s may not: start it with "
                          "--follow-links" % (job.data_root, socket.gethostname()))

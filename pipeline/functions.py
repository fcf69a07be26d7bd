"""Users' functions with declared arrays: the decorators, and how trainer and workers find a function by its name.

A decorated function stays callable. What it is called with and when is in ``workers/generators``.
"""

import functools
import importlib
import importlib.util
import inspect
import json
import os
import sys
import threading
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple, Type, TypeVar

import stoker
from stoker.pipeline.arrays import ArraySpec, declared, listed
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import check_whole
from stoker.pipeline.text import printable_path
from stoker.pipeline.user_errors import a_type, sentence_of

MAX_ROWS = 1024            # of a batch from one sample
#: The file of a program is imported under this name, so that it does not start the program again.
PROGRAM = "__stoker_program__"
#: So is the file of a module of the program, where this process finds another module of that name: a user's code.py.
OWN_MODULE = "__stoker_module_%s__"
PROGRAM_PATH = "STOKER_PROGRAM_PATH"    # of local workers: JSON, see ``trainer/local_workers.py``
OLD_GENERATOR = "call an old generator, which yields batches of its own, in a function that stoker.batch declares"
_importing = threading.local()      # ``depth``: so many imports of ``load_function`` this thread is in
#: In the environment of each worker process, and of this one while it imports a user's module, so that all processes
#: that are started there inherit it: none of them may open a stream.
IN_WORKER = "STOKER_IN_WORKER"


class NestedStream(ConfigError):
    """A stream was opened while a module was imported to find a function in it, or in a process that a worker started.
    Each such stream would start workers, which import that module again, without end."""


class Skip(Exception):
    """Leaves a sample out of its batch: ``raise stoker.Skip("no face in it")``. It is counted apart from bad files."""


class Declared:
    """A user's function, and the arrays that it declares. Raises ConfigError, which names the function."""
    decorator, arguments, yields = "", "", False       # in each kind

    def __init__(self, function: Callable[..., Any], arrays: Mapping[str, Any]) -> None:
        if not callable(function) or isinstance(function, (type, Declared)):
            raise ConfigError("%s decorates a function, not %.200r" % (self.decorator, function))
        self._check_form(function, "function %s: " % getattr(function, "__qualname__", function))
        self.arrays: Tuple[ArraySpec, ...] = declared(arrays)
        functools.update_wrapper(self, function)

    def _check_form(self, function: Callable[..., Any], subject: str) -> None:
        if inspect.isgeneratorfunction(function) != self.yields:
            raise ConfigError(subject + ("%s declares a generator over leases, and it has no yield" if self.yields else
                                         "it has a yield, and %s declares a function that returns") % self.decorator)
        try:
            inspect.signature(function).bind(None, None)
        except TypeError as error:
            raise ConfigError("%sit is called with two arguments, %s: %s" % (subject, self.arguments, error)) from error
        except ValueError:         # a function of C has no signature
            pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)      # type: ignore[attr-defined]  # update_wrapper sets it

    def __repr__(self) -> str:
        return "<%s %s: %s>" % (self.decorator, getattr(self, "__qualname__", "function"), listed(self.arrays))


Kind = TypeVar("Kind", bound=Declared)


class SampleFunction(Declared):
    """What ``stoker.sample`` makes: a function for one sample."""
    decorator, arguments = "stoker.sample", "(sample, random)"

    def __init__(self, function: Callable[..., Any], arrays: Mapping[str, Any],
                 setup: Optional[Callable[[Any], Any]] = None, rows: int = 1) -> None:
        super().__init__(function, arrays)
        self.setup, self.rows = setup, check_whole("rows", rows, 1, MAX_ROWS)


class BatchFunction(Declared):
    """What ``stoker.batch`` makes: a function for the samples of one batch."""
    decorator, arguments = "stoker.batch", "(samples, random)"

    def __init__(self, function: Callable[..., Any], arrays: Mapping[str, Any],
                 setup: Optional[Callable[[Any], Any]] = None, may_skip: bool = False) -> None:
        super().__init__(function, arrays)
        self.setup, self.may_skip = setup, bool(may_skip)


class GeneratorFunction(Declared):
    """What ``stoker.generator`` makes: a generator over leases."""
    decorator, arguments, yields = "stoker.generator", "(leases, job)", True


def sample(arrays: Mapping[str, Any], setup: Optional[Callable[[Any], Any]] = None, rows: int = 1
           ) -> Callable[[Callable[..., Any]], SampleFunction]:
    """Declares a function that makes one sample:

        @stoker.sample({"image": ("uint8", (66, 200, 3)), "steering": "float32"})
        def drive(sample, random):
            return {"image": sample.image(size=(66, 200)), "steering": sample.row["steering"]}

    ``arrays``: {name: dtype} or {name: (dtype, shape of one sample)}; a side of a shape may be ``stoker.UpTo(n)``. The
    function returns a dict with these names, or a tuple in this order. Workers call it with the sample and a
    ``random.Random`` that is seeded for (seed, epoch, index), as are the global ``random`` and ``numpy.random`` for the
    length of the call. ``setup(job)`` runs once in each worker process; its result is ``sample.shared``. With
    ``rows=n``, the function returns a list of up to n dicts, and each is a row of the batch. Raises ConfigError.
    """
    return _decorator(SampleFunction, arrays, setup=setup, rows=rows)


def batch(arrays: Mapping[str, Any], setup: Optional[Callable[[Any], Any]] = None, may_skip: bool = False
          ) -> Callable[[Callable[..., Any]], BatchFunction]:
    """Declares a function that makes a whole batch, such as an old generator's:

        @stoker.batch({"x": ("float32", (64, 64, 3)), "y": ("int32", (1,))})
        def batch(samples, random):
            return next(image_data_generator([sample.file for sample in samples], len(samples), (64, 64)))

    It is called once for each batch, with the samples of that batch; the random numbers are seeded for each batch. It
    returns a dict, or a tuple in the declared order, of arrays with a row for each sample. It may return fewer rows
    only with ``may_skip``; what is missing is counted. See ``stoker.sample`` for the rest. Raises ConfigError.
    """
    return _decorator(BatchFunction, arrays, setup=setup, may_skip=may_skip)


def generator(arrays: Mapping[str, Any]) -> Callable[[Callable[..., Any]], GeneratorFunction]:
    """Declares the arrays of a generator over leases, which yields a ``stoker.Output`` for each:

        @stoker.generator({"x": ("float32", (10,))})
        def noise(leases, job):
            for lease in leases:
                yield stoker.batch_of(lease, job, lambda sample: [[random_of(sample)] * 10])

    Raises ConfigError."""
    return _decorator(GeneratorFunction, arrays)


def _decorator(kind: Type[Kind], arrays: Mapping[str, Any], **options: Any) -> Callable[[Callable[..., Any]], Kind]:
    setup = options.get("setup")
    if setup is not None and not callable(setup):
        raise ConfigError("%s: setup must be a function of the job, not %.200r" % (kind.decorator, setup))
    if callable(arrays):
        raise ConfigError("%s declares the arrays that the function makes: write @%s({\"image\": (\"uint8\", (64, 64, "
                          "3)), \"label\": \"int32\"})" % (kind.decorator, kind.decorator))
    return functools.partial(kind, arrays=arrays, **options)


def name_of(function: Any) -> str:
    """The name by which a worker finds ``function``: 'module:function', or '/the/program.py:function' for one of the
    program that runs. Raises ConfigError if it has no such name, as a lambda or a function inside a function."""
    module = getattr(function, "__module__", None)
    if not callable(function) or not module:
        raise ConfigError("a function is needed, or its name as module:function, not %.200r" % (function,))
    known = vars(sys.modules[module]) if module in sys.modules else {}
    name = getattr(function, "__qualname__", "")
    if known.get(name) is not function:      # another name, as in  mine = stoker.sample({...})(theirs)
        names = [other for other, value in known.items() if value is function]
        if not names:
            raise ConfigError("workers cannot find the function %s: define it at the top of a module, with def, and "
                              "give the decorated function itself" % (name or repr(function)))
        name = names[0]
    if module != "__main__":
        return "%s:%s" % (module, name)
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), _program_file()
    if spec is not None and not spec.name.endswith("__main__"):
        return "%s:%s" % (spec.name, name)             # python -m package.program
    if not os.path.exists(file):
        raise ConfigError("workers cannot find the function %s, which was typed into an interpreter or a notebook: "
                          "write it into a module" % name)
    return "%s:%s" % (file, name)


def _program_file() -> str:
    """The absolute path of the file of the program that runs; '' without one. Before Python 3.9 it is relative."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return os.path.abspath(os.path.join(stoker.started_in, file)) if file else ""


def load_function(name: str, here: str = "") -> Any:
    """The object called ``name``, 'module:function' or '/the/program.py:function', of this host. Importing runs the
    module's code. Raises ConfigError; ``here``: how its sentence names this host, such as " on this worker"."""
    module, colon, function = name.rpartition(":")
    if not (module and colon and function):
        raise ConfigError("%r is no function: write module:function" % name)
    _importing.depth = getattr(_importing, "depth", 0) + 1
    started_by = os.environ.setdefault(IN_WORKER, _this_process())
    try:
        imported = _import(module)
    except ConfigError as error:
        kind = NestedStream if isinstance(error, NestedStream) else ConfigError
        raise kind("%r: importing %s%s failed: %s" % (name, module, here, error)) from error
    except Exception as error:
        raise ConfigError("%r: importing %s%s failed: %s" % (
            name, module, here, sentence_of(error, _missing_module(error, module, here)))) from error
    except SystemExit as error:
        raise ConfigError("%r: %s ended the program while it was imported: put what starts it below  if __name__ == "
                          "\"__main__\":" % (name, module)) from error
    finally:
        _importing.depth -= 1
        if started_by == _this_process() and not _importing.depth:
            os.environ.pop(IN_WORKER, None)
    found = getattr(imported, function, None)
    if found is None:
        raise ConfigError("%r: %s" % (name, _lacks(imported, module, function, here)))
    return found


def files_of(names: Iterable[str]) -> Dict[str, str]:
    """The file that this process has as the module, or as its outermost package, of each of these functions that is one
    of a module."""
    tops = {name.rpartition(":")[0].partition(".")[0] for name in names if ".py:" not in name and ":" in name}
    files = {top: os.path.abspath(os.path.join(stoker.started_in, _file_of(top))) for top in tops if _file_of(top)}
    return {top: file for top, file in files.items() if file.endswith(".py") and os.path.isfile(file)}


def loaded_module(module: str) -> Any:
    """The module in which ``load_function`` has found a function; None if there is none."""
    return sys.modules.get(OWN_MODULE % module) or sys.modules.get(module)


def check_generator(function: Any, name: str) -> None:
    """Raises ConfigError unless ``function``, which declares nothing, is a generator over leases: ``def mine(leases,
    job)`` with a yield."""
    if not inspect.isgeneratorfunction(function):
        raise ConfigError("%r is no generator function (a def with a yield in it, called with leases and a job) but "
                          "%s: to have it called for each sample or batch, decorate it with @stoker.sample({...}) or "
                          "@stoker.batch({...}), which declare its arrays" % (name, a_type(function)))
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise ConfigError("the generator function %r must be one over leases, def mine(leases, job): ... (%s); %s"
                          % (name, error, OLD_GENERATOR)) from error


def _missing_module(error: Exception, module: str, here: str) -> str:
    """The remedy if ``error`` means that a module is missing which ``module`` imports."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if not missing:
        return ""                                      # it is there, and fails
    if missing != module.partition(".")[0] and module.startswith(missing):      # its package was found
        return _advice(module.partition(".")[0], here)
    if missing == module or module.startswith(missing + "."):
        return here and ": start the worker in the folder of %s, or add that folder to its PYTHONPATH" % missing
    return ": install it for %s, or move the function into a module that does not import it" % sys.executable


def refuse_nested() -> None:
    """To be called before a stream is opened or workers are started. Raises NestedStream in a thread that imports a
    user's module to find a function in it, in a worker process, and in all processes that either has started."""
    if getattr(_importing, "depth", 0):
        raise NestedStream("this program was imported to find a function in it, as each worker does, and it opened a "
                           "stream: put what starts the training below  if __name__ == \"__main__\":")
    if os.environ.get(IN_WORKER, _this_process()) != _this_process():     # another thread of this one may import
        raise NestedStream("a worker process of Stoker, or a program that one started, opened a stream or started "
                           "workers, which would start processes without end: let only the training program do it, "
                           "below  if __name__ == \"__main__\":")


def _this_process() -> str:
    return "import by %d" % os.getpid()


def _lacks(imported: Any, module: str, function: str, here: str) -> str:
    """That ``module`` has no ``function``, with a remedy."""
    file = getattr(imported, "__file__", None)
    sentence = "the module %s%s%s has no %s" % (
        module, " (%s)" % printable_path(file) if file and file != module else "", here, function)
    like = get_close_matches(function, [other for other, value in vars(imported).items() if callable(value)], 1)
    if like:
        sentence += ": did you mean %s?" % like[0]
    if module.endswith(".py"):
        return sentence + ": define it above  if __name__ == \"__main__\":"
    return sentence if like else sentence + _advice(module.partition(".")[0], here, not file or "." in module)


def _advice(top: str, here: str, names_file: bool = True) -> str:
    """A remedy if this process may have taken another file for the module or package ``top`` than the user means."""
    file, own = _file_of(top), _program_files().get(top, "")
    if own and file and not _is_same(own, file):
        return ": the program's %s is %s, and %s hides it%s: rename yours" % (
            top, printable_path(own), printable_path(file), here)
    if own or not file:
        return ""
    return ": if %s is not yours, rename yours" % (
        "%s, which is %s%s," % (printable_path(file), top, here) if names_file else "this file")


def _file_of(top: str) -> str:
    """The file that this process has as the module or package ``top``, or would import; '' if it has none."""
    if top in sys.modules:
        return getattr(sys.modules[top], "__file__", None) or ""
    with suppress(Exception):      # a finder may raise anything: of a zip file, OSError
        spec = importlib.util.find_spec(top)
        return spec.origin or "" if spec is not None else ""
    return ""


def _program_files() -> Dict[str, str]:
    """In a local worker, what ``files_of`` was in the trainer's program."""
    return dict(json.loads(os.environ.get(PROGRAM_PATH, "{}")).get("files", {}))


def _is_same(file: str, other: str) -> bool:
    return os.path.realpath(file) == os.path.realpath(other)


def _import(module: str) -> Any:
    if module.endswith(".py"):
        return _import_file(module, PROGRAM)
    own = _program_files().get(module)
    if own is not None and os.path.basename(own) != "__init__.py" and not _is_same(own, _file_of(module)):
        return _import_file(own, OWN_MODULE % module)
    return importlib.import_module(module)


def _import_file(path: str, name: str) -> Any:
    if _program_file() == os.path.abspath(path):
        return sys.modules["__main__"]                 # the trainer itself
    module = sys.modules.get(name)
    if module is not None and module.__file__ == path:
        return module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise ConfigError("there is no such file on this host")
    module = importlib.util.module_from_spec(spec)
    if os.path.dirname(path) not in sys.path:          # where the program finds its own modules
        sys.path.append(os.path.dirname(path))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module

"""Who may import what, read from the source: the borders between the rooms, and what the pure modules do without."""

import ast
import functools
import os

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGES = ("pipeline", "workers", "trainer", "inspection", "packing")

#: Of a room, given by the beginning of its files' paths (the longest one counts): what of Stoker it may import,
#: besides itself. A name that ends with a dot stands for all below it.
SHARED = ("pipeline.cores", "pipeline.errors", "pipeline.checks", "pipeline.options", "pipeline.arrays",
          "pipeline.plan", "pipeline.functions", "pipeline.user_errors", "pipeline.text", "pipeline.output",
          "pipeline.requirements", "pipeline.environment", "pipeline.core_dumps", "pipeline.formats",
          "pipeline.progress")
BOTH_SIDES = SHARED + ("pipeline.protocol.", "pipeline.transport.", "pipeline.storage.")
ROOMS = {
    "pipeline/cores.py": (),
    "pipeline/requirements.py": (),
    "pipeline/text.py": (),
    "pipeline/errors.py": ("pipeline.text",),
    "pipeline/output.py": (),
    "pipeline/core_dumps.py": (),
    "pipeline/progress.py": (),
    "pipeline/environment.py": (),
    "pipeline/arrays.py": ("pipeline.errors",),
    "pipeline/formats.py": ("pipeline.errors",),
    "pipeline/checks.py": ("pipeline.errors",),
    "pipeline/options.py": ("pipeline.checks", "pipeline.formats", "pipeline.errors", "pipeline.arrays",
                            "pipeline.text"),
    "pipeline/plan.py": ("pipeline.checks", "pipeline.errors", "pipeline.arrays", "pipeline.options",
                         "pipeline.formats"),
    "pipeline/user_errors.py": ("pipeline.errors", "pipeline.text"),
    "pipeline/functions.py": ("pipeline.errors", "pipeline.arrays", "pipeline.options", "pipeline.user_errors",
                              "pipeline.text"),
    "pipeline/orders.py": SHARED + ("pipeline.contracts",),
    "pipeline/partners.py": SHARED + ("pipeline.orders", "pipeline.contracts"),
    "pipeline/batch.py": BOTH_SIDES + ("pipeline.contracts",),
    "pipeline/contracts.py": ("pipeline.protocol.", "pipeline.monitoring.", "pipeline.batch"),
    "pipeline/joining.py": ("pipeline.options", "pipeline.storage.urls"),
    "pipeline/insight.py": ("pipeline.",),
    "pipeline/stream.py": ("pipeline.",),
    "pipeline/protocol/": SHARED,
    "pipeline/transport/": SHARED,
    "pipeline/storage/": SHARED,
    "pipeline/sources/": SHARED + ("pipeline.contracts", "pipeline.protocol.", "pipeline.storage."),
    "pipeline/monitoring/health.py": ("pipeline.errors", "pipeline.output", "pipeline.text",
                                      "pipeline.storage.safe_files"),
    "pipeline/monitoring/": SHARED + ("pipeline.batch", "pipeline.contracts", "pipeline.protocol.messages",
                                     "pipeline.storage."),
    "pipeline/coordinator/": BOTH_SIDES + ("pipeline.batch", "pipeline.contracts", "pipeline.sources.",
                                          "pipeline.monitoring."),
    "workers/": BOTH_SIDES + ("pipeline.functions", "pipeline.monitoring.health"),
    "trainer/": ("pipeline.",),
    # programs of their own: a run or a dataset is opened as a trainer opens it, a file is judged as a worker judges it
    "inspection/": ("pipeline.", "trainer.", "workers."),
    # of the trainer's room only how a program ends in good order and logs, and how a file is replaced
    "packing/": SHARED + ("pipeline.storage.", "pipeline.sources.", "pipeline.monitoring.locks", "trainer.program",
                          "trainer.current_folder", "trainer.files", "trainer.command_log"),
}
PURE = ("pipeline/coordinator/effects.py", "pipeline/coordinator/leases.py", "pipeline/coordinator/bans.py",
        "pipeline/coordinator/open_positions.py", "pipeline/coordinator/killers.py",
        "pipeline/plan.py", "pipeline/protocol/", "pipeline/monitoring/throughput.py", "pipeline/monitoring/closing.py",
        "pipeline/monitoring/history.py", "pipeline/monitoring/events.py", "pipeline/monitoring/worker_rates.py",
        "pipeline/monitoring/observation.py", "pipeline/coordinator/roster.py", "trainer/status/gate.py",
        "pipeline/environment.py", "pipeline/formats.py", "trainer/autoscaler.py", "trainer/demand.py",
        "trainer/state.py", "trainer/drawing/kinds.py", "trainer/drawing/pixels.py", "trainer/drawing/boxes.py",
        "trainer/record/selected_plan.py", "workers/places.py", "workers/trainers.py", "pipeline/storage/place.py",
        "pipeline/storage/urls.py", "pipeline/storage/clients/http_answers.py",
        "pipeline/storage/clients/bucket_errors.py", "workers/ahead.py",
        "workers/read_pace.py", "workers/held_lease.py",
        "pipeline/sources/records/file_index.py", "pipeline/sources/records/protobuf.py",
        "pipeline/sources/records/index_bytes.py", "pipeline/sources/records/texts.py",
        "pipeline/sources/records/member_names.py", "pipeline/sources/records/other_formats.py",
        "pipeline/sources/folder_listing.py",
        "packing/plan.py", "packing/samples.py", "packing/manifest.py")
GENERATORS = ("workers/generators/",)
SEEDS_GLOBAL_GENERATORS = {"workers/generators/calls.py": ("seed",)}
WITHOUT_TENSORFLOW = ("trainer/feed.py", "trainer/run.py", "trainer/local_workers.py", "trainer/interpreter.py",
                      "trainer/local_ranks.py", "trainer/autoscaler.py", "trainer/demand.py", "trainer/fleet.py",
                      "trainer/fleet_options.py", "trainer/kubernetes.py", "trainer/worker_output.py",
                      "trainer/sides.py", "trainer/keras.py", "trainer/state.py", "trainer/files.py",
                      "trainer/decoders.py", "trainer/data_watch.py")
ROOMS_WITHOUT_TENSORFLOW = ("trainer/status/", "trainer/record/", "trainer/drawing/")
# where alone it may be imported
ONLY = {
    "zmq": ("pipeline/transport/",),
    "lmdb": ("workers/cache",),
    "PIL": ("workers/", "pipeline/sources/sample_data.py", "trainer/drawing/pictures.py", "inspection/"),
    "tensorflow": ("trainer/",),
    "ray": ("workers/ray_launcher.py",),
    "rich": ("inspection/terminal/program.py", "inspection/terminal/screen.py"),
    "subprocess": ("workers/", "trainer/", "pipeline/sources/records/"),
    "boto3": ("pipeline/storage/clients/",), "botocore": ("pipeline/storage/clients/",),
    "obstore": ("pipeline/storage/clients/",), "urllib3": ("pipeline/storage/clients/",),
    "h5py": ("pipeline/storage/hdf5_file.py",), "tarfile": ("pipeline/sources/records/", "packing/"),
    "pyarrow": ("packing/",),
    "multiprocessing": ("pipeline/transport/memory.py",),
    "pickle": (), "cPickle": (), "marshal": (), "shelve": (), "dill": (), "cloudpickle": (),
}
NOT_IN_PURE = ("time", "datetime", "threading", "asyncio", "queue", "logging", "socket", "select", "selectors", "os",
               "sys", "secrets", "uuid", "warnings")


def source_files(*beginnings):
    found = sorted(os.path.relpath(os.path.join(folder, name), ROOT).replace(os.sep, "/")
                   for package in PACKAGES for folder, _, names in os.walk(os.path.join(ROOT, package))
                   for name in names if name.endswith(".py"))
    return [path for path in found if path.startswith(beginnings or ("",)) and not path.endswith("/__init__.py")]


@functools.lru_cache(maxsize=None)
def tree_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return ast.parse(file.read(), path)


def imported(tree):
    """Every module that is imported anywhere, inside functions too, by its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield node.module
            for alias in node.names:
                yield "%s.%s" % (node.module, alias.name)
        elif (isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)) and node.args
              and getattr(node.func, "id", getattr(node.func, "attr", "")) in ("__import__", "import_module")
              and isinstance(node.args[0], (ast.Str if not hasattr(ast, "Constant") else ast.Constant))):
            yield ast.literal_eval(node.args[0])


@functools.lru_cache(maxsize=None)
def tops(path):
    return {name.split(".")[0] for name in imported(tree_of(path))}


def modules_of_stoker(path):
    """The modules of Stoker that ``path`` imports, without 'stoker.' before them."""
    for name in imported(tree_of(path)):
        if name.startswith("stoker."):
            parts = name.split(".")[1:]
            while parts and not os.path.exists(os.path.join(ROOT, *parts) + ".py"):
                parts = parts[:-1]         # a name inside the module, or a package
            if parts:
                yield ".".join(parts)


@pytest.mark.parametrize("path", source_files())
def test_imports_stay_within_the_borders(path):
    room = max((room for room in ROOMS if path.startswith(room)), key=len)
    own = room[:-len(".py")] if room.endswith(".py") else room
    for module in modules_of_stoker(path):
        assert (module + ".").startswith(own.replace("/", ".")) or any(
            module == may or (may.endswith(".") and module.startswith(may)) for may in ROOMS[room]), (
                "%s must not import %s" % (path, module))
    assert not tops(path) & (set(PACKAGES) | {"tests"}), "inside the house, modules are stoker.something"
    for module, homes in ONLY.items():
        if not any(path.startswith(home) for home in homes):
            assert module not in tops(path), "%s must not import %s" % (path, module)


@pytest.mark.parametrize("path", WITHOUT_TENSORFLOW + tuple(source_files(*ROOMS_WITHOUT_TENSORFLOW)))
def test_the_feed_is_usable_without_tensorflow(path):
    assert "tensorflow" not in tops(path)
    for module in modules_of_stoker(path):
        needed = module.replace(".", "/") + ".py"
        assert not needed.startswith("trainer/") or needed in WITHOUT_TENSORFLOW or needed.startswith(
            ROOMS_WITHOUT_TENSORFLOW), needed


@pytest.mark.parametrize("path", source_files(*PURE))
def test_pure_modules_have_no_clock_thread_log_or_socket(path):
    assert not tops(path) & set(NOT_IN_PURE)
    for module in modules_of_stoker(path):
        assert not module.startswith("pipeline.transport.") and module != "pipeline.stream", module


@pytest.mark.parametrize("path", source_files(
    *PURE + ("workers/session.py", "workers/images.py", "pipeline/orders.py", "pipeline/partners.py") + GENERATORS))
def test_nothing_draws_from_a_global_generator(path):
    """``random`` and ``numpy.random`` are used for their classes only, which are seeded where they are made. One module
    seeds the global generators, for users' functions that draw from them."""
    tree = tree_of(path)
    allowed = ("Random", "RandomState") + SEEDS_GLOBAL_GENERATORS.get(path, ())
    for name in imported(tree):
        if name.startswith(("random.", "numpy.random.")):
            assert name.split(".")[-1] in ("random", "Random", "RandomState"), name
    # a generator that was handed in, or made of a sample's seed, may have the name in a function
    own = {id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef)
           and any(isinstance(node, ast.arg) and node.arg == "random"
                   or isinstance(node, ast.Name) and node.id == "random" and isinstance(node.ctx, ast.Store)
                   for node in ast.walk(function))
           for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in own:
            owner = node.value
            of_random = isinstance(owner, ast.Name) and owner.id == "random"
            of_numpy = (isinstance(owner, ast.Attribute) and owner.attr == "random"
                        and isinstance(owner.value, ast.Name) and owner.value.id in ("np", "numpy"))
            if of_random or of_numpy:
                assert node.attr in allowed, "line %d: random.%s" % (node.lineno, node.attr)


@pytest.mark.parametrize("path", source_files(*GENERATORS))
def test_generator_modules_do_not_end_by_a_stray_stop_iteration(path):
    assert "__future__.generator_stop" in imported(tree_of(path))


def test_the_rules_speak_of_files_that_exist():
    for path in (PURE + GENERATORS + WITHOUT_TENSORFLOW + ROOMS_WITHOUT_TENSORFLOW + tuple(ROOMS)
                 + sum(ONLY.values(), ())):
        assert source_files(path), path

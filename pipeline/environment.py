"""Environment variables of Stoker: a misspelt one would silently do nothing, so it gets a warning with the nearest.

The trainer's containers and the workers' read one .env, so each program knows the options of all of them by name. Pure.
"""

import re
from difflib import get_close_matches
from shlex import quote
from typing import Iterable, List

PREFIX, PREDICT_PREFIX, TEST_PREFIX = "STOKER_", "STOKER_PREDICT_", "STOKER_TEST_"

#: Options of stoker-train and stoker-worker without the prefix; ``tests/unit/test_environment.py`` compares them.
OPTIONS = frozenset("""
ALLOW_DATA ALLOW_GENERATOR ALLOW_READ AUDIT AUGMENT BATCH_SIZE BATCH_TIMEOUT_S BIND CACHE CACHE_GB CHECKPOINT_DIR
CHECKPOINT_SECS CLASSES COLUMNS CONNECT DATA DATASET_CHANGED DECIMAL DECODE DELIMITER DROP_LAST ENCODING EPOCHS EXCLUDE
EXIF_ROTATE FEED FOLDER FOLLOW_LINKS FORMATS GENERATOR HEALTH_FILE IMAGE_FIELD IMAGE_SIZE INSECURE KEEP_CHECKPOINTS KEYS
LABEL_FIELD LABEL_WORD LEASE_S LIFELINE MAX_BATCH_MB MAX_FILE_MB MAX_PIXELS MAX_TEXT_MB MAX_WORKERS MIN_WORKERS MODEL
NA_VALUES NO_LABELS NO_SHARED_MEMORY ONCE ON_BAD_IMAGE ORDER PARTNERS PICTURE_CPU_S PICTURE_MEMORY_MB PREFETCH
PREFETCH_MB PROCESSES QUIET READ_AHEAD RECORDS ROOT SAMPLE SAMPLES SANDBOX SCALE_DEPLOYMENT SEED SHARED_MEMORY_FOLDER
STATUS STATUS_TOKEN_FILE SUFFIX TRUNCATED VALIDATION VALIDATION_DATA VALIDATION_SPLIT VERIFY WORKERS WORKER_PYTHON
WORKER_TIMEOUT_S
""".split())
#: Options of stoker-predict.
PREDICT_OPTIONS = frozenset("""
ALLOW_READ BATCH_SIZE BATCH_TIMEOUT_S BIND CACHE CACHE_GB COLUMNS DECIMAL DELIMITER ENCODING EXCLUDE FOLDER FOLLOW_LINKS
HEALTH_FILE IMAGE_FIELD INSECURE KEYS LABEL_FIELD LEASE_S MAX_WORKERS MIN_WORKERS NA_VALUES NO_SHARED_MEMORY OUTPUT
PICTURE_CPU_S PICTURE_MEMORY_MB PREFETCH PREFETCH_MB READ_AHEAD RECORDS ROOT SANDBOX SCALE_DEPLOYMENT
SHARED_MEMORY_FOLDER STATUS STATUS_TOKEN_FILE STRICT SUFFIX VERIFY WORKERS WORKER_PYTHON WORKER_TIMEOUT_S
""".split())
#: Variables that are no options: of docker-compose, of Stoker's own child processes, of its tests.
OTHERS = frozenset("USER PROGRAM_PATH LOCAL_KEYS IN_WORKER REQUIRE_DOCKER REQUIRE_ENGINES THROW_AWAY_ENGINE".split())


#: Arguments of ``stoker.tfrecord`` and the like, and their options. Not those of ``stoker.csv(..., columns=[...])``.
_FIELDS = {"image": "--image-field", "array": "--image-field", "label": "--label-field", "labels": "--label-field",
           "folder": "--folder", "classes": "--classes", "columns": "--columns"}
_FIELD = re.compile(r"(?<![\w./'\"-])(%s)=(None\b|'[^'\\]+'|\"[^\"\\]+\"|\[\.{3}\](?!\))|(?=[\s,;:)]|\Z))"
                    % "|".join(_FIELDS))


def as_options(text: str) -> str:
    """A sentence that names arguments, such as batch_size or root=, for the user of a command line. One that already
    names an option of Stoker says all itself; one of another program, as in ``tar --sort=name``, is none."""
    if any(name.upper().replace("-", "_") in OPTIONS | PREDICT_OPTIONS for name in re.findall("--([a-z-]+)", text)):
        return text
    text = _FIELD.sub(lambda found: _FIELDS[found.group(1)] + _value(found.group(2)), text.replace(
        "labels=False", "--no-labels"))
    return re.sub(r"(?<![\w./'\"-])([a-z]+(?:_[a-z]+)+|root(?==))=?(?![\w./'\"-])", lambda found: (
        "--" + found.group(1).replace("_", "-") if found.group(1).upper() in OPTIONS | PREDICT_OPTIONS
        else found.group()), text)


def _value(text: str) -> str:
    """Of an argument, for the command line; '' for one that only stands for any."""
    if text in ("", "[...]"):
        return ""
    return " none" if text == "None" else " " + quote(text[1:-1])


def warnings(names: Iterable[str]) -> List[str]:
    """A sentence for each of ``names``, those of the environment, that looks like one of Stoker's and is none."""
    known = OPTIONS | OTHERS | {PREDICT_PREFIX[len(PREFIX):] + name for name in PREDICT_OPTIONS}
    sentences = []
    for name in sorted(names):
        if not name.startswith(PREFIX) or name.startswith(TEST_PREFIX) or name[len(PREFIX):] in known:
            continue
        like = get_close_matches(name[len(PREFIX):], sorted(known), 1, 0.7)
        hint = "did you mean %s?" % (PREFIX + like[0]) if like else "docs/OPTIONS.md has those of Stoker"
        sentences.append("the environment variable %s has no effect: %s" % (ascii(name)[1:-1], hint))
    return sentences

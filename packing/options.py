"""The options of ``stoker-pack``, with their help, as a value."""

import argparse
from typing import NamedTuple, Optional, Sequence, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import check_whole

DESCRIPTION = """Converts pictures into uncompressed tar shards. Stoker reads each sample in them at its place, and
WebDataset reads them, too. A SOURCE is a folder of pictures with a sub-folder for each class, or files: TFRecord (also
gzip or zlib), tar (also compressed), zip, Parquet. The pictures' bytes stay as they are."""
EXAMPLES = """examples:
  stoker-pack photos/ packed/
      a folder with one sub-folder per class: packed/train-00000.tar, train-00001.tar ... and classes.txt
  stoker-pack 'imagenet/train-*' packed/ --columns image/filename,image/height
      TFRecords of tf.train.Examples; further features go into a .json beside each picture
  stoker-pack train.tar.gz packed/ --prefix train
      a compressed tar; with --label-field folder, the first folder in it is the class
  stoker-pack photos.zip packed/ --folder photos
      a zip that zip -r photos.zip photos made: the folders in photos are the classes
  stoker-pack data/*.parquet packed/ --image-field image --label-field label
      datasets of Hugging Face (needs pip install 'stoker[parquet]')
  stoker-pack photos/ packed/ --shuffle 1 --shard-mb 512
      in another order, the same one each time
The same command again goes on after the last complete shard. Read the shards with
stoker.tar("packed/train-*.tar"). packed/stoker-pack.json says what is in them.
Exit codes: 0; 1 if it could not go on (a full disk); 2 for wrong options or damaged sources; 130 after Ctrl-C.
"""
NO_LABELS = "none"


class Options(NamedTuple):
    """What a run is asked for."""
    sources: Tuple[str, ...]
    out: str
    shard_mb: int
    prefix: str
    shuffle: Optional[int]
    shuffle_mb: int
    names: str
    image_field: Optional[str]
    label_field: Optional[str]
    folder: Optional[str]
    columns: Optional[Tuple[str, ...]]
    classes: Optional[Tuple[str, ...]]
    label_word: Optional[str]
    no_labels: bool
    exclude: Tuple[str, ...]
    suffix: Tuple[str, ...]
    follow_links: bool
    skip_damaged: bool
    workers: Optional[int]
    verify: bool

    def label(self, default: str) -> str:
        """The field with the label; '' for none."""
        field = self.label_field or default
        return "" if field == NO_LABELS else field

    def recorded(self) -> "dict[str, object]":
        """Those on which the bytes of shards depend."""
        found = {name: getattr(self, name) for name in _RECORDED}
        if self.folder:             # without it, the shards are those of releases that did not know it
            found["folder"] = self.folder
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


_RECORDED = ("shard_mb", "prefix", "shuffle", "shuffle_mb", "names", "image_field", "label_field", "columns", "classes",
             "label_word", "no_labels", "exclude", "suffix", "follow_links", "skip_damaged")


def make_parser() -> argparse.ArgumentParser:
    """The parser of ``stoker-pack``."""
    parser = argparse.ArgumentParser("stoker-pack", description=DESCRIPTION, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("what to pack").add_argument
    add("sources", metavar="SOURCE", nargs="+",
        help="a folder of pictures; or files of one kind, also as patterns: train-*, 'train-{000..099}.tar'; or URLs "
             "of these, s3://, gs://, az://, https://")
    add("out", metavar="OUT_FOLDER", help="folder for the shards, on this host; it is made if it is missing")
    add = parser.add_argument_group("shards").add_argument
    add("--shard-mb", type=int, default=256, metavar="MB",
        help="size of a shard at most, in 2**20 bytes; a larger sample gets a shard of its own (default: %(default)d)")
    add("--prefix", default="train", metavar="NAME", help="names of the shards: NAME-00000.tar (default: %(default)s)")
    add("--shuffle", type=int, metavar="SEED",
        help="pack in another order, which depends only on SEED: of a folder, of all files; of others, the files, and "
             "the samples of each block of --shuffle-mb that is read (default: the order of the sources)")
    add("--shuffle-mb", type=int, default=1024, metavar="MB",
        help="memory for --shuffle of files, in 2**20 bytes (default: %(default)d)")
    add("--names", choices=("source", "number"), default="source",
        help="names of samples in the shards. source: the path of the picture, or the key in a tar; number: "
             "000000000, 000000001 ..., as for TFRecord and Parquet (default: %(default)s)")
    add = parser.add_argument_group("fields of files").add_argument
    add("--image-field", metavar="NAME",
        help="where the picture is: a feature of TFRecords, a column of Parquet, an extension in a tar or zip "
             "(default: image/encoded; image; the first of jpg, jpeg, png ...)")
    add("--label-field", metavar="NAME",
        help="where the label is, a number or a text: a feature, a column, an extension, or folder in a tar or zip; "
             "none: no labels (default: image/class/label; label; cls; of a zip folder)")
    add("--folder", metavar="NAME",
        help="of a tar or zip: only what lies below this folder in it; with --label-field folder, the folders in it "
             "are the classes. For a file that zip -r NAME.zip NAME made")
    add("--columns", type=names, metavar="A,B,C",
        help="further features or columns, which become KEY.json; of a tar or zip, the extensions to keep beside "
             "picture and label (default: none; of a tar or zip all)")
    add = parser.add_argument_group("classes and files of a folder").add_argument
    add("--classes", type=names, metavar="A,B,C",
        help="the classes to pack, in the order of their numbers; also of files whose labels are texts (default: all, "
             "by name)")
    add("--label-word", metavar="WORD",
        help="instead of classes by folder: label 1 if WORD is in the path below the folder, else 0")
    add("--no-labels", action="store_true", help="the folder has no classes")
    add("--exclude", type=str, action="append", metavar="PATTERN",
        help="leave out files and folders whose name, or path below the folder, matches. Repeat it for several")
    add("--suffix", type=str, action="append", metavar=".EXT",
        help="also pack files with this suffix. Repeat it for several")
    add("--follow-links", action="store_true", help="also pack files outside of the folder that links in it lead to")
    add = parser.add_argument_group("how").add_argument
    add("--skip-damaged", action="store_true",
        help="leave out damaged records and files that cannot be read, and count them (default: the first one ends it)")
    add("--workers", type=int, metavar="N",
        help="threads that read the files of a folder (default: 8, of a URL 32)")
    add("--verify", action="store_true", dest="verify", default=True,
        help="read each shard back from the disk and compare it with what was read (default)")
    add("--no-verify", action="store_false", dest="verify", help="do not read shards back")
    return parser


def names(text: str) -> Tuple[str, ...]:
    """'a,b' -> ('a', 'b')."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError("needs names with commas between, each once, not %r" % text)
    return found


def options_of(argv: Optional[Sequence[str]]) -> Options:
    """The options of a command line. Raises ConfigError."""
    args = make_parser().parse_args(argv)
    for name, least, most in (("shard_mb", 1, 1 << 20), ("shuffle_mb", 1, 1 << 20), ("workers", 1, 256)):
        if getattr(args, name) is not None:
            check_whole("--" + name.replace("_", "-"), getattr(args, name), least, most)
    if not args.prefix or "/" in args.prefix or args.prefix.startswith(".") or not args.prefix.isprintable():
        raise ConfigError("--prefix must be the beginning of a file name, such as train, not %r" % args.prefix)
    values = dict(vars(args))
    for name in ("sources", "exclude", "suffix"):
        values[name] = tuple(values[name] or ())
    return Options(**values)

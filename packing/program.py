"""The command line of ``stoker-pack``: reads samples, plans and writes shards, and says what came of it."""

import logging
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from stoker.packing import ahead, plan
from stoker.packing.inputs.opening import label_of_first, open_input, text_labels
from stoker.packing.manifest import Manifest
from stoker.packing.options import Options, options_of
from stoker.packing.output import CLASSES, OutFolder
from stoker.packing.plan import Cursor
from stoker.packing.samples import Found, Input, Labels, LeftOut, checked_names, number_key, parts_of
from stoker.packing.stopping import Stop
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.progress import open_bar
from stoker.pipeline.sources.records.member_names import one_folder
from stoker.pipeline.text import printable_path
from stoker.trainer.command_log import start_log
from stoker.trainer.program import EXIT_TERMINATED, Program

MEGA = 1 << 20


def run(program: Program, argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code. Raises StokerError."""
    start_log(logging.WARNING)
    options = options_of(argv)
    stop = Stop()
    try:
        return _run(options, stop)
    except SystemExit:           # its exit code without waiting for threads
        if stop.signum is None:
            raise
        return EXIT_TERMINATED


def _run(options: Options, stop: Stop) -> int:
    start_s = time.monotonic()
    source = open_input(options)
    with OutFolder(options.out, options.prefix, options.verify, stop) as folder:
        manifest = Manifest(source.facts, options.recorded())
        earlier = folder.earlier(manifest)
        if folder.note:
            logging.getLogger("stoker").warning("%s", folder.note)
        if earlier is not None:
            manifest = earlier
            if manifest.is_finished:
                print("stoker-pack: all is packed already", flush=True)
                print("\n".join(summary(manifest, folder.shown)), flush=True)
                return 0
            print("stoker-pack: goes on after %d complete shard%s with %s samples" % (
                len(manifest.shards), "s" * (len(manifest.shards) != 1), format(manifest.samples, ",")), flush=True)
        done = manifest.size
        Packing(options, source, folder, manifest, stop).run()
        seconds = time.monotonic() - start_s
        print("\n".join(summary(manifest, folder.shown, source.not_taken)), flush=True)
        print("  %.1f s, %.0f MB/s" % (seconds, (manifest.size - done) / 1e6 / max(seconds, 1e-3)), flush=True)
    return 0


class Packing:
    """From samples to shards."""

    def __init__(self, options: Options, source: Input, folder: OutFolder, manifest: Manifest, stop: Stop) -> None:
        self._stop = stop
        self._options, self._source, self._folder, self._manifest = options, source, folder, manifest

    def run(self) -> None:
        """Packs what is not packed yet. Raises StokerError."""
        manifest, folder, limit = self._manifest, self._folder, self._options.shard_mb * MEGA
        labels = self._labels()
        behind = manifest.cursor
        number = manifest.samples
        begin = self._source.done(behind.unit, behind.record)
        with open_bar(self._source.total, self._source.unit_name, "pack", begin) as bar:
            self._stop.is_held = True
            for item, cursor in self._samples(behind):
                self._stop()
                done = self._source.done(cursor.unit, cursor.record)
                if done > begin:
                    bar.update(done - begin)
                    begin = done
                class_number = None if isinstance(item, LeftOut) else labels.number(item.label)
                if isinstance(class_number, str):
                    item, class_number = LeftOut(item.where, class_number), None
                if isinstance(item, LeftOut):
                    self._leave_out(item)
                    behind = cursor
                    continue
                parts = parts_of(item, class_number)
                key = self._key(item, number)
                if folder.shard is not None and plan.is_full(folder.shard.size, plan.sample_bytes(key, parts), limit):
                    folder.finish(manifest, behind)
                    key = self._key(item, number)
                folder.add(len(manifest.shards), key, parts, item.where)
                number += 1
                behind = cursor
            if not number:
                raise DatasetError("the sources have no sample%s%s" % (
                    " below the folder %s" % printable_path(self._options.folder) if self._options.folder else "",
                    ": all were left out, %s: %s" % manifest.examples[0] if manifest.examples else ""))
            bar.update(max(0, self._source.total - begin))
            manifest.is_finished = True
            folder.finish(manifest, behind)

    def _key(self, item: Found, number: int) -> str:
        if item.key is None:
            return number_key(number)
        is_taken = self._folder.shard is not None and item.key in self._folder.shard.keys
        return item.other_key if is_taken and item.other_key is not None else item.key

    def _samples(self, cursor: Cursor) -> Iterator[Tuple[Any, Cursor]]:
        pairs = plan.in_order(self._source, cursor, self._options.shuffle, self._options.shuffle_mb * MEGA)
        if self._source.is_light:
            return ahead.loaded(pairs, self._source, self._options.workers or self._source.threads, self._stop)
        return ahead.parsed(pairs, self._stop)

    def _leave_out(self, item: LeftOut) -> None:
        if not self._options.skip_damaged:
            raise DatasetError("%s: %s; %s--skip-damaged leaves it out" % (
                item.where, item.why, item.remedy + ", or " if item.remedy else ""))
        self._manifest.leave_out(item.where, item.why)

    def _labels(self) -> Labels:
        """The numbers of labels, and classes.txt. If labels are texts without ``--classes``, the sources are read once
        for their names."""
        manifest, source, options = self._manifest, self._source, self._options
        if manifest.classes is None:
            names, are_texts = source.class_names or (), False
            if source.class_names is None:
                are_texts = isinstance(label_of_first(source, options.skip_damaged), str)
                names = options.classes or ()
                if are_texts and not names:
                    with open_bar(source.units, "files", "find classes") as bar:
                        names = text_labels(source, lambda count: bar.update(1))
                    if len(names) == 1 and source.by_folder:
                        raise ConfigError(one_folder(source.facts[0]["name"], names[0], options.folder))
            manifest.classes, manifest.are_texts = checked_names(names), are_texts
        if manifest.classes:
            self._folder.keep_classes(manifest.classes)
        return Labels(manifest.classes, manifest.are_texts)


def summary(manifest: Manifest, folder: str, not_taken: Optional[Dict[str, int]] = None) -> List[str]:
    """Lines about what is in the folder. ``not_taken``: what the sources have that is no sample."""
    shards, left_out = manifest.shards, sum(manifest.left_out.values())
    lines = ["%s: %s samples in %d shard%s, %s MB" % (folder, format(manifest.samples, ","), len(shards),
                                                     "s" * (len(shards) != 1), format(manifest.size / 1e6, ",.1f"))]
    if manifest.classes:
        lines.append("  %s class%s, in %s" % (format(len(manifest.classes), ","), "es" * (len(manifest.classes) != 1),
                                              CLASSES))
    if left_out:
        lines.append("  left out: %s" % format(left_out, ","))
        for why, count in sorted(manifest.left_out.items(), key=lambda pair: (-pair[1], pair[0])):
            where = next((where for where, reason in manifest.examples if reason == why), "")
            lines.append("    %s: %s%s" % (why, "" if count == 1 else format(count, ",") + ", such as ", where))
    if not_taken:
        lines.append("  no samples in the sources: %s" % "; ".join(
            "%s: %s" % (why, format(count, ",")) for why, count in sorted(not_taken.items())))
    return lines

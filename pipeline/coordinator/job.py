"""The job of a run, as its workers get it with Welcome."""

from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Job
from stoker.pipeline.sources.dataset import Splits

PROBES = 8                 # files by which a worker sees whether its folder is the dataset's


def job_message(job: JobOptions, datasets: Splits, options: StreamOptions) -> Job:
    """What a worker must know of ``job``, and the limits in ``options``. Raises ConfigError if it cannot be sent."""
    training = datasets.training
    message = Job(job.generator, job.arrays, job.batch_size, job.seed, job.decode, training.root, job.exif_rotate,
                  job.follow_links, training.probes(PROBES), job.image_size, training.columns, job.rows, job.may_skip,
                  job.augment or "", max_pixels=job.max_pixels, max_file_mb=job.max_file_mb,
                  max_text_mb=job.max_text_mb, truncated=job.truncated, picture_cpu_s=options.picture_cpu_s,
                  picture_memory_mb=options.memory_mb_of(job), formats=job.formats)
    codec.check_job(message)
    return message

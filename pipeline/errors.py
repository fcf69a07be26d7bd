"""Every error that Stoker raises on purpose. Its message says what happened and what to do.

The command lines print only the message of these errors. Any other exception is a bug and is shown with its traceback.
Names of files and texts of peers may be in a message: so ``str(error)`` has nothing in it that a terminal would obey.
"""

from stoker.pipeline.text import printable


class StokerError(Exception):
    """Base of the errors that Stoker raises on purpose. ``str(error)`` is one sentence for the user.

        except StokerError as error:
            sys.exit("error: %s" % error)
    """
    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__(), lines=True)


class ConfigError(StokerError):
    """An option, or a combination of options, is not possible: ``open_stream("photos/", batch_size=0)``."""
    exit_code = 2


class UnfitWorker(ConfigError):
    """This worker cannot do the run's job, and others may: a worker without the folder of the data."""


class DatasetError(StokerError):
    """The dataset is missing, empty, or not usable for the run: ``open_stream("no/such/folder/")``."""
    exit_code = 2


class ContentError(DatasetError):
    """The dataset was found and read, and what is in it is not enough for the run, though every option may be right: a
    folder of a single class. Only such an error can come of data that has changed. ``are_left``: it has samples."""

    def __init__(self, sentence: str, are_left: bool = False) -> None:
        super().__init__(sentence)
        self.are_left = are_left


class CheckpointMismatch(StokerError):
    """The checkpoint folder holds a run of another configuration: ``main(["photos/", "--seed", "2"])`` after seed 1."""
    exit_code = 2


class ProtocolError(StokerError):
    """A peer sent an invalid message, such as ``Sample(0, "../secret", 0)``. The receiver counts it and continues."""


class VersionMismatch(ProtocolError):
    """A peer uses another version of the protocol: ``VersionMismatch(theirs=2, ours=3)``."""

    def __init__(self, theirs: object, ours: int) -> None:
        self.theirs, self.ours = theirs, ours
        super().__init__("the peer speaks protocol version %r, this side speaks %d: install the same "
                         "Stoker release on trainer and workers" % (theirs, ours))


class RunFailed(StokerError):
    """The run cannot continue: no worker, or a step that always fails. ``next(stream)`` raises it."""


class BatchesDiffer(RunFailed):
    """Two workers made different batches of one step: ``open_stream("photos/", verify=0.01)``. ``next(stream)`` raises
    it at once, even if it has the next batch."""

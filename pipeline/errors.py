"""Every error that Stoker raises on purpose: whose fault it is, what happened, and what to do.

    StokerError
      ConfigError         the caller asked for something that cannot be (exit code 2)
      DatasetError        the data is not what the run needs                (exit code 2)
      CheckpointMismatch  the checkpoint belongs to another configuration   (exit code 2)
      ProtocolError       the peer sent something that is no valid message
        VersionMismatch   the peer speaks another version of the protocol
      RunFailed           the run cannot go on (no workers, a step that fails every time)

The command lines print the sentence without a traceback; everything else is a bug and keeps its own.
"""


class StokerError(Exception):
    """Base of the errors that Stoker raises on purpose. ``str(error)`` is one sentence for the user."""

    exit_code = 1


class ConfigError(StokerError):
    """An option, or a combination of options, that cannot be carried out."""

    exit_code = 2


class DatasetError(StokerError):
    """The dataset is missing, empty, or not usable for the run."""

    exit_code = 2


class CheckpointMismatch(StokerError):
    """The checkpoint directory holds a run of another configuration."""

    exit_code = 2


class ProtocolError(StokerError):
    """A peer sent something that is no valid message. It is the peer's fault: count it, drop it, go on."""


class VersionMismatch(ProtocolError):
    """A peer speaks another version of the protocol."""

    def __init__(self, theirs: object, ours: int) -> None:
        super().__init__("the peer speaks protocol version %r, this side speaks %d: install the same "
                         "Stoker release on trainer and workers" % (theirs, ours))
        self.theirs = theirs


class RunFailed(StokerError):
    """The run cannot go on: nothing produces its batches, or one step fails every time it is tried."""

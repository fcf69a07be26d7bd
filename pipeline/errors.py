"""Every error that Stoker raises on purpose. Its message says what happened and what to do.

The command lines print only the message of these errors. Any other exception is a bug and is shown with its traceback.
"""


class StokerError(Exception):
    """Base of the errors that Stoker raises on purpose. ``str(error)`` is one sentence for the user.

        except StokerError as error:
            sys.exit("error: %s" % error)
    """
    exit_code = 1


class ConfigError(StokerError):
    """An option, or a combination of options, is not possible."""
    exit_code = 2


class DatasetError(StokerError):
    """The dataset is missing, empty, or not usable for the run."""
    exit_code = 2


class CheckpointMismatch(StokerError):
    """The checkpoint directory holds a run of another configuration."""
    exit_code = 2


class ProtocolError(StokerError):
    """A peer sent an invalid message. The receiver counts it, drops it, and continues."""


class VersionMismatch(ProtocolError):
    """A peer uses another version of the protocol."""

    def __init__(self, theirs: object, ours: int) -> None:
        super().__init__("the peer speaks protocol version %r, this side speaks %d: install the same "
                         "Stoker release on trainer and workers" % (theirs, ours))


class RunFailed(StokerError):
    """The run cannot continue: there is no worker, or one step fails every time that it is tried."""

"""How long a worker's session waits for what."""

HELLO_INTERVAL_S = 0.25     # between the first two Hellos on a connection; each further one waits twice as long
MAX_INTERVAL_S = 4.0        # between two messages to a trainer that does not answer
REPORT_INTERVAL_S = 10.0    # between two lines that say that there is no trainer
SILENT_HEARTBEATS = 12      # from so many on a trainer is called silent; its own thread sends them, not its main loop
MIN_HEARTBEAT_S = 0.02      # shorter than a Stoker trainer's: a lying one must not make this worker busy with it
MAX_CHECKS = 8              # that wait for their answers: so often no trainer starts anew while one lease is in work
MIN_RETRY_S, MAX_RETRY_S = 1.0, 30.0    # from Unfit to the next try; doubled each time, until it works for so long

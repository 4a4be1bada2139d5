"""What can go wrong, in two families.

`HarnessError` is for the person at the keyboard: one line that says what is wrong, where, and what to do. The
command line prints it and exits with 2. `InstanceFailed` is for one instance of a run: expected, recorded and
counted as the worst answer. Anything else is a bug and keeps its traceback.
"""


class HarnessError(Exception):
    """Misuse, or input that cannot be used; the message is a complete line."""


class UnknownName(HarnessError):
    """Nothing is registered under this name."""


class BadSetting(HarnessError):
    """A task, model or engine option has the wrong name, type or value."""


class MissingData(HarnessError):
    """A file that a data set needs is not there and could not be fetched."""


class BadData(HarnessError):
    """A file is there, but it is truncated, altered or another file."""


class BadModel(HarnessError):
    """A model or adapter cannot be loaded, or is not what it claims to be."""


class BadAdapter(BadModel):
    """One of the adapters that were to be loaded together cannot be; without it the others can."""

    def __init__(self, reason: str, digest: str) -> None:
        super().__init__(reason)
        self.digest = digest


class EngineStopped(HarnessError):
    """A loaded model died at work; what it answered is kept, and a new one can go on."""


class BrokenEngine(HarnessError):
    """An engine breaks the rules of `harness.engines`; what it answered before is kept."""


class StaleRun(HarnessError):
    """The run directory belongs to another experiment or another process."""


class NothingAnswered(HarnessError):
    """Every instance failed, so there is nothing to score."""


class NotApplicable(HarnessError):
    """This model cannot answer this protocol; the cell of a table reads "n/a"."""


class InstanceFailed(Exception):
    """This instance has no answer; it is recorded, and counts as the worst answer."""


class RequestFailed(InstanceFailed):
    """The engine cannot answer this request (too long, filtered); its neighbours it can."""

    def __init__(self, reason: str, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient
        """Worth asking again: a time-out or an overloaded server, not a prompt that is too long."""


class TooLong(RequestFailed):
    """The prompt, or what is to follow it, does not fit; a shorter one might."""


class Unparseable(InstanceFailed):
    """The model answered, but not in a way that the protocol can read."""

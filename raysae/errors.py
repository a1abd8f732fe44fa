"""The exceptions that carry an exit status, so that every layer can refuse and the command line can report.

A message is one line: what arrived, what was allowed, what to type. The command line prints it and exits with `status`.
"""


class RaysaeError(Exception):
    """Base of the errors a user is meant to read; `status` is the exit status of the process."""

    status = 1


class BadInput(RaysaeError):
    """Configuration or data that cannot be used; nothing was written."""

    status = 2

    def __init__(self, arrived: str, allowed: str, cure: str) -> None:
        super().__init__(arrived, allowed, cure)
        self.arrived, self.allowed, self.cure = arrived, allowed, cure

    def __str__(self) -> str:
        return f"{self.arrived}; {self.allowed}; {self.cure}"


class Refused(RaysaeError):
    """A phase gate, a broken seal or a failed verification."""

    status = 5


class NoRoom(RaysaeError):
    """The disk filled up, by others too: no check beforehand promises room, so this is status 1, the unforeseen. Unlike
    after BadInput, what was finished stays."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"the disk is full, {path} was not written; what was finished before is complete; "
            "make room and type the same command again"
        )


class Unreachable(RaysaeError):
    """An object store that stopped answering. The working copy is whole."""

    def __init__(self, url: str, reason: str, here: object) -> None:
        super().__init__(
            f"{url} does not answer any more ({reason}); everything is in {here}; "
            "type the same command again to send what is missing"
        )


class Lost(RaysaeError):
    """Processes or nodes went away more often than a stage makes good."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; what was finished before is complete; type the same command again")


class Stopped(RaysaeError):
    """The process was asked to end and left everything so that the same command goes on."""

    status = 143

"""What goes wrong in a job, in one line: what came, what was expected and what to do."""

from typing import Any


class WorkFailed(Exception):
    """The call was right and the work can't be done."""


class WrongCall(ValueError):
    """Settings or arguments that can't be used, alone or together."""


class WrongSetting(WrongCall):
    """A setting whose value can't be used; a command words it as its flag.

    Parameters
    ----------
    name : str, the setting's
    value : what came
    expected : str, what was expected
    """

    def __init__(self, name: str, value: Any, expected: str):
        super().__init__(f"{name}={value!r}: {expected}")
        self.name = name
        self.value = value
        self.expected = expected


class BundleError(ValueError):
    """A bundle that can't be written or read, or whose weights differ from this machine's."""

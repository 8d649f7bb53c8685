"""The two ways a request can end badly."""


class RequestError(ValueError):
    """The request cannot be carried out as asked (a wrong name, file, argument). The command line exits with 2."""


class TrialFailed(RuntimeError):
    """At least one trial failed; its traceback is in the store. The command line exits with 1."""

"""The ways a request can end badly: by its own fault, by a trial's, by the study's."""


class RequestError(ValueError):
    """The request cannot be carried out as asked (a wrong name, file, argument). The command line exits with 2."""


class StudyError(Exception):
    """The study contradicts itself; whoever asked for it did nothing wrong. The command line exits with 3."""


class TrialFailed(RuntimeError):
    """At least one trial failed; its traceback is in the store. The command line exits with 1."""

from .result import ProbeResult as ProbeResult

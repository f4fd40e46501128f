"""What an object store's refusal means: done by somebody else, worth another try, or final.

The client lets errors of four libraries through. They are told apart by the service's own code and by their names, since
importing the libraries to name them costs a second.
"""

from enum import Enum

UNCONDITIONAL = frozenset({"NotImplemented", "501"})  # the store does not know conditional writes
_TAKEN = frozenset({"PreconditionFailed", "412"})
_PASSING_CODES = frozenset(
    {
        "ConditionalRequestConflict", "OperationAborted", "409",  # another write to the name is under way
        "SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests",
        "RequestTimeout", "InternalError", "InternalFailure", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch",
        "408", "429", "500", "502", "503", "504",
    }
)  # fmt: skip
_PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_PASSING_NAMES = frozenset(
    {
        "FSTimeoutError", "TimeoutError", "HTTPClientError", "ConnectionError", "ConnectionClosedError", "ConnectTimeoutError",
        "ReadTimeoutError", "EndpointConnectionError", "IncompleteReadError", "ResponseParserError", "ResponseStreamingError",
        "ClientConnectionError", "ClientPayloadError", "ServerDisconnectedError", "ClientOSError", "ServerTimeoutError",
        "IncompleteRead", "SSLError", "ProxyConnectionError", "HTTPClientConnectionError", "ContentLengthError",
    }
)  # fmt: skip


class Verdict(Enum):
    """What to do about an error."""

    TAKEN = "somebody else has committed the name"
    PASSING = "try again"
    FINAL = "give up"


def judged(error: BaseException) -> Verdict:
    """The verdict about an exception of a file system, from its causes too."""
    code, status = code_of(error), _status(error)
    if code in _TAKEN or isinstance(error, FileExistsError):
        return Verdict.TAKEN
    if code in UNCONDITIONAL or isinstance(error, FileNotFoundError | PermissionError):
        return Verdict.FINAL
    if code in _PASSING_CODES or status in _PASSING_STATUSES:
        return Verdict.PASSING
    names = {kind.__name__ for kind in type(error).__mro__}
    return Verdict.PASSING if names & _PASSING_NAMES else Verdict.FINAL


def code_of(error: BaseException) -> str:
    """The service's own error code, or an empty text where it gave none."""
    detail = _response(error).get("Error", {})
    return str(detail.get("Code", "")) if isinstance(detail, dict) else ""


def _status(error: BaseException) -> int:
    detail = _response(error).get("ResponseMetadata", {})
    status = detail.get("HTTPStatusCode") if isinstance(detail, dict) else None
    return status if isinstance(status, int) else 0


def _response(error: BaseException) -> dict[str, object]:
    """The service's answer, from the exception itself or from the cause that fsspec's translation keeps."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return response
    return {}

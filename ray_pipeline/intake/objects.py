"""Reading one object of S3, streamed, through s3fs' own event loop so that a stalled read can be cancelled."""

import asyncio
import contextlib
import functools
import io
from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import Any

from ray_pipeline.intake.addresses import Address
from ray_pipeline.intake.deadline import Deadline
from ray_pipeline.intake.host import MOST_AT_A_TIME
from ray_pipeline.intake.passing import PassingFailure
from ray_pipeline.intake.retry_after import asked_wait_s
from schemas.status import RowFailure, Status

_CHUNK_BYTES = 1 << 18
_BUSY = ("SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded", "Throttling", "503", "429")


class ObjectStore:
    """One S3 client; its connections are pooled. Credentials and endpoint come from the standard chain, never a row.

    `step_s` limits one connect or read. The client starts with the first read.
    """

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s

    @functools.cached_property
    def _client(self) -> Any:
        import s3fs  # half a second, and only jobs that read S3 pay it

        config: dict[str, Any] = {"connect_timeout": self._step_s, "read_timeout": self._step_s}
        config |= {"retries": {"total_max_attempts": 1}, "max_pool_connections": MOST_AT_A_TIME}
        config["proxies"] = {}  # else those of the environment
        config["http_session_cls"] = _staying(s3fs.core.aiobotocore.httpsession.AIOHTTPSession)
        client = s3fs.S3FileSystem(config_kwargs=config, use_listings_cache=False, skip_instance_cache=True)
        client.retries = 1  # the fetcher retries: nested retries multiply
        return client

    def read(self, address: Address, deadline: Deadline, max_bytes: int) -> bytes:
        """Bytes of `bucket/key`, at most `max_bytes`.

        Raises:
            RowFailure: fetch_denied, fetch_not_found, fetch_too_large.
            PassingFailure: anything the store or the network may recover from.
        """
        client = self._client
        reading = asyncio.run_coroutine_threadsafe(_read(client, address, max_bytes), client.loop)

        def cut() -> None:
            reading.cancel()

        deadline.on_expiry(cut)
        try:
            return reading.result(deadline.remaining_s())
        except CancelledError:
            raise PassingFailure(Status.FETCH_TIMEOUT, f"{address.shown}: no answer in time") from None
        except (RowFailure, PassingFailure):
            raise
        except TimeoutError:
            reading.cancel()
            raise PassingFailure(Status.FETCH_TIMEOUT, f"{address.shown}: no answer in time") from None
        except FileNotFoundError:
            raise RowFailure(Status.FETCH_NOT_FOUND, f"{address.shown}: no such object") from None
        except PermissionError:
            raise RowFailure(Status.FETCH_DENIED, f"{address.shown}: access denied") from None
        except Exception as error:  # s3fs lets errors of four libraries through
            raise _failure(address, error) from error


def _staying(session_class: Any) -> Any:
    """The client's HTTP session, but one that goes where it was sent, once: by default it follows any redirect of a reply,
    and sends again what met a reset."""

    class Staying(session_class):  # type: ignore[misc]
        async def _get_session(self, proxy_url: str | None) -> SimpleNamespace:
            session = await super()._get_session(proxy_url)
            session._retry_connection = False  # no public switch; a test sees to it that this one works
            return SimpleNamespace(request=functools.partial(session.request, allow_redirects=False))

    return Staying


async def _read(store: Any, address: Address, max_bytes: int) -> bytes:
    stream = await store.open_async(address.place)
    body = io.BytesIO()  # its value is no second copy
    try:
        while chunk := await stream.read(min(_CHUNK_BYTES, max_bytes + 1 - body.tell())):
            body.write(chunk)
            if body.tell() > max_bytes or stream.size > max_bytes:
                size = max(stream.size, body.tell())
                raise RowFailure(Status.FETCH_TOO_LARGE, f"{address.shown}: {size} bytes, at most {max_bytes} allowed")
    finally:
        with contextlib.suppress(Exception):  # nothing of a finished or broken body is of use
            stream.r.close()
    if body.tell() != (stream.size or 0):
        raise PassingFailure(Status.FETCH_FAILED, f"{address.shown}: body ended at {body.tell()} of {stream.size} bytes")
    return body.getvalue()


def _failure(address: Address, error: Exception) -> Exception:
    """OSError, botocore and aiohttp errors by their names: importing both libraries to name them costs a second."""
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError", "UnauthorizedSSOTokenError", "TokenRetrievalError"):
        return RowFailure(Status.FETCH_DENIED, f"{address.shown}: no credentials for S3 ({name})")
    if name in ("ParamValidationError", "InvalidRegionError"):
        return RowFailure(Status.FETCH_FAILED, f"{address.shown}: {name}")
    status = Status.FETCH_TIMEOUT if "Timeout" in name else Status.FETCH_FAILED
    code, wait_s = _told(error)
    return PassingFailure(status, f"{address.shown}: {code or name}", wait_s, busy=code in _BUSY)


def _told(error: BaseException) -> tuple[str, float]:
    """The store's own error code and the seconds it asks for, from botocore's error below s3fs'; empty where there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(getattr(cause, "response", None), dict):
        cause = cause.__cause__
    reply: dict[str, Any] = getattr(cause, "response", {})
    headers = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(reply.get("Error", {}).get("Code", "")), asked_wait_s(headers.get("retry-after"), headers.get("date"))

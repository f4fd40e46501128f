"""Reading one object of S3, streamed, through s3fs' own event loop so that a stalled read can be cancelled."""

import asyncio
import contextlib
import functools
from concurrent.futures import CancelledError
from typing import Any

from ray_pipeline.intake.addresses import Address
from ray_pipeline.intake.deadline import Deadline
from ray_pipeline.intake.passing import PassingFailure
from schemas.status import RowFailure, Status

_CHUNK_BYTES = 1 << 18


class ObjectStore:
    """One S3 client; its connections are pooled. Credentials and endpoint come from the standard chain, never a row.

    `step_s` limits one connect or read. The client starts with the first read.
    """

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s

    @functools.cached_property
    def _client(self) -> Any:
        from s3fs import S3FileSystem  # half a second, and only jobs that read S3 pay it

        config = {"connect_timeout": self._step_s, "read_timeout": self._step_s, "retries": {"total_max_attempts": 1}}
        client = S3FileSystem(config_kwargs=config, use_listings_cache=False, skip_instance_cache=True)
        client.retries = 1  # the fetcher retries: nested retries multiply
        return client

    def read(self, address: Address, deadline: Deadline, max_bytes: int) -> bytes:
        """Bytes of `bucket/key`, at most `max_bytes`.

        Raises:
            RowFailure: fetch_denied, fetch_not_found, fetch_too_large.
            PassingFailure: anything the store or the network may recover from.
            TimeoutError: time is up.
        """
        client = self._client
        reading = asyncio.run_coroutine_threadsafe(_read(client, address, max_bytes), client.loop)

        def cut() -> None:
            reading.cancel()

        deadline.on_expiry(cut)
        try:
            return reading.result(deadline.remaining_s())
        except CancelledError:
            raise TimeoutError from None
        except (RowFailure, PassingFailure, TimeoutError):
            reading.cancel()
            raise
        except FileNotFoundError:
            raise RowFailure(Status.FETCH_NOT_FOUND, f"{address.shown}: no such object") from None
        except PermissionError:
            raise RowFailure(Status.FETCH_DENIED, f"{address.shown}: access denied") from None
        except Exception as error:  # s3fs lets errors of four libraries through
            raise _failure(address, error) from error


async def _read(store: Any, address: Address, max_bytes: int) -> bytes:
    stream = await store.open_async(address.place)
    body = bytearray()
    try:
        while chunk := await stream.read(_CHUNK_BYTES):
            body += chunk
            if len(body) > max_bytes or stream.size > max_bytes:
                size = max(stream.size, len(body))
                raise RowFailure(Status.FETCH_TOO_LARGE, f"{address.shown}: {size} bytes, at most {max_bytes} allowed")
    finally:
        with contextlib.suppress(Exception):  # nothing of a finished or broken body is of use
            stream.r.close()
    if len(body) != (stream.size or 0):
        raise PassingFailure(Status.FETCH_FAILED, f"{address.shown}: body ended at {len(body)} of {stream.size} bytes")
    return bytes(body)


def _failure(address: Address, error: Exception) -> Exception:
    """OSError, botocore and aiohttp errors by their names: importing both libraries to name them costs a second."""
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError", "UnauthorizedSSOTokenError", "TokenRetrievalError"):
        return RowFailure(Status.FETCH_DENIED, f"{address.shown}: no credentials for S3 ({name})")
    if name in ("ParamValidationError", "InvalidRegionError"):
        return RowFailure(Status.FETCH_FAILED, f"{address.shown}: {name}")
    status = Status.FETCH_TIMEOUT if "Timeout" in name else Status.FETCH_FAILED
    return PassingFailure(status, f"{address.shown}: {name}")

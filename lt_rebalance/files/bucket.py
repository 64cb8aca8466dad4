"""Send requests to an S3 bucket, and retry while it does not answer.

boto3 finds endpoint, region and credentials in the environment, its own files or the instance profile; this
module stores none of them.
"""

import logging
import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.interrupts import pause

SCHEME = "s3://"
PATIENCE_VARIABLE = "LT_REBALANCE_STORE_PATIENCE_S"
DEFAULT_PATIENCE_S = 600.0
"""how long a bucket may be silent before an operation fails"""
ANSWER_S = 10.0
"""limit for connecting, and for the time between two parts of an answer, of one request"""
MOST_AT_ONCE = 32
"""concurrent requests; at most four times as many answers wait for their turn"""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
_LOOK_EVERY_S = 0.1
_REMIND_EVERY_S = 60.0
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_WORTH_WAITING = frozenset({408, 409, 425, 429})
"""HTTP statuses below 500 that are worth a retry; 409: another write is under way"""
_NEVER_SERVED = (501, 505)
"""HTTP statuses from 500 on that are not worth a retry"""
_PASSING = frozenset(
    {
        *("RequestTimeout", "RequestTimeoutException", "IncompleteBody", "BadDigest", "SlowDown"),
        *("XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InternalError", "ServiceUnavailable"),
        *("Throttling", "ThrottlingException", "RequestLimitExceeded", "BandwidthLimitExceeded"),
        *("TooManyRequests", "OperationAborted", "PriorRequestNotComplete"),
    }
)
"""codes, mostly with status 400, of requests that were too slow or arrived incompletely"""
_MISSING = ("NoSuchKey", "404")
_UNMET_CONDITION = 412
_FORBIDDEN = (401, 403)
_ELSEWHERE = (300, 301, 302, 303, 307, 308)
_OTHER_REGION = ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_HINTS = {
    "NoSuchBucket": "name a bucket that exists",
    "InvalidBucketName": "name a bucket that exists",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "ExpiredToken": "get new credentials",
}
_WRONG_REGION = (
    "set AWS_DEFAULT_REGION to the region of the bucket, and AWS_ENDPOINT_URL, if set, to its endpoint"
)
_WRONG_ENDPOINT = "set AWS_ENDPOINT_URL to an S3 service, or unset it for AWS's own"
_NO_CREDENTIALS = (
    "give boto3 credentials, in ~/.aws/credentials or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)

Answer = Any
"""return values of boto3, which has no types"""
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_log = logging.getLogger(__name__)


class _NoAnswerError(BaseException):
    """A request without retries got no answer; internal, so nothing else may catch it."""


class Bucket:
    """A bucket of objects.

    While it does not answer, requests wait and are retried until a patience has passed since its last answer;
    then they raise StorageError, and are sent only once until it answers again. Errors that waiting cannot
    fix, such as missing rights, raise StorageError immediately.
    """

    def __init__(self, name: str, *, patience_s: float | None = None) -> None:
        """Make a client; nothing is sent yet.

        Args:
            name: of a bucket that exists.
            patience_s: how long to wait for a bucket that does not answer; None: the value of
                `PATIENCE_VARIABLE`, else `DEFAULT_PATIENCE_S`.

        Raises:
            StorageError: boto3 is not installed, or the environment is wrong.
        """
        self.name = name
        self._client = _make_client()
        self._thread = threading.local()
        self._silence = _Silence(f"{SCHEME}{name}", _read_patience() if patience_s is None else patience_s)

    def ask(self, operation: str, **request: Any) -> Answer:  # Any: arguments of the operation
        """Return the answer to a request, an operation of boto3's client; with the content for a get.

        The request may be sent more than once.

        Raises:
            FileNotFoundError: there is no such object.
            FileExistsError: the condition of the request was not met.
            StorageError: as the class says.
        """
        import botocore.exceptions  # only if there is a bucket

        call = getattr(self._client, operation)
        while True:
            try:
                answer = call(Bucket=self.name, **request)
                if operation == "get_object":  # which may be cut off, too
                    answer["Body"] = answer["Body"].read()
            except botocore.exceptions.ClientError as error:
                reason = self._explain(error, request.get("Key", ""))
            except _transient_errors() as error:
                reason = _one_line(error)
            except _EndlessRedirectError:
                reason = f"S3 redirects requests without end; {_WRONG_REGION}"
                raise StorageError(f"{SCHEME}{self.name} cannot be used: {reason}") from None
            except _credential_errors() as error:
                reason = f"{_one_line(error)}; {_NO_CREDENTIALS}"
                raise StorageError(f"{SCHEME}{self.name} cannot be used: {reason}") from None
            except Exception as error:  # of boto3, its libraries, or the system below them
                raise StorageError(f"{SCHEME}{self.name} cannot be used: {_one_line(error)}") from None
            else:
                self._silence.end()
                return answer
            if hasattr(self._thread, "asks_once"):
                raise _NoAnswerError(reason)
            self._silence.wait(reason)

    def ask_each(
        self, work: Callable[[ItemT], ResultT], items: Iterable[ItemT], most_at_once: int = MOST_AT_ONCE
    ) -> Iterator[ResultT]:
        """Yield the result or the error of some work for each item, in order; many run concurrently.

        Threads do the work ahead. They try once and do not wait: if the bucket does not answer a thread, the
        caller's own thread repeats that work at its turn, with full patience, and can be interrupted. All
        threads have ended when the iteration ends, for any reason.

        Args:
            work: makes requests that may be repeated.
            most_at_once: number of threads; at most four times as many results wait for their turn.
        """
        pool = ThreadPoolExecutor(most_at_once, "bucket", self._ask_once)
        ahead: deque[tuple[ItemT, Future[ResultT]]] = deque()
        try:
            for item in items:
                ahead.append((item, pool.submit(work, item)))
                if len(ahead) > 4 * most_at_once:
                    yield _take(work, *ahead.popleft())
            while ahead:
                yield _take(work, *ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _ask_once(self) -> None:
        """Disable retries of requests of this thread."""
        self._thread.asks_once = True

    def _explain(self, error: Any, key: str) -> str:
        """Return why a request failed that may be retried; raise if a retry is useless."""
        answer, status = error.response.get("Error", {}), error.response["ResponseMetadata"]["HTTPStatusCode"]
        code = answer.get("Code", "")
        # boto3 fills in the status where an answer has no code. One of S3 has one, unless it has no body.
        is_s3 = code.strip("0123456789") or error.operation_name.startswith("Head")
        reason = (
            f"{code}: {answer.get('Message')}" if is_s3 else f"HTTP status {status}, without a code of S3"
        )
        if status in _WORTH_WAITING or code in _PASSING:
            return reason
        if status >= 500 and status not in _NEVER_SERVED:
            return reason
        self._silence.end()
        name = f"{SCHEME}{self.name}/{key}"
        if code in _MISSING and key:
            raise FileNotFoundError(name) from None
        if status == _UNMET_CONDITION:
            raise FileExistsError(name) from None
        hint = _HINTS.get(code, "")
        if not hint and status in _FORBIDDEN:
            hint = "use valid credentials that may get, put, delete and list objects there"
        elif status in _ELSEWHERE or code in _OTHER_REGION:
            hint = _WRONG_REGION
        if not is_s3:
            hint = " or ".join(filter(None, (hint, _WRONG_ENDPOINT)))
        words = f"{name}: S3 refuses {error.operation_name} ({' '.join(reason.split())})"
        raise StorageError("; ".join(filter(None, (words, hint)))) from None


def _take(work: Callable[[ItemT], ResultT], item: ItemT, future: "Future[ResultT]") -> ResultT:
    """Return the result of a thread; do the work here if it got no answer."""
    while not future.done():
        wait((future,), timeout=_LOOK_EVERY_S)
        pause(0)
    try:
        return future.result()
    except _NoAnswerError:
        return work(item)


class _Silence:
    """How long a bucket has not answered, in words; several threads may ask."""

    def __init__(self, name: str, patience_s: float) -> None:
        self._name = name
        self._patience_s = patience_s
        self._since: float | None = None
        self._since_text = ""
        self._reminded = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._lock = threading.Lock()

    def wait(self, reason: str) -> None:
        """Wait a little longer than the last time; StorageError after the patience has passed."""
        with self._lock:
            pause_s = self._find_pause(reason)
        pause(pause_s)

    def _find_pause(self, reason: str) -> float:
        now = time.monotonic()
        if self._since is None:
            self._since, self._since_text = now, time.strftime("%H:%M:%S")
            self._pause_s = _FIRST_PAUSE_S
            self._remind(reason, now)
        left_s = self._since + self._patience_s - now
        if left_s <= 0:
            raise StorageError(
                f"{self._name} has not answered since {self._since_text}, which is longer than "
                f"{self._patience_s:g} s ({PATIENCE_VARIABLE}): {reason}"
            )
        if now - self._reminded >= _REMIND_EVERY_S:
            self._remind(reason, now)
        # Not all waiting processes should return at the same time.
        pause_s = min(self._pause_s * random.uniform(0.5, 1.0), left_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return pause_s

    def end(self) -> None:
        """Record an answer."""
        with self._lock:
            if self._since is not None:
                _log.warning("%s answers again, after %.0f s", self._name, time.monotonic() - self._since)
                self._since = None

    def _remind(self, reason: str, now: float) -> None:
        self._reminded = now
        _log.warning(
            "%s has not answered since %s (%s); waiting for it, up to %g s in all",
            self._name,
            self._since_text,
            reason,
            self._patience_s,
        )


def parse_address(address: str) -> tuple[str, str]:
    """Return bucket and prefix of s3://BUCKET/PREFIX.

    Raises:
        ValueError: it has another form.
    """
    name, _, prefix = address.removeprefix(SCHEME).partition("/")
    prefix = prefix.rstrip("/")
    parts = prefix.split("/") if prefix else []
    if not _NAME.fullmatch(name) or any(part in ("", ".", "..") for part in parts):
        # A wrong bucket name is not repeated: it may contain credentials.
        raise ValueError(
            "an address of S3 must be s3://BUCKET or s3://BUCKET/PREFIX, with the name of a bucket (3 to 63 "
            "lower-case letters, digits, dots and hyphens) and nothing else; credentials and endpoint come "
            "from the environment"
        )
    return name, prefix


def _read_patience() -> float:
    text = os.environ.get(PATIENCE_VARIABLE)
    if not text:
        return DEFAULT_PATIENCE_S
    try:
        patience_s = float(text)
    except ValueError:
        patience_s = -1.0
    if not patience_s >= 0:
        raise StorageError(f"{PATIENCE_VARIABLE} must be a number of seconds, got {text!r}")
    return patience_s


def _make_client() -> Any:  # Any: boto3 has no types
    try:
        import boto3
        import botocore.config
    except ImportError:
        raise StorageError(
            "s3:// needs boto3, which is not installed; in the checkout: pip install -e '.[s3]'"
        ) from None
    # Only this module retries: it must know which requests were repeated, and report waiting.
    config = botocore.config.Config(
        connect_timeout=ANSWER_S,
        read_timeout=ANSWER_S,
        retries={"total_max_attempts": 1},
        max_pool_connections=MOST_AT_ONCE + 2,  # and one connection each for the caller and its lease
    )
    try:
        client = boto3.session.Session().client("s3", config=config)
        client.meta.events.register_first("needs-retry.s3.HeadBucket", _refuse_endless_redirect)
        return client
    except Exception as error:  # any error from the environment or a file of boto3
        raise StorageError(f"no connection to S3 can be made: {_one_line(error)}") from None


class _EndlessRedirectError(Exception):
    """S3 redirects a request, and the request for the new region too."""


def _refuse_endless_redirect(response: Any, **_: Any) -> None:  # Any: botocore's own
    """Refuse to redirect the request by which boto3 finds the region of a bucket: it would loop."""
    if response is None or response[0].status_code not in (301, 302, 307):
        return
    if "x-amz-bucket-region" not in response[1].get("ResponseMetadata", {}).get("HTTPHeaders", {}):
        raise _EndlessRedirectError


def _transient_errors() -> tuple[type[Exception], ...]:
    """Return errors of missing or incomplete answers."""
    import botocore.exceptions
    import botocore.parsers

    return (
        botocore.parsers.ResponseParserError,  # a truncated answer, or one of a proxy
        # A refused, silent or lost connection; one without a valid certificate is not worth waiting for.
        botocore.exceptions.EndpointConnectionError,
        botocore.exceptions.ConnectTimeoutError,
        botocore.exceptions.ProxyConnectionError,
        botocore.exceptions.HTTPClientError,
        botocore.exceptions.IncompleteReadError,
        botocore.exceptions.FlexibleChecksumError,
        ConnectionError,
        TimeoutError,
    )


def _credential_errors() -> tuple[type[Exception], ...]:
    import botocore.exceptions

    return (
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.PartialCredentialsError,
        botocore.exceptions.CredentialRetrievalError,
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

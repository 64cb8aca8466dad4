"""A bucket that is frozen, gone, forbidden or loses answers: calls wait and say so, or fail immediately."""

import json
import logging
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import boto3
import pytest

from lt_rebalance.files import bucket
from lt_rebalance.files.bucket import PATIENCE_VARIABLE, Bucket, parse_address
from lt_rebalance.files.bucket_files import S3Filesystem
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.store import StoreError, open_store
from tests.gate import Gate, open_gate
from tests.places import BucketPlace
from tests.s3_server import S3Server, environment, serve
from tests.store.test_store import KEY, make_record

FROZEN_S = 4.0


@pytest.fixture
def place(s3: S3Server) -> BucketPlace:
    """Return an empty bucket."""
    return BucketPlace("store")


@pytest.fixture
def gate(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Return a gate before the server, to which the environment leads from now on."""
    with open_gate(s3.port) as opened:
        monkeypatch.setenv("AWS_ENDPOINT_URL", opened.url)
        yield opened


def open_files(place: BucketPlace, patience_s: float = 60.0) -> S3Filesystem:
    return S3Filesystem(Bucket(place.bucket, patience_s=patience_s), place.prefix)


# No answer


@pytest.mark.slow
def test_frozen_bucket_is_waited_for_in_words(
    place: BucketPlace, s3: S3Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bucket, "ANSWER_S", FROZEN_S / 2)
    files = open_files(place)
    files.replace("a", b"1")
    s3.freeze()
    threading.Timer(FROZEN_S, s3.thaw).start()
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert files.create("b", b"2") is True
        assert files.read("a") == b"1"
    assert time.monotonic() - started >= FROZEN_S - 0.5
    silent, answered = caplog.messages
    assert f"s3://{place.bucket} has not answered since " in silent and "up to 60 s in all" in silent
    assert f"s3://{place.bucket} answers again, after " in answered
    # Repetitions that the server had queued while it was frozen have made one object, ours.
    assert place.read_all() == {"a": b"1", "b": b"2"}


@pytest.mark.slow
def test_bucket_that_refuses_connections_for_a_while_is_waited_for(place: BucketPlace, gate: Gate) -> None:
    files = open_files(place)
    files.replace("a", b"1")
    gate.shut()
    threading.Timer(2.0, gate.open).start()
    started = time.monotonic()
    files.replace("a", b"2")
    assert time.monotonic() - started >= 1.5
    assert place.read_all() == {"a": b"2"}


@pytest.mark.slow
def test_patience_that_runs_out_raises_and_is_not_spent_again(place: BucketPlace, gate: Gate) -> None:
    files = open_files(place, patience_s=1.5)
    gate.shut()
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"has not answered since ..:..:.., which is longer than 1.5 s"):
        files.read("a")
    assert 1.5 <= time.monotonic() - started < 5
    for operation in (lambda: files.replace("b", b""), lambda: files.list("")):
        started = time.monotonic()
        with pytest.raises(StorageError):
            operation()
        assert time.monotonic() - started < 1
    gate.open()
    files.replace("b", b"")
    assert place.read_all() == {"b": b""}
    # From here on, the patience is counted from zero again.
    gate.shut()
    threading.Timer(0.7, gate.open).start()
    assert files.list("") == ["b"]


def test_patience_is_read_from_the_environment(
    place: BucketPlace, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.shut()
    monkeypatch.setenv(PATIENCE_VARIABLE, "0")
    reason = r"cannot be used as a store: .* longer than 0 s \(LT_REBALANCE_STORE_PATIENCE"
    with pytest.raises(StoreError, match=reason):
        open_store(place.location, 1, create=True)
    for wrong in ("ten", "-1", "nan"):
        monkeypatch.setenv(PATIENCE_VARIABLE, wrong)
        with pytest.raises(StoreError, match=f"must be a number of seconds, got '{wrong}'"):
            open_store(place.location, 1, create=True)


def test_stop_signal_ends_the_waiting(place: BucketPlace, gate: Gate) -> None:
    script = (
        "import sys\n"
        "from lt_rebalance.ground.interrupts import Interrupted, InterruptWatch\n"
        "from lt_rebalance.store.place import find_place\n"
        "files = find_place(sys.argv[1]).files\n"
        "try:\n"
        "    with InterruptWatch():\n"
        "        files.read('a')\n"
        "except Interrupted as interrupt:\n"
        "    sys.exit(interrupt.exit_code)\n"
    )
    gate.shut()
    process = subprocess.Popen(
        [sys.executable, "-c", script, place.location], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "has not answered since" in process.stderr.readline()
    process.terminate()
    assert process.wait(timeout=10) == 143


# Lost answers and cut requests


@pytest.mark.slow
def test_create_whose_answer_was_lost_counts_as_ours(
    place: BucketPlace, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = open_files(place)
    gate.answers_to_lose = 2
    assert files.create("a", b"mine") is True
    assert gate.answers_to_lose == 0
    assert place.read_all() == {"a": b"mine"}


def test_create_whose_answer_was_lost_does_not_take_anothers_for_ours(place: BucketPlace, gate: Gate) -> None:
    open_files(place).create("a", b"the same")
    gate.answers_to_lose = 1
    assert open_files(place).create("a", b"the same") is False


def test_commit_whose_answer_was_lost_is_ours(place: BucketPlace, gate: Gate) -> None:
    store = open_store(place.location, 1, create=True)
    assert store is not None
    record = make_record()
    gate.answers_to_lose = 1
    assert store.commit(record) is True
    assert store.commit(record) is False
    assert store.load_record(KEY) == record


def test_append_whose_answer_was_lost_adds_once(place: BucketPlace, gate: Gate) -> None:
    files = open_files(place)
    files.append("a.log", b"one ")
    gate.answers_to_lose = 1
    files.append("a.log", b"two ")
    files.append("a.log", b"three")
    assert files.read_appended("a.log") == b"one two three"


@pytest.mark.parametrize("operation", ["create", "replace"])
def test_upload_that_is_cut_off_leaves_the_old_object_and_nothing_else(
    operation: str, place: BucketPlace, gate: Gate
) -> None:
    if operation == "replace":
        place.write("file", b"old")
    before = place.read_all()
    gate.cut_after = 5000
    files = open_files(place, patience_s=0.0)
    with pytest.raises(StorageError):
        getattr(files, operation)("file", b"new" * 100_000)
    assert place.read_all() == before
    gate.cut_after = None
    getattr(files, operation)("file", b"new" * 100_000)
    assert place.read_all() == {"file": b"new" * 100_000}


# Answers of a server, or of something before it, that is not well


def http(status: int, body: str = "", *headers: str, length: int | None = None) -> bytes:
    """Return an answer of HTTP; the length that it promises may be another than that of its body."""
    lines = [f"HTTP/1.1 {status} Whatever", "Content-Type: application/xml", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "Connection: close", "", body]).encode()


def error(code: str) -> str:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Words\nof S3</Message></Error>"


PASSING = {
    "RequestTimeout": http(400, error("RequestTimeout")),
    "IncompleteBody": http(400, error("IncompleteBody")),
    "BadDigest": http(400, error("BadDigest")),
    "content altered on the way": http(400, error("XAmzContentSHA256Mismatch")),
    "SlowDown": http(503, error("SlowDown")),
    "too many": http(429, error("TooManyRequests")),
    "InternalError": http(500, error("InternalError")),
    "a gateway": http(502, "<html>bad gateway</html>"),
    "a gateway of another kind": http(522),
    "half an answer": http(200, "<ListBucketResult><Name>x", length=4000),
    "half an answer that claims to be whole": http(200, "<ListBucketResult><Name>x"),
    "nothing at all": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
def test_answer_that_another_try_may_better_is_tried_again(
    answer: bytes, place: BucketPlace, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_FIRST_PAUSE_S", 0.01)
    files = open_files(place)
    files.replace("a", b"1")
    for operation, expected in ((lambda: files.list(""), ["a"]), (lambda: files.create("b", b"2"), True)):
        gate.answers = [answer, answer]
        assert operation() == expected
        assert gate.answers == []
    assert place.read_all() == {"a": b"1", "b": b"2"}


def test_object_that_arrives_short_is_read_again(place: BucketPlace, gate: Gate) -> None:
    files = open_files(place)
    files.replace("a", b"whole")
    gate.answers = [http(200, "who", length=5)]
    assert files.read("a") == b"whole" and gate.answers == []


HOPELESS = {
    "redirect": (
        http(301, error("PermanentRedirect"), "x-amz-bucket-region: eu-west-1"),
        "AWS_DEFAULT_REGION",
    ),
    "redirect without a place": (http(301, error("PermanentRedirect")), "AWS_DEFAULT_REGION"),
    "redirect of HTTP": (http(307, "", "Location: http://127.0.0.1:1/"), "AWS_DEFAULT_REGION"),
    "wrong region": (http(400, error("AuthorizationHeaderMalformed")), "AWS_DEFAULT_REGION"),
    "clock": (http(403, error("RequestTimeTooSkewed")), "set the clock"),
    "rights": (http(403, error("AccessDenied")), "credentials"),
    "no rights, no words": (http(403), "credentials"),
    "old credentials": (http(400, error("ExpiredToken")), "new credentials"),
    "bucket": (http(404, error("NoSuchBucket")), "name a bucket that exists"),
    "bucket's name": (http(400, error("InvalidBucketName")), "name a bucket that exists"),
    "no such operation": (http(501, error("NotImplemented")), "NotImplemented"),
}


@pytest.mark.parametrize(("answer", "remedy"), HOPELESS.values(), ids=HOPELESS)
def test_answer_that_no_further_try_betters_is_refused_at_once_with_a_remedy(
    answer: bytes, remedy: str, place: BucketPlace, gate: Gate
) -> None:
    gate.endless_answer = answer
    assert_refused_at_once(place.location, place.bucket, remedy)
    assert gate.num_replaced <= 3  # all requests: boto3 asks for the bucket's region, then asks there


ENVIRONMENTS = {
    "endpoint that is no address": {"AWS_ENDPOINT_URL": "nonsense"},
    "endpoint without a host": {"AWS_ENDPOINT_URL": "http://"},
    "endpoint of another kind": {"AWS_ENDPOINT_URL": "ftp://127.0.0.1/x"},
    "endpoint with an impossible port": {"AWS_ENDPOINT_URL": "http://127.0.0.1:99999"},
    "region that is none": {"AWS_DEFAULT_REGION": "a b/c"},
    "profile that nobody wrote": {"AWS_PROFILE": "nobody"},
    "file of certificates that is not there": {
        "AWS_CA_BUNDLE": "/nowhere",
        "AWS_ENDPOINT_URL": "https://127.0.0.1:1",
    },
}


@pytest.mark.parametrize("variables", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_environment_of_no_use_is_refused_in_words(
    variables: dict[str, str], place: BucketPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "0")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert_refused_at_once(place.location)


# What waiting cannot fix


@pytest.fixture(scope="module")
def strict_server() -> Iterator[S3Server]:
    """Return a server that asks for rights, with a bucket "shared" in it."""
    with serve() as server:
        yield server


@pytest.fixture
def reader(strict_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the environment to the strict server, as a user who may read and nothing else."""
    for name, value in environment(strict_server.url).items():
        monkeypatch.setenv(name, value)
    _set_open_requests(strict_server, 1000)
    iam = boto3.client("iam")
    name = f"reader-{time.monotonic_ns()}"
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="read", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    boto3.client("s3").create_bucket(Bucket="shared")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    _set_open_requests(strict_server, 0)


def _set_open_requests(server: S3Server, number: int) -> None:
    """Let the server answer `number` requests before it asks for rights."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url, headers = f"{server.url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    request = urllib.request.Request(url, str(number).encode(), headers)
    opener.open(request, timeout=30).close()


def assert_refused_at_once(location: str, *parts: str) -> None:
    started = time.monotonic()
    with pytest.raises(StoreError) as error:
        open_store(location, 1, create=True)
    assert time.monotonic() - started < 5
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("reader")
def test_bucket_that_may_not_be_written_is_refused_at_once() -> None:
    assert_refused_at_once("s3://shared/store", "S3 refuses PutObject", "AccessDenied", "credentials")
    assert open_store("s3://shared/store", 1, create=False) is None


@pytest.mark.usefixtures("reader")
def test_credentials_that_nobody_knows_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONG")
    assert_refused_at_once("s3://shared/store", "S3 refuses", "use valid credentials")


def test_missing_credentials_are_refused_at_once(place: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert_refused_at_once(place.location, "cannot be used", "credentials", "AWS_ACCESS_KEY_ID")


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.usefixtures("s3")
def test_address_of_something_else_than_s3_is_refused_with_the_setting(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        do_PUT = do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        said = (f"HTTP status {status}, without a code of S3", "set AWS_ENDPOINT_URL to an S3 service")
        assert_refused_at_once("s3://shared/store", *said)
        server.shutdown()


@pytest.mark.usefixtures("s3")
def test_bucket_that_does_not_exist_is_refused_at_once() -> None:
    assert_refused_at_once("s3://no-such-bucket/store", "NoSuchBucket", "name a bucket that exists")


def test_bucket_without_conditional_writes_is_refused(place: BucketPlace, gate: Gate) -> None:
    gate.rewrite = (b"If-None-Match", b"Xx-None-Match")
    assert_refused_at_once(place.location, "ignores conditional writes")
    gate.rewrite = (b"", b"")
    assert open_store(place.location, 1, create=True) is not None
    assert list(place.read_all()) == ["store.json"]


def test_missing_boto3_is_named_with_its_extra(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "sys.modules['boto3'] = None\n"
        "from lt_rebalance.store import StoreError, open_store\n"
        "try:\n"
        "    open_store('s3://bucket/store', 1, create=True)\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install -e '.[s3]'" in result.stdout


# Addresses


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("s3://one", ("one", "")),
        ("s3://one/", ("one", "")),
        ("s3://a.b-c/deep/er/", ("a.b-c", "deep/er")),
        ("s3://one/with space/ü", ("one", "with space/ü")),
    ],
)
def test_address_gives_bucket_and_prefix(address: str, parts: tuple[str, str]) -> None:
    assert parse_address(address) == parts


@pytest.mark.parametrize(
    "address", ["s3://", "s3://ab", "s3:///x", "s3://Upper/x", "s3://one//x", "s3://one/../x", "s3://one/./x"]
)
def test_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="must be s3://BUCKET or s3://BUCKET/PREFIX"):
        parse_address(address)


def test_secret_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(StoreError) as error:
        open_store("s3://AKIAID:topsecret@one/x", 1, create=True)
    assert "topsecret" not in str(error.value)


def test_location_of_a_store_holds_no_credentials(place: BucketPlace) -> None:
    store = open_store(f"{place.location}/", 1, create=True)
    assert store is not None
    assert store.location == place.location
    assert not any(b"testing" in content for content in place.read_all().values())

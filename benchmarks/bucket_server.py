"""A directory served as an S3 bucket with a delay before every answer; written objects are kept in memory.

The server is fast compared with its delay, so that clients are timed. Signatures are not checked, and every
bucket is the directory. It supports GET, HEAD, PUT and DELETE of an object, and version 2 of listing.
"""

import asyncio
import base64
import functools
import hashlib
import sys
import urllib.parse
from pathlib import Path
from xml.sax.saxutils import escape

PAGE = 1000
"""keys and prefixes in one answer to a listing, as in S3"""


class _Objects:
    """The content of the directory at the start of the server, and objects written since."""

    def __init__(self, root: Path) -> None:
        files = sorted(path for path in root.rglob("*") if path.is_file())
        self._objects = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    def answer(self, method: str, target: str, body: bytes) -> bytes:
        path, _, query = target.partition("?")
        _, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
        if not key:
            return _respond(200, self._list(dict(urllib.parse.parse_qsl(query))).encode(), "application/xml")
        if method == "PUT":
            self._objects = dict(sorted({**self._objects, key: body}.items()))
            return _respond(200, b"", "text/plain", tagged=body)
        if method == "DELETE":
            self._objects.pop(key, None)
            return _respond(204, b"", "text/plain")
        if (content := self._objects.get(key)) is None:
            return _respond(404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>", "text/xml")
        return _respond(200, content, "binary/octet-stream", is_head=method == "HEAD", tagged=content)

    def _list(self, query: dict[str, str]) -> str:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        names: dict[str, None] = {}
        for key in self._objects:
            if key.startswith(prefix):
                head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
                names[prefix + head + found if delimiter else key] = None
        start = int(query.get("continuation-token", 0))
        page, is_cut = list(names)[start : start + PAGE], len(names) > start + PAGE
        rest = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if is_cut else ""
        cut = f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>{rest}"
        return f"<ListBucketResult>{cut}{''.join(map(self._describe, page))}</ListBucketResult>"

    def _describe(self, name: str) -> str:
        if name not in self._objects:
            return f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        content = self._objects[name]
        told = f"<ETag>&quot;{_tag(content)}&quot;</ETag><Size>{len(content)}</Size>"
        return f"<Contents><Key>{escape(name)}</Key>{told}</Contents>"


@functools.cache
def _tag(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _respond(
    status: int, content: bytes, kind: str, *, is_head: bool = False, tagged: bytes | None = None
) -> bytes:
    head = f"HTTP/1.1 {status} {status}\r\nContent-Length: {len(content)}\r\nContent-Type: {kind}\r\n"
    if tagged is not None:
        head += f'ETag: "{_tag(tagged)}"\r\n'
    if is_head:
        checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
        head += f"x-amz-checksum-sha256: {checksum}\r\n"
    return head.encode() + b"\r\n" + (b"" if is_head else content)


class _Connection(asyncio.Protocol):
    """Answers each request after a delay."""

    def __init__(self, objects: _Objects, delay_s: float) -> None:
        self._objects, self._delay_s = objects, delay_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            request, _, rest = self._received.partition(b"\r\n\r\n")
            first, *others = request.decode().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (each.partition(":") for each in others)
            }
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                if "expect" in headers and not rest:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            body, self._received = rest[:length], rest[length:]
            method, target, _ = first.split(" ")
            answer = self._objects.answer(method, target, body)
            asyncio.get_running_loop().call_later(self._delay_s, self._transport.write, answer)


async def _serve(root: Path, delay_s: float) -> None:
    objects = _Objects(root)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(objects, delay_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))

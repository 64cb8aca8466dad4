"""A directory shown as an S3 bucket that can be read, and that takes a while for every answer.

It is made to be quick beside its delay, so that what is timed is who asks. Signatures are not looked at, and
every bucket is the directory. Known are GET and HEAD of an object, and the second version of listing.
"""

import asyncio
import base64
import hashlib
import sys
import urllib.parse
from pathlib import Path
from xml.sax.saxutils import escape

PAGE = 1000
"""keys and prefixes in one answer to a listing, as S3 has it"""


class _Objects:
    """What the directory held when the server started."""

    def __init__(self, root: Path) -> None:
        files = sorted(path for path in root.rglob("*") if path.is_file())
        self._objects = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    def answer(self, method: str, target: str) -> bytes:
        path, _, query = target.partition("?")
        _, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
        if not key:
            return _respond(200, self._list(dict(urllib.parse.parse_qsl(query))).encode(), "application/xml")
        if (content := self._objects.get(key)) is None:
            return _respond(404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>", "text/xml")
        return _respond(200, content, "binary/octet-stream", is_head=method == "HEAD")

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
        return f"<Contents><Key>{escape(name)}</Key><Size>{len(self._objects[name])}</Size></Contents>"


def _respond(status: int, content: bytes, kind: str, *, is_head: bool = False) -> bytes:
    head = f"HTTP/1.1 {status} {status}\r\nContent-Length: {len(content)}\r\nContent-Type: {kind}\r\n"
    if is_head:
        checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
        head += f"x-amz-checksum-sha256: {checksum}\r\n"
    return head.encode() + b"\r\n" + (b"" if is_head else content)


class _Connection(asyncio.Protocol):
    """Answers requests without content, each a while after it has come."""

    def __init__(self, objects: _Objects, delay_s: float) -> None:
        self._objects, self._delay_s = objects, delay_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            request, _, self._received = self._received.partition(b"\r\n\r\n")
            method, target, _ = request.split(b"\r\n", 1)[0].decode().split(" ")
            answer = self._objects.answer(method, target)
            asyncio.get_running_loop().call_later(self._delay_s, self._transport.write, answer)


async def _serve(root: Path, delay_s: float) -> None:
    objects = _Objects(root)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(objects, delay_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))

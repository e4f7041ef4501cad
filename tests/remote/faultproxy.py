"""A proxy on loopback that hurts requests on their way to a server, and counts all of them.

``faultproxy.py PORT UPSTREAM_HOST:PORT``. It is told what to do over HTTP (`Proxy` does):

* ``/__proxy__/rules``: a list of `rules`, each ``{"fault", "methods", "share", "times", "part"}``;
* ``/__proxy__/log``: ``[method, path, what]`` of every request since the last time.

Faults *before* the server acts: ``drop_request``, ``refuse_503``, ``refuse_500``, ``half_request``.
*After* it acted: ``drop_response``, ``cut_response``, ``cut_body``, ``delay_response``,
``hang_response``, ``answer_500``, ``answer_503``, ``answer_409``.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

__all__ = ["AFTER", "BEFORE"]

BEFORE = ("drop_request", "refuse_503", "refuse_500", "half_request")
AFTER = (
    "drop_response", "cut_response", "cut_body", "delay_response", "answer_500", "answer_503",
    "answer_409",
)  # fmt: skip

CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code><Message>in flight</Message></Error>"


class Dropped(Exception):
    """The connection is to be cut here."""


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, dict[str, str]]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin1").split("\r\n")[1:]
    fields = (line.split(":", 1) for line in lines if ":" in line)
    return head, {name.strip().lower(): value.strip() for name, value in fields}


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    body = b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        size = 1
        while size:
            line = await reader.readline()
            size = int(line.split(b";")[0], 16)
            body += line + await reader.readexactly(size + 2)
    return body


def answer(status: str, body: bytes = b"", kind: str = "application/xml") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Upstream:
    """The connection to the server that belongs to one of a client: kept as long as that one is."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.streams is None or self.streams[0].at_eof():  # the server had enough of it
            self.abort()
            self.streams = await asyncio.open_connection(*self.address, limit=2**24)
        return self.streams

    def abort(self) -> None:
        if self.streams is not None:
            self.streams[1].transport.abort()
            self.streams = None


class FaultProxy:
    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.rules: list[dict[str, Any]] = []
        self.log: list[tuple[str, str, str]] = []

    def fault(self, method: str, path: str) -> str:
        for rule in self.rules:
            wanted = method in rule["methods"] and rule["part"] in path and rule["times"] != 0
            if wanted and random.random() < rule["share"]:
                rule["times"] -= 1
                fault: str = random.choice(rule["fault"])
                return fault
        return ""

    def told(self, path: str, body: bytes) -> bytes:
        if path.endswith("/rules"):
            self.rules = json.loads(body)
            return answer("200 OK")
        log, self.log = self.log, []
        return answer("200 OK", json.dumps(log).encode(), "application/json")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = Upstream(*self.upstream)
        try:
            while True:
                head, headers = await read_message(reader)
                method, path, _ = head.split(b"\r\n")[0].decode("latin1").split(" ", 2)
                if headers.get("expect", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    lines = head.split(b"\r\n")
                    head = b"\r\n".join(x for x in lines if not x.lower().startswith(b"expect:"))
                body = await read_body(reader, headers)
                if path.startswith("/__proxy__/"):
                    writer.write(self.told(path, body))
                else:
                    writer.write(await self.pass_on(method, path, head, body, writer, upstream))
                await writer.drain()
        except Dropped:
            writer.transport.abort()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            upstream.abort()
            writer.close()

    async def pass_on(
        self, method: str, path: str, head: bytes, body: bytes, writer: asyncio.StreamWriter,
        upstream: Upstream,
    ) -> bytes:  # fmt: skip
        fault = self.fault(method, path)
        entry = [method, path, fault]
        self.log.append(entry)  # type: ignore[arg-type] # the status is filled in below
        if fault == "drop_request":
            raise Dropped
        if fault.startswith("refuse_"):
            code = fault[-3:]
            return answer(f"{code} Refused", CONFLICT if code == "409" else b"")
        up_reader, up_writer = await upstream.connected()
        if fault == "half_request":
            up_writer.write(head + body[: len(body) // 2])
            await up_writer.drain()
            await asyncio.sleep(0.05)
            raise Dropped
        up_writer.write(head + body)
        await up_writer.drain()
        status = 100
        while status == 100:
            up_head, up_headers = await read_message(up_reader)
            status = int(up_head.split(b" ", 2)[1])
        bodiless = method == "HEAD" or status in (204, 304)
        up_body = b"" if bodiless else await read_body(up_reader, up_headers)
        if up_headers.get("connection", "").lower() == "close":
            upstream.abort()
        entry[2] = f"{status} {fault}".strip()
        return await self.hurt(fault, up_head, up_body, writer)

    async def hurt(
        self, fault: str, head: bytes, body: bytes, writer: asyncio.StreamWriter
    ) -> bytes:
        match fault:
            case "drop_response":
                raise Dropped
            case "cut_response" | "cut_body":
                whole = head + body
                writer.write(whole[: len(head) // 2 if fault == "cut_response" else -1])
                await writer.drain()
                raise Dropped
            case "delay_response":
                await asyncio.sleep(random.uniform(0.05, 0.5))
            case "hang_response":
                await asyncio.sleep(3600)
            case "answer_500" | "answer_503":
                return answer(f"{fault[-3:]} Broken")
            case "answer_409":
                return answer("409 Conflict", CONFLICT)
        return head + body


async def main() -> None:
    host, _, port = sys.argv[2].partition(":")
    proxy = FaultProxy(host, int(port))
    listening = await asyncio.start_server(
        proxy.serve, "127.0.0.1", int(sys.argv[1]), limit=2**24, backlog=512
    )
    async with listening:
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

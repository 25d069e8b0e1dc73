"""Spans of requests, for OpenTelemetry."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server.settings import ServerSettings
from server.web.app import create_app
from server.web.layers.tracing import trace
from server.web.listening.protocol import uvicorn_config


def test_every_request_is_a_span_with_its_status(tmp_path: Path) -> None:
    spans = InMemorySpanExporter()
    app = trace(create_app(ServerSettings(data=tmp_path)), SimpleSpanProcessor(spans))
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/jobs",
        "raw_path": b"/v1/jobs",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "scheme": "http",
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 401
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    status = {key: span.attributes[key] for key in span.attributes if "status" in key}
    assert 401 in status.values()
    assert span.resource.attributes["service.name"] == "orrery"


def test_the_setting_needs_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "server.web.layers.tracing", None)
    with pytest.raises(ValueError, match=r"orrery\[tracing\]"):
        uvicorn_config(ServerSettings(data=tmp_path, tracing=True))

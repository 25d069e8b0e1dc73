"""Traces for OpenTelemetry: a span for each request. Needs the extra `tracing`."""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from server import __version__
from server.web.asgi import App


def trace(app: App, processor: SpanProcessor | None = None) -> App:
    """The application in a layer that tells OpenTelemetry of every request.

    Args:
        processor: of the spans; they go to the address in OTEL_EXPORTER_OTLP_ENDPOINT without one.
    """
    resource = Resource.create({"service.name": "orrery", "service.version": __version__})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    return OpenTelemetryMiddleware(app, tracer_provider=provider, exclude_spans=["receive", "send"])

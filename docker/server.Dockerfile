# The job server, without torch. Build it from the repository's root:
#   docker build --file docker/server.Dockerfile --tag orrery-server .

FROM python:3.11-slim-bookworm AS project
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY nbody nbody
COPY server server
COPY worker worker
COPY data/*.json data/*.toml data/
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --target /opt/orrery .

# As long as the locked packages are the same, so is this layer.
FROM python:3.11-slim-bookworm AS dependencies
COPY docker/server.lock /build/server.lock
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement /build/server.lock

FROM python:3.11-slim-bookworm
# Server and worker share the data folder: one user id for both.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin orrery \
    && install --directory --owner=orrery --group=orrery --mode=0750 /data
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=project /opt/orrery /opt/orrery
ENV PATH="/opt/orrery/bin:/opt/venv/bin:${PATH}" \
    PYTHONPATH=/opt/orrery \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORRERY_HOST=0.0.0.0 \
    ORRERY_PORT=8080 \
    ORRERY_DATA=/data
WORKDIR /opt/orrery
USER 10001:10001
RUN ["orrery", "--help"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Orrery server" \
      org.opencontainers.image.description="Queue and HTTP API for training neural time steppers" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; server = http.client.HTTPConnection('127.0.0.1', int(os.environ['ORRERY_PORT']), timeout=4); server.request('GET', '/healthz'); sys.exit(server.getresponse().status != 200)"]
CMD ["orrery", "serve"]

# The worker. On Linux the torch package carries CUDA; the host brings the driver and the NVIDIA
# container toolkit. Build it from the repository's root:
#   docker build --file docker/worker.Dockerfile --tag orrery-worker .

FROM python:3.11-slim-bookworm AS project
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY nbody nbody
COPY server server
COPY worker worker
COPY data/*.json data/*.toml data/
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --target /opt/orrery .

# As long as the locked packages are the same, so is this layer. Torch by its version: its build is of the index.
FROM python:3.11-slim-bookworm AS dependencies
# Where else to look for packages, such as torch without CUDA.
ARG PIP_EXTRA_INDEX_URL
COPY docker/worker.lock docker/torch.lock /build/
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement /build/worker.lock \
    && /opt/venv/bin/pip install --no-cache-dir --requirement /build/torch.lock

FROM python:3.11-slim-bookworm
# Jobs with compile=true need a compiler.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
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
    HOME=/tmp \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    WANDB_DIR=/data \
    ORRERY_DATA=/data
WORKDIR /opt/orrery
USER 10001:10001
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Orrery worker" \
      org.opencontainers.image.description="Trains neural time steppers for an Orrery server" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-m", "worker.health"]
CMD ["python", "-m", "worker"]

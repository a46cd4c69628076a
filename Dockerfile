# Two images of the same service: `cpu` and `gpu` (the CUDA libraries come as wheels; the driver from the host).
# docker-compose.yml pins the base by its digest; docs/guides/images.md says how to renew it.
ARG PYTHON=python:3.13-slim-trixie
# With EXTRAS=grpc,traces,score the image can score offline too.
ARG EXTRAS=grpc,traces

FROM ${PYTHON} AS build
WORKDIR /src
ENV PIP_CONSTRAINT=constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
COPY constraints.txt ./
# The first environment is all that leaves the build stages. The second lists what is in it.
RUN python3 -m venv /opt/quartet && python3 -m venv /opt/sbom && /opt/sbom/bin/pip install cyclonedx-bom
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY quartet quartet
ENV SBOM="/opt/sbom/bin/cyclonedx-py environment \
    --output-reproducible --output-file /opt/quartet/sbom.cdx.json /opt/quartet"

FROM build AS build-cpu
ARG EXTRAS
RUN /opt/quartet/bin/pip install ".[cpu,${EXTRAS}]" && /opt/quartet/bin/pip uninstall --yes pip && ${SBOM}

FROM build AS build-gpu
ARG EXTRAS
RUN /opt/quartet/bin/pip install ".[cuda,${EXTRAS}]" && /opt/quartet/bin/pip uninstall --yes pip && ${SBOM}

FROM ${PYTHON} AS runtime
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin quartet
WORKDIR /srv/quartet
COPY service service
COPY models models
# For serving policies and their audit logs, since the models are read-only.
RUN mkdir state captures && chown 10001 state captures
ENV PATH=/opt/quartet/bin:$PATH \
    PYTHONPATH=/srv/quartet \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    QUARTET_HOST=0.0.0.0 \
    QUARTET_PORT=8000 \
    QUARTET_METRICS_HOST=0.0.0.0 \
    QUARTET_MODELS=/srv/quartet/models \
    QUARTET_STATE=/srv/quartet/state \
    QUARTET_CAPTURES=/srv/quartet/captures
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "service/healthcheck.py"]
CMD ["python", "-m", "service"]
ARG PYTHON
# `make images` knows both.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Quartet" \
    org.opencontainers.image.description="Serves neural networks in batches behind an async HTTP API." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="${PYTHON}"

FROM runtime AS gpu
COPY --from=build-gpu /opt/quartet /opt/quartet
ENV QUARTET_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime AS cpu
COPY --from=build-cpu /opt/quartet /opt/quartet
ENV QUARTET_DEVICE=cpu

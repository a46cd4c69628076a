# syntax=docker/dockerfile:1
# Two images of the same service: `cpu` and `gpu` (the CUDA libraries come as wheels; the driver from the host).
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
# The virtual environment is all that leaves the build stages: no pip cache, no sources.
RUN python3 -m venv /opt/quartet
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY quartet quartet

FROM build AS build-cpu
# With EXTRAS=server,grpc,traces,score the image can score offline too.
ARG EXTRAS=server,grpc,traces
RUN /opt/quartet/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt ".[${EXTRAS}]" \
    # 285 MB of GPU code that this image never loads.
    && rm -f /opt/quartet/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime_providers_cuda.so \
    && rm -f /opt/quartet/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime_providers_tensorrt.so \
    && /opt/quartet/bin/pip uninstall --yes --quiet pip

FROM build AS build-gpu
ARG EXTRAS=server,grpc,traces
RUN /opt/quartet/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt ".[cuda,${EXTRAS}]" \
    && /opt/quartet/bin/pip uninstall --yes --quiet pip

FROM ${PYTHON} AS runtime
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin quartet
WORKDIR /srv/quartet
COPY service service
COPY models models
# For serving policies and their audit logs, since the models are read-only.
RUN mkdir state && chown 10001 state
ENV PATH=/opt/quartet/bin:$PATH \
    PYTHONPATH=/srv/quartet \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    QUARTET_HOST=0.0.0.0 \
    QUARTET_PORT=8000 \
    QUARTET_METRICS_HOST=0.0.0.0 \
    QUARTET_MODELS=/srv/quartet/models \
    QUARTET_STATE=/srv/quartet/state
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Without curl in the image; the port is read as the server reads it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"QUARTET_PORT\"]}/healthz/ready', timeout=2)"]
CMD ["python", "-m", "service"]

FROM runtime AS gpu
COPY --from=build-gpu /opt/quartet /opt/quartet
ENV QUARTET_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime AS cpu
COPY --from=build-cpu /opt/quartet /opt/quartet
ENV QUARTET_DEVICE=cpu

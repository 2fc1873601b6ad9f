# The images from one file: `docker build --target api .` serves the API on port 8000,
# `docker build .` (the target ui, last here) the API with its page on port 7860; both take
# `--build-arg EXTRAS="arrow compiled grpc otel"`. The target profiler is for
# deploy/kubernetes/overlays/profiling.
# Both run with a read-only root: `docker run --read-only --tmpfs /tmp --cap-drop ALL IMAGE`.

# The index of all platforms that the tag named on 2026-09-19, as docker-library/repo-info lists it;
# Dependabot proposes the next one.
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS python

FROM python AS packages-api
WORKDIR /build
# What else the server can do: of arrow (lz4), compiled (single rows), grpc, otel (spans) those that are wanted.
ARG EXTRAS=""
COPY requirements/server.txt requirements/arrow.txt requirements/compiled.txt requirements/grpc.txt requirements/otel.txt requirements/
RUN python -m venv --without-pip /opt/venv \
    && for set in server $EXTRAS; do \
         python -m pip --python /opt/venv install --no-cache-dir --require-hashes --requirement "requirements/$set.txt" \
         || exit 1; done

FROM packages-api AS packages-ui
COPY requirements.txt ./
RUN python -m pip --python /opt/venv install --no-cache-dir --require-hashes --requirement requirements.txt

FROM python AS packages-profiler
WORKDIR /build
COPY requirements/profiler.txt requirements/
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv install --no-cache-dir --require-hashes --requirement requirements/profiler.txt

FROM python AS base
# uid 1000 is also the user that Hugging Face Spaces runs an image as.
RUN useradd --uid 1000 --create-home hotrow \
    && install --directory --owner hotrow --group hotrow --mode 0700 /app/logs
WORKDIR /app
COPY models/ models/
COPY server/ server/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOTROW_HOST=0.0.0.0 \
    HOTROW_LOG_DIR=/app/logs
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Hotrow" \
      org.opencontainers.image.description="Serves tabular models through ONNX Runtime at the lowest latency Python allows" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# The one place that is written to, beside /tmp.
VOLUME /app/logs
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['HOTROW_PORT']), timeout=2); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]

FROM base AS api
COPY --from=packages-api /opt/venv /opt/venv
# The root is read-only: what is not compiled here is compiled again at each start.
RUN python -m compileall -q server
USER 1000
ENV HOTROW_PORT=8000
EXPOSE 8000
ENTRYPOINT ["python", "-m", "server"]

# Beside a server of the profiling overlay; it waits to be told what to record.
FROM python AS profiler
COPY --from=packages-profiler /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
USER 1000
HEALTHCHECK NONE
STOPSIGNAL SIGKILL
ENTRYPOINT ["sleep", "infinity"]

FROM base AS ui
COPY --from=packages-ui /opt/venv /opt/venv
COPY ui/ ui/
RUN python -m compileall -q server ui
USER 1000
ENV HOTROW_PORT=7860
EXPOSE 7860
ENTRYPOINT ["python", "-m", "ui"]

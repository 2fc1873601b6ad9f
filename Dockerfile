# Two images from one file: `docker build --target api .` serves the API on port 8000,
# `docker build --target ui .` (the default) the API with its page on port 7860.
FROM python:3.11-slim-bookworm AS build
COPY requirements.txt /build/
COPY requirements/server.txt /build/requirements/
WORKDIR /build
RUN python -m venv /opt/api \
    && /opt/api/bin/python -m pip install --no-cache-dir --require-hashes -r requirements/server.txt
RUN python -m venv /opt/ui \
    && /opt/ui/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.txt

FROM python:3.11-slim-bookworm AS base
# uid 1000 is also the user that Hugging Face Spaces runs an image as.
RUN useradd --uid 1000 --create-home hotrow \
    && install --directory --owner hotrow /app/logs
WORKDIR /app
COPY server/ server/
COPY models/ models/
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOTROW_HOST=0.0.0.0
STOPSIGNAL SIGTERM
USER 1000

FROM base AS api
COPY --from=build /opt/api /opt/venv
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=2s --start-period=10s \
    CMD ["/opt/venv/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["/opt/venv/bin/python", "-m", "server"]

FROM base AS ui
COPY --from=build /opt/ui /opt/venv
COPY ui/ ui/
EXPOSE 7860
HEALTHCHECK --interval=10s --timeout=2s --start-period=30s \
    CMD ["/opt/venv/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/readyz', timeout=2)"]
ENTRYPOINT ["/opt/venv/bin/python", "-m", "ui"]

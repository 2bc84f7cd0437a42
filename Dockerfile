# Slim, not root, no test tools; bytecode compiled at build time for a fast cold start.
# A base that never changes under you: --build-arg PYTHON_IMAGE=python@sha256:…
# With metrics and traces: --build-arg REQUIREMENTS=requirements-otel.txt
ARG PYTHON_IMAGE=python:3.12-slim
# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS build
ARG REQUIREMENTS=requirements.txt
WORKDIR /app
COPY requirements.txt requirements-otel.txt ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r "$REQUIREMENTS" \
    && /venv/bin/pip uninstall --yes pip \
    && /venv/bin/python -m compileall -q -j 0 /venv/lib
# layout.toml, where there is one: of an app whose documents lie otherwise (RECAP_LAYOUT)
COPY job.py layout.tom[l] ./
COPY notifications ./notifications
RUN /venv/bin/python -m compileall -q job.py notifications \
    && /venv/bin/python -c "from notifications.domain.schedule import zone; zone('Asia/Kathmandu')" \
    && test -f notifications/adapters/claims/lua/claim.lua \
    && rm requirements*.txt

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE}
# /data: where a volume is mounted, it is the job's own from the start
RUN useradd --uid 10001 --no-create-home --home-dir /app recap && install -d -o 10001 -g 10001 -m 700 /data
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER 10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RECAP_DATA_DIR=/tmp/recap
# Exec form: SIGTERM reaches Python itself, which then has ten seconds.
ENTRYPOINT ["python", "/app/job.py"]

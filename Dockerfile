# Slim, not root, no test tools; bytecode compiled at build time for a fast cold start.
FROM python:3.12-slim AS build
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.txt \
    && /venv/bin/pip uninstall --yes pip \
    && /venv/bin/python -m compileall -q -j 0 /venv/lib
COPY job.py ./
COPY notifications ./notifications
RUN /venv/bin/python -m compileall -q job.py notifications \
    && /venv/bin/python -c "from notifications.domain.schedule import zone; zone('Asia/Kathmandu')" \
    && test -f notifications/adapters/claims/lua/claim.lua

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /app recap
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER 10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RECAP_DATA_DIR=/tmp/recap
# Exec form: SIGTERM reaches Python itself, which then has ten seconds.
ENTRYPOINT ["python", "/app/job.py"]

# Every process of ours in one image: the worker, the line, Serve. Build from the repository's root:
#   docker build -f infra/images/app.Dockerfile -t skyloom .
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY model model
COPY data data
COPY training training
COPY serving serving
COPY flows flows
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
COPY infra/debian.sh /tmp/debian.sh
RUN bash /tmp/debian.sh && rm -rf /tmp/debian.sh /var/lib/apt/lists/*
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
# The wheel holds the five rooms, so workers import them from any folder. MLflow asks for passwords with its extra `auth`.
RUN pip install --no-cache-dir -c /tmp/constraints.txt /wheels/*.whl "mlflow[auth]" && rm -rf /wheels /tmp/constraints.txt
COPY prefect.yaml /app/prefect.yaml
RUN useradd --create-home --uid 10001 skyloom && mkdir -p /app/artifacts && chown -R skyloom /app
USER skyloom
WORKDIR /app
ENV DO_NOT_TRACK=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    MUJOCO_GL=egl \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
ENTRYPOINT ["skyloom"]
CMD ["--help"]

# syntax=docker/dockerfile:1

# One image, every process: the command after `footfall` decides which (compose.yaml names them).

FROM python:3.13-slim AS builder
ARG UV_VERSION=0.13.9
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/app/.venv
RUN --mount=type=cache,target=/root/.cache/pip pip install "uv==${UV_VERSION}"
WORKDIR /src

# The libraries first: this layer changes only with the lock.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --extra s3 --extra duckdb --no-install-project

# Then the rooms, as an installed distribution. Without the extra `embedded`: the servers are containers here.
COPY . .
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --extra s3 --extra duckdb --no-editable


FROM python:3.13-slim
RUN groupadd --system --gid 10001 footfall \
 && useradd --system --uid 10001 --gid footfall --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin footfall \
 && install --directory --owner=10001 --group=10001 /data
COPY --from=builder /app/.venv /app/.venv
COPY alembic.ini /app/
COPY migrations /app/migrations
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ENVIRONMENT=production \
    HOST=:: \
    PROJECTOR_HOST=::
WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["footfall"]
CMD ["--help"]

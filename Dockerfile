# The service: `docker run outlay worker`, `history`, `alerts` or `api`.
FROM python:3.12-slim AS build
WORKDIR /build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY pyproject.toml README.md ./
COPY outlay ./outlay
RUN pip install --no-cache-dir ".[service]"

FROM python:3.12-slim
# The wheel holds the library; the service's parts run from here.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OUTLAY_DATA_DIR=/var/lib/outlay
RUN useradd --system --uid 10001 --home-dir /var/lib/outlay --create-home outlay
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY schemas ./schemas
COPY streams ./streams
COPY api ./api
USER outlay
EXPOSE 8000 9100
ENTRYPOINT ["outlay"]
CMD ["api"]

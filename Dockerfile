# One image, three commands: `api` (the default), `worker` and `publisher`; `migrate` runs once before them, as the owner of the
# database.
# The embedded servers are left out: PostgreSQL and Redis are the operator's own (see compose.yaml).

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/tanpuhui
COPY requirements/image.txt requirements/image.txt
RUN /opt/tanpuhui/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/image.txt
COPY . .
RUN /opt/tanpuhui/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home tanpuhui \
    && install -d -o tanpuhui -m 0700 /var/lib/tanpuhui /var/lib/tanpuhui-log /var/lib/tanpuhui-guard
COPY --from=build /opt/tanpuhui /opt/tanpuhui
ENV PATH=/opt/tanpuhui/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TANPUHUI_MODE=production \
    TANPUHUI_DATA_DIR=/var/lib/tanpuhui \
    TANPUHUI_HOST=0.0.0.0
USER 10001
WORKDIR /var/lib/tanpuhui
EXPOSE 8000
ENTRYPOINT ["tanpuhui"]
CMD ["api"]

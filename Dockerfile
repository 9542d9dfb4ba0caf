# The service, and the producer of clicks to try it with; see docker-compose.yml.
FROM rust:1-slim AS build
# librdkafka is built from its sources.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin waterclock --example produce_clicks

FROM debian:stable-slim
RUN useradd --system --create-home --home-dir /var/lib/waterclock waterclock
COPY --from=build /src/target/release/waterclock /usr/local/bin/waterclock
COPY --from=build /src/target/release/examples/produce_clicks /usr/local/bin/produce_clicks
USER waterclock
WORKDIR /var/lib/waterclock
VOLUME /var/lib/waterclock
EXPOSE 8080
# SIGTERM, so that a last checkpoint is taken.
STOPSIGNAL SIGTERM
ENTRYPOINT ["waterclock"]
CMD ["run"]

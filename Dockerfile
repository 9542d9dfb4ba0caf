# The service alone; see docker-compose.yml.
FROM rust:1-slim AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM debian:stable-slim
RUN useradd --system --create-home --home-dir /var/lib/waterclock waterclock
COPY --from=build /src/target/release/waterclock /usr/local/bin/waterclock
USER waterclock
WORKDIR /var/lib/waterclock
VOLUME /var/lib/waterclock
EXPOSE 8080
# SIGTERM, so that a last checkpoint is taken.
STOPSIGNAL SIGTERM
ENTRYPOINT ["waterclock"]
CMD ["run"]

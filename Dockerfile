# Two stages: build, and a small image with the one binary.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY src src
COPY sql sql
COPY migrations migrations
COPY rowcrew.example.toml README.md ./
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin rowcrew && cp target/release/rowcrew /rowcrew

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home rowcrew
COPY --from=build /rowcrew /usr/local/bin/rowcrew
USER 10001
# Commands that handlers start may leave children; tini collects them.
ENTRYPOINT ["tini", "--", "rowcrew"]
CMD ["work"]

# The commands of this project; `just` lists them.

_list:
    @just --list --unsorted

# The service with its demo, on http://127.0.0.1:8080
run *flags:
    cargo run --release -- run {{ flags }}

# All tests
test *filter:
    cargo test {{ filter }}

# Faults at random for so many seconds, every answer compared; the seed it prints repeats them
soak seconds="600" seed="":
    SOAK_SECONDS={{ seconds }} SOAK_SEED={{ seed }} cargo test --test faults soak -- --nocapture

# Rewrites the golden files in tests/queries/ from what the queries answer now; read the diff
bless:
    BLESS=1 cargo test --test queries

# How fast one query reads one file: just bench clicks clicks.ndjson clicks_per_user
bench stream file query workers="2":
    cargo run --release -- replay --stream {{ stream }}={{ file }} --query {{ query }} \
        --workers {{ workers }} --output null

# Formats everything
fmt:
    cargo fmt

# What CI checks
ci:
    bash .ci/run

# Known vulnerabilities of dependencies (needs the network)
audit:
    cargo deny check advisories

# The documentation of the library, in the browser
doc:
    cargo doc --no-deps --open

# The service in a container, data kept in a volume
up:
    docker compose up --build --detach

# Stops what `up` started; the volume stays
down:
    docker compose down

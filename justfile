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

# The figures of docs/performance.md: Nexmark from memory, on one worker and on two
figures *flags:
    cargo run --release -- bench nexmark {{ flags }}
    cargo run --release -- bench nexmark --workers 2 {{ flags }}

# This build against another, in turns: just compare ../before/waterclock --query q4 --workers 2
compare binary *flags:
    cargo run --release -- bench nexmark --against {{ binary }} {{ flags }}

# What the steps of the hot path cost, in ns; of all, or of those named
hot *steps:
    cargo run --release --example hot {{ steps }}

# Instructions of those steps, against benches/hot.txt (needs valgrind)
hot-check:
    cargo run --profile counts --example hot -- --check

# Writes benches/hot.txt anew; say in the commit what made the difference
hot-bless:
    cargo run --profile counts --example hot -- --bless

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

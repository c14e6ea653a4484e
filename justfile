# What people do often. `just` alone lists it.

default:
    @just --list

# The whole site on your screen.
quickstart:
    cargo run --release -p testbed -- quickstart

test:
    cargo test --workspace

# What has to pass before a change lands.
ci:
    bash .ci/run

# Tests against peers nobody here wrote; installs them into target/peers.
interop:
    bash tests/interop/run

bench:
    cargo run --release -p testbed -- bench

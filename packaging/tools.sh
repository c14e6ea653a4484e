# Sourced by build, check, check-arm and figures: the tools, their places, and what the three architectures are called.
# shellcheck shell=bash

shopt -s inherit_errexit

# Oldest C library that the packages run on: Debian 10, Ubuntu 18.10 and everything younger.
glibc=2.28
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$root/target/packages
# Tools and compiled crates; a folder outside the project keeps them when target/ is deleted.
work=${ENOS_EDGE_PACKAGING_DIR:-$out/work}

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS" >&2; }
fail() { printf '%s: %s\n' "${0##*/}" "$1" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# need PACKAGE...: installs what is not there yet.
need() {
    local missing=() package
    for package; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    step "apt-get install ${missing[*]}"
    as_root apt-get update -qq >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
        fail "can not install ${missing[*]}; this wants Debian 12 with its security archive"
}

rust_target() {
    case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    armhf) echo armv7-unknown-linux-gnueabihf ;;
    *) fail "architecture $1 is not known: amd64, arm64, armhf or all" ;;
    esac
}

# package_of ARCH: the youngest that packaging/build made.
package_of() {
    local deb
    deb=$(ls -t "$out"/enos-edge_*_"$1".deb 2>/dev/null | head -1)
    [ -n "$deb" ] || fail "no package for $1 in target/packages: packaging/build $1"
    echo "$deb"
}

# Compiler, linker and C compiler: the same three on every machine, whatever else is installed there.
need_compiler() {
    need rustc-web cargo-web rust-web-src python3-venv binutils git
    if ! cmp -s "$root/packaging/requirements.txt" "$work/zig/requirements.txt"; then
        step "zig and cargo-zigbuild, into $work/zig"
        rm -rf "$work/zig"
        python3 -m venv "$work/zig"
        "$work/zig/bin/pip" install --quiet --disable-pip-version-check -r "$root/packaging/requirements.txt"
        cp "$root/packaging/requirements.txt" "$work/zig/requirements.txt"
    fi
    # Debian's compiler before any other: its library source is there for the targets that have no compiled one.
    export PATH=$work/zig/bin:/usr/bin:/bin:/usr/sbin:/sbin
    unset RUSTUP_TOOLCHAIN RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
    step "compiler"
    rustc -vV | grep -E '^(rustc|host|LLVM)' >&2
}

# No path of this machine goes into a binary: packaging/rustc hands these on. They are not in RUSTFLAGS, because
# cargo makes those part of every symbol's name, and the same source would give another binary in another folder.
remap_paths() {
    local home=${CARGO_HOME:-$HOME/.cargo} registry
    ENOS_EDGE_RUSTC_ARGUMENTS="--remap-path-prefix=$home=/cargo --remap-path-prefix=$root=/enos-edge --remap-path-prefix=$work=/work-dir"
    for registry in "$home"/registry/src/*; do
        ENOS_EDGE_RUSTC_ARGUMENTS+=" --remap-path-prefix=$registry=/crates"
    done
    export ENOS_EDGE_RUSTC_ARGUMENTS RUSTC_WRAPPER=$root/packaging/rustc
}

# need_std TARGET: Rust's standard library for a target that Debian has none compiled for, once for each compiler.
need_std() {
    local target=$1 sysroot=$work/sysroot-$1 key libraries=$work/sysroot-$1/lib/rustlib/$1/lib
    [ "$target" = "$(rustc -vV | sed -n 's/^host: //p')" ] && return
    key=$(rustc -vV; cat "$root/packaging/rustc")
    if [ "$(cat "$sysroot/key" 2>/dev/null)" != "$key" ]; then
        step "standard library for $target"
        rm -rf "$sysroot" "$work/std"
        mkdir -p "$libraries" "$work/std/src"
        : > "$work/std/src/lib.rs"
        printf '[package]\nname = "std-only"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n[profile.release]\ndebug = false\n' > "$work/std/Cargo.toml"
        (
            cd "$work/std"
            # With bitcode, so that it takes part in the daemon's link-time optimisation.
            variable=CARGO_TARGET_$(tr a-z- A-Z_ <<< "$target")_RUSTFLAGS
            env RUSTC_BOOTSTRAP=1 "$variable=-Cembed-bitcode=yes" CARGO_TARGET_DIR="$work/std/target" \
                cargo build -Zbuild-std=std,panic_unwind,panic_abort,proc_macro,test --release --target "$target"
        )
        cp "$work/std/target/$target/release/deps/"*.{rlib,rmeta} "$libraries/"
        rm -rf "$libraries"/libstd_only* "$work/std"
        printf '%s' "$key" > "$sysroot/key"
    fi
    export ENOS_EDGE_SYSROOT=$sysroot ENOS_EDGE_SYSROOT_TARGET=$target
}

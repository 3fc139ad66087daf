#!/bin/sh
# Installs what is missing, with the machine's own package manager, and says nothing when nothing is.
#
#   scripts/setup.sh run     what `make demo` needs: server programs of Postgres and Redis, poppler, Tesseract
#   scripts/setup.sh test    the same; the tests run the same things
#   scripts/setup.sh check   rustfmt, clippy, cargo-deny, cargo-machete (into target/tools)
#
# Only the programs matter: Millstream starts servers of its own. Debian's packages may also start a system service, which
# is neither used nor touched. With DATABASE_URL or REDIS_URL set, that server is not looked for.
set -eu

# Keep in step with admin/local/src/programs.rs.
POSTGRES_MAJOR_MIN=15
REDIS_MAJOR_MIN=7
# Kept on what the licence list and the ignore comments were written for.
CARGO_DENY_VERSION=0.20.2
CARGO_MACHETE_VERSION=0.9.2

root=$(cd "$(dirname "$0")/.." && pwd)

main() {
    case "${1:-}" in
        run | test) install_programs ;;
        check) install_cargo_tools ;;
        *)
            echo "usage: scripts/setup.sh run|test|check" >&2
            exit 2
            ;;
    esac
}

say() { echo "setup: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# ---- programs ----------------------------------------------------------------------------------------------------------

# Short names; each package manager has its own words for them below.
install_programs() {
    missing=$(missing_programs)
    [ -n "$missing" ] || return 0
    say "missing:$missing"
    if have apt-get; then
        install_with_apt
    elif have brew; then
        install_with_brew
    else
        give_up "this machine has neither apt-get nor brew"
    fi
    missing=$(missing_programs)
    [ -z "$missing" ] || give_up "still missing after the installation"
}

missing_programs() {
    # On macOS asking for `cc` without the developer tools opens a dialogue, which is the right thing to do anyway.
    have cc || printf ' cc'
    [ -n "${DATABASE_URL:-}" ] || have_postgres || printf ' postgres'
    [ -n "${REDIS_URL:-}" ] || have_redis || printf ' redis'
    { have pdftotext && have pdffonts && have pdfimages && have pdftoppm && have pdfinfo && have_poppler_data; } || printf ' poppler'
    have_tesseract || printf ' tesseract'
}

have_postgres() {
    for initdb in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb \
        /opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb \
        /home/linuxbrew/.linuxbrew/opt/postgresql*/bin/initdb \
        "$(pg_config --bindir 2>/dev/null || true)/initdb" "$(command -v initdb || true)"; do
        [ -x "$initdb" ] || continue
        # postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)
        major=$("${initdb%initdb}postgres" --version 2>/dev/null | sed -n 's/.*(PostgreSQL) \([0-9]*\).*/\1/p')
        [ "${major:-0}" -ge "$POSTGRES_MAJOR_MIN" ] && return 0
    done
    return 1
}

have_redis() {
    for server in redis-server valkey-server /usr/bin/redis-server /usr/bin/valkey-server /usr/local/bin/redis-server \
        /opt/homebrew/bin/redis-server /opt/homebrew/bin/valkey-server /home/linuxbrew/.linuxbrew/bin/redis-server; do
        have "$server" || continue
        # Redis server v=7.0.15 sha=… or Valkey server v=8.0.1 sha=…
        major=$("$server" --version 2>/dev/null | sed -n 's/.* v=\([0-9]*\).*/\1/p')
        [ "${major:-0}" -ge "$REDIS_MAJOR_MIN" ] && return 0
    done
    return 1
}

# The tables for text in Chinese, Japanese and Korean are a package of their own, and without them that text is lost. A file
# that needs them says whether they are there, wherever they are.
have_poppler_data() {
    ! pdftotext "$root/tests/data/pdf/japan1.pdf" - 2>&1 | grep -q 'language pack'
}

have_tesseract() {
    have tesseract || return 1
    languages=$(tesseract --list-langs 2>/dev/null)
    # English, and what finds out which way up a page is.
    printf '%s\n' "$languages" | grep -qx eng && printf '%s\n' "$languages" | grep -qx osd
}

# ---- apt ---------------------------------------------------------------------------------------------------------------

install_with_apt() {
    [ "$(id -u)" -eq 0 ] || have sudo || give_up "apt-get needs root, and there is no sudo"
    # A fresh container image has no package lists at all.
    if [ -z "$(apt_candidate poppler-utils)" ]; then apt update || give_up "apt-get could not fetch its package lists"; fi
    packages=$(apt_packages)
    # shellcheck disable=SC2086 # a list of names
    apt install --no-install-recommends $packages && return 0
    # Lists that are older than the mirror name files that are gone.
    # shellcheck disable=SC2086
    apt update && apt install --no-install-recommends $packages || give_up "apt-get could not install: $packages"
}

# Runs apt-get as root, without questions; what it says is shown only if it fails.
apt() {
    verb=$1
    shift
    say "apt-get $verb $*"
    log=$(mktemp)
    if as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q "$verb" "$@" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
    else
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    # sudo asks on the terminal itself, whatever the streams are; without one it must fail at once instead of waiting.
    elif (: >/dev/tty) 2>/dev/null; then sudo "$@"
    else sudo -n "$@"; fi
}

apt_packages() {
    for program in $missing; do
        case $program in
            cc) echo "gcc libc6-dev" ;;
            postgres) echo postgresql ;;
            redis) apt_redis ;;
            poppler) echo "poppler-utils poppler-data" ;;
            tesseract) echo "tesseract-ocr tesseract-ocr-eng tesseract-ocr-osd" ;;
        esac
    done | tr '\n' ' '
}

# Valkey where the distribution's Redis is too old, or gone.
apt_redis() {
    redis_major=$(apt_candidate redis-server | sed 's/^[0-9]*://; s/\..*//')
    if [ "${redis_major:-0}" -lt "$REDIS_MAJOR_MIN" ] && [ -n "$(apt_candidate valkey-server)" ]; then
        echo valkey-server
    else
        echo redis-server
    fi
}

apt_candidate() {
    LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *//p' | grep -v '(none)' || true
}

# ---- Homebrew ----------------------------------------------------------------------------------------------------------

install_with_brew() {
    for program in $missing; do
        case $program in
            cc) give_up "install the developer tools first: xcode-select --install" ;;
            postgres) formula=postgresql@17 ;;
            *) formula=$program ;;
        esac
        say "brew install $formula"
        brew install --quiet "$formula" >&2 || give_up "brew could not install $formula"
    done
}

# ---- when nothing helps ------------------------------------------------------------------------------------------------

give_up() {
    say "$1. Please install:"
    for program in $missing; do
        case $program in
            cc) say "  - a C compiler (Debian, Ubuntu: gcc libc6-dev; macOS: xcode-select --install)" ;;
            postgres) say "  - PostgreSQL server programs, $POSTGRES_MAJOR_MIN or newer (Debian, Ubuntu: postgresql, for older releases from apt.postgresql.org; macOS: postgresql@17; Fedora: postgresql-server), or set DATABASE_URL" ;;
            redis) say "  - redis-server or valkey-server, $REDIS_MAJOR_MIN.0 or newer (Debian, Ubuntu: redis-server, for older releases from packages.redis.io; macOS: redis; Fedora: valkey), or set REDIS_URL" ;;
            poppler) say "  - poppler's command line tools (Debian, Ubuntu, Fedora: poppler-utils poppler-data; macOS: poppler)" ;;
            tesseract) say "  - Tesseract with English and orientation data (Debian, Ubuntu: tesseract-ocr tesseract-ocr-eng tesseract-ocr-osd; macOS: tesseract; Fedora: tesseract tesseract-osd)" ;;
        esac
    done
    exit 1
}

# ---- cargo tools -------------------------------------------------------------------------------------------------------

install_cargo_tools() {
    component rustfmt fmt
    component clippy clippy
    cargo_tool cargo-machete "$CARGO_MACHETE_VERSION"
    cargo_tool cargo-deny "$CARGO_DENY_VERSION"
}

component() {
    cargo "$2" --version >/dev/null 2>&1 && return 0
    have rustup || { say "cargo $2 is missing; install the component $1 of your Rust toolchain"; exit 1; }
    rustup component add "$1" >&2
}

# In target/tools, so that nothing of the user's is replaced. A minute and a half to three minutes on two cores, once.
cargo_tool() {
    { have "$1" || [ -x "$root/target/tools/bin/$1" ]; } && return 0
    say "cargo install $1 $2 (once, takes minutes)"
    # A folder of its own for the build: the workspace's could be locked by a build that waits for this one.
    CARGO_TARGET_DIR="$root/target/tools/build" cargo install --quiet --locked --version "$2" --root "$root/target/tools" "$1" >&2
    rm -rf "$root/target/tools/build"
}

main "$@"

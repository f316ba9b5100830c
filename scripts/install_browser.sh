#!/bin/sh
# Sees to it that there is a Chromium for the tests that open the page, and prints where it is. Without one it installs
# Debian's where it may; with --find it only looks. Where there is none it says in one sentence how to get it, and fails.
set -eu

find_browser() {
    command -v chromium || command -v chromium-browser || command -v google-chrome ||
        command -v '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'
}
fail() {
    echo "No Chromium found for the tests that open the page: install it (Debian: sudo apt-get install chromium)." >&2
    exit 1
}

find_browser && exit 0
[ "${1:-}" != --find ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || fail

echo "Installing Chromium for the tests that open the page …" >&2
quick="-o Acquire::Retries=0 -o Acquire::http::Timeout=15"
# shellcheck disable=SC2086  # several words
{
    apt-get $quick update &&
        DEBIAN_FRONTEND=noninteractive apt-get $quick install -y --no-install-recommends chromium fonts-dejavu-core
} >/dev/null 2>&1 || fail
find_browser || fail

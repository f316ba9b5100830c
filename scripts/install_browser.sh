#!/bin/sh
# Sees to it that the page tests find Chromium: prints where it is, installs Debian's as root, or says what to install.
set -eu

find_browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

if find_browser; then exit 0; fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "No Chromium found; install it (Debian: sudo apt-get install chromium) and run this again." >&2
    exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
find_browser

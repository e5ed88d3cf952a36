#!/bin/sh
# Installs the real servers that the end-to-end tests talk to, into .e2e/ of the repository:
#   mockotlp/  an OTLP receiver on Node.js        needed: without it `make e2e` fails
#   otelcol/   the OpenTelemetry Collector, in Go  built where Go is; else its tests say so and skip
#   prometheus/ Prometheus, as Debian packages it   unpacked, not installed: no daemon is started;
#                                                  where there is no apt its tests say so and skip
# and a browser, where it is root on Debian and there is none: Chromium shows the pages of test runs;
# elsewhere their tests say so and skip.
# Run again it does nothing that is done. KOBS_E2E_COLLECTOR=0 leaves the Collector out,
# KOBS_E2E_BROWSER=0 a browser that is not there yet.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
servers=$here/servers
into=${KOBS_E2E_DIR:-$here/../../.e2e}
mkdir -p "$into"
into=$(cd "$into" && pwd)

say() { printf 'e2e: %s\n' "$*"; }
lack() { printf 'e2e: lacking: %s\n' "$*" >&2; exit 1; }
digest() { cat "$@" | sha256sum | cut -d' ' -f1; }
done_before() { [ -f "$1/.made-of" ] && [ "$(cat "$1/.made-of")" = "$2" ]; }

node_fits() {
    node -e 'const [a, b] = process.versions.node.split(".").map(Number);
             process.exit(a > 20 || (a === 20 && b >= 6) || (a === 18 && b >= 19) ? 0 : 1)' 2>/dev/null
}

ensure_node() {
    if node_fits && command -v npm >/dev/null; then return; fi
    if [ "${KOBS_E2E_BROWSER:-1}" = 0 ]; then
        say "no browser was wanted: the tests of pages will be skipped"
    elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing Debian's nodejs and npm"
        apt-get update -qq >/dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
    fi
    node_fits || lack "Node.js 18.19+ or 20.6+ (found: $(node --version 2>/dev/null || echo none)); on Debian: apt-get install nodejs npm"
    command -v npm >/dev/null || lack "npm, which comes with Node.js (on Debian: apt-get install npm)"
}

install_mockotlp() {
    want=$(digest "$servers/package.json")
    if done_before "$into/mockotlp" "$want"; then return; fi
    ensure_node
    say "installing the OTLP receiver @elastic/mockotlpserver"
    rm -rf "$into/mockotlp"
    mkdir -p "$into/mockotlp"
    cp "$servers/package.json" "$into/mockotlp/"
    (cd "$into/mockotlp" && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error) ||
        lack "the npm package @elastic/mockotlpserver: npm could not install it (see above)"
    printf %s "$want" >"$into/mockotlp/.made-of"
}

build_collector() {
    version=$(sed -n 's/^ *version: //p' "$servers/collector-builder.yaml")
    want=$(digest "$servers/collector-builder.yaml")
    if done_before "$into/otelcol" "$want"; then return; fi
    if ! command -v go >/dev/null; then
        say "no Go toolchain: the OpenTelemetry Collector is not built, its tests will be skipped"
        return
    fi
    say "building the OpenTelemetry Collector $version with $(go version | cut -d' ' -f3) (a minute or two, once)"
    rm -rf "$into/otelcol"
    mkdir -p "$into/otelcol"
    log=$into/otelcol/build.log
    if (cd "$into/otelcol" &&
        GOBIN="$into/otelcol" go install "go.opentelemetry.io/collector/cmd/builder@v$version" &&
        ./builder --config "$servers/collector-builder.yaml" --output-path "$into/otelcol/build") >"$log" 2>&1; then
        mv "$into/otelcol/build/otelcol-kobs" "$into/otelcol/otelcol"
        rm -rf "$into/otelcol/build" "$into/otelcol/builder"
        printf %s "$want" >"$into/otelcol/.made-of"
    else
        tail -n 5 "$log" >&2
        say "the OpenTelemetry Collector could not be built (log: $log): its tests will be skipped"
    fi
}

unpack_prometheus() {
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        say "no apt-get and dpkg-deb: Prometheus is not there, its tests will be skipped"
        return
    fi
    if [ -x "$into/prometheus/usr/bin/prometheus" ]; then return; fi
    say "unpacking Debian's prometheus"
    rm -rf "$into/prometheus"
    mkdir -p "$into/prometheus"
    log=$into/prometheus/download.log
    if ! (cd "$into/prometheus" && apt-get download prometheus) >"$log" 2>&1 && [ "$(id -u)" = 0 ]; then
        apt-get update -qq >>"$log" 2>&1 || true
        (cd "$into/prometheus" && apt-get download prometheus) >>"$log" 2>&1 || true
    fi
    if dpkg-deb -x "$into"/prometheus/prometheus_*.deb "$into/prometheus" 2>>"$log"; then
        rm -f "$into"/prometheus/prometheus_*.deb
    else
        tail -n 5 "$log" >&2
        rm -rf "$into/prometheus"
        say "Debian's prometheus could not be downloaded: its tests will be skipped"
    fi
}

ensure_browser() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null; then return; fi
    done
    if [ "${KOBS_E2E_BROWSER:-1}" = 0 ]; then
        say "no browser was wanted: the tests of pages will be skipped"
    elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing Debian's chromium"
        timeout 60 apt-get update -qq >/dev/null || true
        DEBIAN_FRONTEND=noninteractive timeout 120 apt-get install -y -qq --no-install-recommends chromium >/dev/null ||
            say "Debian's chromium could not be installed: the tests of pages will be skipped"
    else
        say "no browser (chromium, google-chrome): the tests of pages will be skipped"
    fi
}

install_mockotlp
ensure_browser
unpack_prometheus
if [ "${KOBS_E2E_COLLECTOR:-1}" != 0 ]; then build_collector; fi
say "servers are ready in $into"

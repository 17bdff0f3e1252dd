#!/usr/bin/env bash
# Brings what the tests, the demo and the benchmark need: Debian packages through apt, Kafka's jars through Maven.
# Usage: tests/kafka/setup.sh [VERSION]   (default: $KAFKA_VERSION, else the version of tests/kafka/pom.xml)
# Safe to run again (nothing to do takes a moment) and by several processes at once.
set -euo pipefail
cd "$(dirname "$0")/../.."
pom=tests/kafka/pom.xml
of_pom() { sed -n "s:.*<$1>\(.*\)</$1>.*:\1:p" "$pom"; }
version=${1:-${KAFKA_VERSION:-$(of_pom kafka.version)}}
# MM2 and Connect of the same version, or of the newest that can be had.
mm2=$(printf '%s\n' "$version" "$(of_pom mm2.version)" | sort -V | head -1)
home=.kafka/$version

say() { echo "setup: $*" >&2; }

java_is_17() {
    command -v javac >/dev/null && [ "$(javac -version 2>&1 | sed 's/[^0-9]*\([0-9]*\).*/\1/')" -ge 17 ]
}

missing_packages() {
    java_is_17 || echo openjdk-17-jdk-headless
    command -v mvn >/dev/null || echo maven
    command -v gcc >/dev/null || echo gcc
    command -v g++ >/dev/null || echo g++
    command -v make >/dev/null || echo make
    command -v pkg-config >/dev/null || echo pkg-config
    [ -e /usr/include/openssl/ssl.h ] || echo libssl-dev
    [ -e /usr/include/zlib.h ] || echo zlib1g-dev
}

install_packages() {
    local missing as_root=()
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
        say "these are missing and cannot be installed from here: ${missing[*]}"
        say "on Debian or Ubuntu, run: sudo apt-get install ${missing[*]}   (elsewhere, what corresponds to them)"
        exit 1
    fi
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get -qq update
    # Where openjdk 17 is not packaged any more, the default JDK is newer and will do.
    apt-cache show openjdk-17-jdk-headless >/dev/null 2>&1 \
        || missing=("${missing[@]/openjdk-17-jdk-headless/default-jdk-headless}")
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

if ! command -v cargo >/dev/null; then
    say "cargo is missing: install rustup; rust-toolchain.toml names the version it will then use by itself"
    exit 1
fi

mkdir -p .kafka
exec 9>.kafka/setup.lock
flock 9
install_packages

# The copy of the pom is written last: it says that the rest is complete and made from this very pom.
if cmp -s "$pom" "$home/pom.xml"; then
    say "Kafka $version is in $home"
    exit 0
fi
say "fetching Kafka $version into $home (some 60 MB)"
rm -rf "$home"
mkdir -p "$home"
run_quietly() {
    "$@" >"$home/setup.log" 2>&1 || { cat "$home/setup.log" >&2; exit 1; }
}
run_quietly mvn -q -B -ntp -f "$pom" -Dkafka.version="$version" -Dmm2.version="$mm2" \
    -DoutputDirectory="$PWD/$home/libs" dependency:copy-dependencies
# Formatting costs a JVM start; only meta.properties differs between clusters, so tests copy the rest of this.
sed "\$a log.dirs=$PWD/$home/formatted" tests/kafka/format.properties >"$home/format.properties"
run_quietly java -cp "$home/libs/*:tests/kafka" kafka.tools.StorageTool format \
    -t causeway-tests-format-A -c "$home/format.properties"
cp "$pom" "$home/pom.xml"
say "Kafka $version is in $home"

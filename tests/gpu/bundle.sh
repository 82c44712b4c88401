#!/bin/sh
# tests/gpu/bundle.sh FILE - packs what tests/gpu/run.sh needs: programs, golden data, and the shared libraries that a bare machine lacks (all but
# the C library's own and CUDA's, which come with the card). QS_BUILD: where the programs were built.
set -e
file=$1; build=${QS_BUILD:-build/release}; root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
programs="$build/qlora-stream $build/tests/gpu/test_gpu_ops $build/tests/test_golden $build/bench/bench_gpu"
mkdir -p "$root/bundle/lib"
for f in $programs; do
    mkdir -p "$root/bundle/$(dirname "$f")"
    cp "$f" "$root/bundle/$f"; strip --strip-debug "$root/bundle/$f"
    ldd "$f" | awk '$3 ~ /^\// {print $3}'
done | sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*)\.so' >"$root/libraries"
mv "$root/bundle/$build/qlora-stream" "$root/bundle/"
xargs -I{} cp -L {} "$root/bundle/lib/" <"$root/libraries"
cp -r --parents tests/gpu/run.sh tests/gpu/sdpa.py bench/compare_transformers.py tests/golden "$root/bundle"
printf '%s\n' "$build" >"$root/bundle/tests/gpu/build-folder"
mkdir -p "$(dirname "$file")"
tar -C "$root" -czf "$file" bundle
bytes=$(stat -c %s "$file")
echo "$file: $((bytes >> 20)) MiB"
[ "$bytes" -lt $((64 << 20)) ] || { echo "$file is too large: 64 MiB at most"; exit 1; }

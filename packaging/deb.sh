#!/bin/sh
# packaging/deb.sh BUILD-FOLDER: a Debian package of an installed tree, BUILD-FOLDER/qlora-stream_VERSION_ARCH.deb.
# Expects BUILD-FOLDER/root as `make install DESTDIR=... PREFIX=/usr` leaves it. What the package needs is read off the program.
set -eu
build=$1 root=$1/root
version=$("$root/usr/bin/qlora-stream" --version | cut -d ' ' -f 2)
arch=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/debian" "$root/DEBIAN" "$root/usr/share/doc/qlora-stream"
cp LICENSE "$root/usr/share/doc/qlora-stream/copyright"
printf 'Source: qlora-stream\n\nPackage: qlora-stream\nArchitecture: any\n' >"$work/debian/control"
program=$(cd "$root" && pwd)/usr/bin/qlora-stream
depends=$(cd "$work" && dpkg-shlibdeps -O "$program" 2>/dev/null | sed 's/^shlibs:Depends=//')
cat >"$root/DEBIAN/control" <<END
Package: qlora-stream
Version: $version
Architecture: $arch
Maintainer: the qlora-stream developers <qlora-stream@localhost>
Depends: $depends
Section: science
Priority: optional
Description: fine-tune language models larger than the memory
 QLoRA fine-tuning within hard budgets of device memory and RAM: the 4-bit
 base model streams from disk through the device layer by layer. Runs on a
 CPU alone, or on a CUDA card.
END
dpkg-deb --root-owner-group --build "$root" "$build/qlora-stream_${version}_$arch.deb"

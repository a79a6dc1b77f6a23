#!/bin/bash
# Tests a Debian package as root: lintian, installation in a bare Debian 12, upgrade, refused downgrade, removal. A
# package of another architecture runs under qemu-user, which the kernel starts (binfmt_misc).
#   deploy/test-package.sh target/debian/callspan_0.1.0-1_amd64.deb
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/packages.sh
deb=$(readlink -f "$1")
[ "$(id -u)" -eq 0 ] || { echo "This test needs root (debootstrap, chroot)." >&2; exit 1; }
need lintian debootstrap

arch=$(dpkg-deb --field "$deb" Architecture)

say() { echo "--- $*"; }
# SHA-256 of the recording of fixtures/calls/g711a_direct.
RECORDED=65babb159203868ddd0c056f61ef77755199a003821b40cdf0b362e8c71ab7fc
say "lintian"
lintian --allow-root --fail-on error,warning "$deb"

work=$(mktemp -d)
root=$work/root
# shellcheck disable=SC2317  # called by the trap
clean() {
    umount -l "$root/proc" 2>/dev/null || true
    [ -z "${registered:-}" ] || echo -1 >"$registered"
    rm -rf --one-file-system "$work"
}
trap clean EXIT
# Lets the kernel start programs of the package's architecture by QEMU, until the end of this test.
emulate() {
    case $arch in arm64) cpu=aarch64 ;; amd64) cpu=x86_64 ;; *) echo "no emulator for $arch" >&2; exit 1 ;; esac
    need qemu-user-static
    local formats=/proc/sys/fs/binfmt_misc
    [ -e "$formats/register" ] || mount -t binfmt_misc binfmt_misc "$formats"
    [ ! -e "$formats/qemu-$cpu" ] || return 0
    # The format of the package of QEMU. Its interpreter is opened now (F), so that it is found in the chroot, too.
    cat "/usr/lib/binfmt.d/qemu-$cpu.conf" >"$formats/register"
    registered=$formats/qemu-$cpu
}
[ "$arch" = "$(dpkg --print-architecture)" ] || emulate
say "a bare Debian 12 for $arch"
debootstrap --arch="$arch" --variant=minbase bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}" >"$work/debootstrap.log" 2>&1 ||
    { tail -n 20 "$work/debootstrap.log"; exit 1; }
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no service starts in a chroot
chmod 755 "$root/usr/sbin/policy-rc.d"
mount -t proc proc "$root/proc"
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
install() { cp "$1" "$root/tmp/"; inside apt-get install -q -y --allow-downgrades --no-install-recommends "/tmp/$(basename "$1")"; }

say "installation"
inside apt-get update -q >/dev/null
install "$deb" >"$work/install.log" 2>&1 || { tail -n 40 "$work/install.log"; exit 1; }
inside callspan --version
inside id callspan >/dev/null
[ "$(inside stat -c '%a %U %G' /etc/callspan/callspan.toml)" = "640 root callspan" ]
inside test -d /var/spool/callspan
for file in man/man1/callspan.1.gz man/man1/callspan-replay.1.gz bash-completion/completions/callspan \
    zsh/vendor-completions/_callspan fish/vendor_completions.d/callspan.fish doc/callspan/copyright doc/callspan/changelog.Debian.gz; do
    inside test -s "/usr/share/$file" || { echo "/usr/share/$file is missing" >&2; exit 1; }
done
# A link of one paper to another leads to a file of the package. Sources, licences and papers for developers are not in it.
papers=$root/usr/share/doc/callspan
for paper in README.md docs/configuration.md docs/install.md docs/mirror.md deploy/RUNBOOK.md; do
    [ -s "$papers/$paper" ] || { echo "$papers/$paper is missing" >&2; exit 1; }
    { grep -o '](\(docs\|deploy\|\.\./docs\|\.\./deploy\|[a-z-]*\.md\)[^)#]*' "$papers/$paper" || true; } | sed 's/^](//' | while read -r link; do
        [ -e "$(dirname "$papers/$paper")/$link" ] || { echo "$paper links to $link, which is missing" >&2; exit 1; }
    done
done
inside bash -c '. /usr/share/bash-completion/completions/callspan; complete -p callspan' >/dev/null
inside systemd-analyze verify /usr/lib/systemd/system/callspan.service /usr/lib/systemd/system/callspan-mirror@.service \
    /usr/lib/systemd/system/callspan-console.service
inside callspan check-config /etc/callspan/callspan.toml
inside callspan demo --out /tmp/demo >/dev/null
inside test -n "$(inside find /tmp/demo -name '*.wav')"
# The recording is the same on each architecture.
cp "$(find fixtures/calls/g711a_direct -name capture.pcap)" "$root/tmp/call.pcap"
inside callspan replay --out /tmp/replayed /tmp/call.pcap >/dev/null
sum=$(inside sh -c 'cat /tmp/replayed/*.wav' | sha256sum | cut -d " " -f 1)
[ "$sum" = "$RECORDED" ] || { echo "the replayed recording has the SHA-256 $sum" >&2; exit 1; }

say "upgrade"
echo "# a line of the administrator" >>"$root/etc/callspan/callspan.toml"
inside install -d -o callspan -g callspan -m 700 /var/lib/callspan /var/lib/callspan/state /var/lib/callspan/recordings
# The replayed journal is one of this version.
inside callspan demo --out /tmp/state >/dev/null
cp "$(find "$root/tmp/state" -name journal.sqlite | head -n 1)" "$root/var/lib/callspan/state/journal.sqlite"
echo sound >"$root/var/lib/callspan/recordings/a.wav"
state() { (cd "$root" && find var/lib/callspan -type f -exec sha256sum {} + | sort); }
before=$(state)
dpkg-deb -R "$deb" "$work/newer"
version=$(sed -n 's/^Version: //p' "$work/newer/DEBIAN/control")
sed -i "s/^Version: .*/Version: $version+next/" "$work/newer/DEBIAN/control"
dpkg-deb --root-owner-group -b "$work/newer" "$work/newer.deb" >/dev/null
# systemd does not run in a chroot, so the requests to it are written down: what runs is restarted.
mkdir -p "$root/run/systemd/system"
mv "$root/usr/bin/deb-systemd-invoke" "$root/usr/bin/deb-systemd-invoke.real"
printf '#!/bin/sh\necho "$@" >>/tmp/invoked\n' >"$root/usr/bin/deb-systemd-invoke"
chmod 755 "$root/usr/bin/deb-systemd-invoke"
install "$work/newer.deb" >"$work/upgrade.log" 2>&1 || { tail -n 40 "$work/upgrade.log"; exit 1; }
mv "$root/usr/bin/deb-systemd-invoke.real" "$root/usr/bin/deb-systemd-invoke"
rmdir "$root/run/systemd/system"
for unit in callspan.service callspan-console.service; do
    grep -q -E "^(try-)?restart '?$unit'?\$" "$root/tmp/invoked" || { echo "the upgrade does not restart $unit:" >&2; cat "$root/tmp/invoked" >&2; exit 1; }
done
[ "$(state)" = "$before" ] || { echo "the upgrade changed the state" >&2; exit 1; }
grep -q "a line of the administrator" "$root/etc/callspan/callspan.toml"

say "downgrade"
install "$deb" >"$work/down.log" 2>&1 || { echo "a downgrade with the same tables must work" >&2; exit 1; }
install "$work/newer.deb" >/dev/null 2>&1
printf '\000\000\003\347' | dd of="$root/var/lib/callspan/state/journal.sqlite" bs=1 seek=60 conv=notrunc status=none
before=$(state)
if install "$deb" >"$work/down.log" 2>&1; then echo "the downgrade was not refused" >&2; exit 1; fi
grep -q "this package is too old for /var/lib/callspan/state/journal.sqlite" "$work/down.log" || { tail "$work/down.log"; exit 1; }
# shellcheck disable=SC2016  # a format of dpkg-query
[ "$(inside dpkg-query -W -f='${Version} ${db:Status-Status}' callspan)" = "$version+next installed" ]

say "removal"
inside apt-get purge -q -y callspan >"$work/purge.log" 2>&1 || { tail "$work/purge.log"; exit 1; }
[ "$(state)" = "$before" ] || { echo "the removal took recordings or the journal" >&2; exit 1; }
say "the package is right"

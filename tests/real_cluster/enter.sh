#!/usr/bin/env bash
# Give this mount namespace a /root, a /tmp and a /dev/shm of its own, make all else read-only, run a command.
# usage: enter.sh DIR PATH... -- COMMAND...    DIR holds root/ and tmp/; each PATH stays to be seen, read-only
set -euo pipefail
dir=$1
home=/root
shift

mount --make-rprivate /
mkdir -p "$dir/root" "$dir/tmp"
chmod 700 "$dir/root"
chmod 1777 "$dir/tmp"
while [[ $1 != -- ]]; do
  case $1 in
    "$home"/* | /tmp/*) target=$dir$1 ;; # what hides it is mounted below
    *) target=$1 ;;
  esac
  mkdir -p "$target"
  mount --bind "$1" "$target"
  mount -o remount,bind,ro "$target"
  shift
done
shift
mount --rbind "$dir/root" "$home"
mount --rbind "$dir/tmp" /tmp
mount -o remount,bind,ro /
mount -t tmpfs -o size=1g tmpfs /dev/shm
cd "$home"
exec "$@"

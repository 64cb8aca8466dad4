#!/usr/bin/env bash
# Stand in for `ray` on a host: "stop" ends the Ray processes of this host alone; all else is left to Ray.
# The namespaces would see to that as well. But a `ray stop` that slipped out of them would end every Ray of the
# machine, whoever started it, so Ray's own is never run.
set -euo pipefail
if [[ ${1:-} != stop ]]; then
  exec REAL_RAY "$@"
fi

list_own() { # pids of the Ray processes that share both namespaces with this one
  local pid
  for pid in $(ls /proc | grep -E '^[0-9]+$'); do
    if [[ $pid -ne $$ && $(readlink "/proc/$pid/ns/net") == "$(readlink /proc/self/ns/net)" &&
      $(readlink "/proc/$pid/ns/pid") == "$(readlink /proc/self/ns/pid)" ]] &&
      tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qE 'site-packages/ray/|^ray(::|-)|bin/ray start'; then
      echo "$pid"
    fi
  done 2>/dev/null
}

if [[ $(readlink /proc/1/exe) != *sshd* ]]; then
  echo "this is no host of the test: nothing is stopped" >&2
  exit 1
fi
for signal in TERM KILL; do
  own=$(list_own)
  [[ -z $own ]] && break
  kill -"$signal" $own 2>/dev/null || true
  for _ in {1..20}; do # gcs_server and raylet outlive a mere TERM
    [[ -z $(list_own) ]] && break
    sleep 0.1
  done
done
echo "stopped the Ray of $(hostname)"

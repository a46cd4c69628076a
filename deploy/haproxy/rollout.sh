#!/bin/sh
# Replaces the processes behind HAProxy, one after the other. If one is not ready in time, the rollout ends with an error:
# HAProxy goes on with the others, which are still those of before.
#
#   deploy/haproxy/rollout.sh 8001 8002
#
# RESTART           restarts the process of $PORT, and returns when the old one has ended
# STATUS            where HAProxy says who is up
# SECONDS_TO_READY  how long a new process may take
set -eu
: "${RESTART:=systemctl restart "quartet@\$PORT"}"
: "${STATUS:=http://127.0.0.1:8404/status}"
: "${SECONDS_TO_READY:=120}"

is_ready() {
  curl -fs -m 5 -o /dev/null "http://127.0.0.1:$1/healthz/ready"
}

is_up() {
  curl -fs -m 5 "$STATUS;csv" | awk -F, -v port="$1" '$1 == "quartet" && $2 == port { up = $18 == "UP" } END { exit !up }'
}

wait_until() {
  left=$((SECONDS_TO_READY * 5))
  until "$@"; do
    left=$((left - 1))
    if [ "$left" -le 0 ]; then
      echo "error: port $2 is not up within $SECONDS_TO_READY s: see its log; the rollout ends here" >&2
      exit 1
    fi
    sleep 0.2
  done
}

[ "$#" -ge 2 ] || { echo "usage: $0 PORT PORT …" >&2; exit 2; }
for port; do
  wait_until is_up "$port"
done
for PORT; do
  export PORT
  echo "replacing the process on port $PORT"
  sh -c "$RESTART"
  wait_until is_ready "$PORT"
  sleep 1 # longer than HAProxy's interval: what it says then is of the new process
  wait_until is_up "$PORT"
done

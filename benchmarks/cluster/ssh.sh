#!/bin/sh
# Two "machines" by SSH on this one: an sshd of its own on port 2222 with a throw-away key, a
# scheduler and workers by `dask ssh`, a cohort of two made-up slides, one worker killed in the
# middle, and its runs compared bit for bit with those of `napari-ood run`.
# Needs: openssh-server, pip install paramiko, an environment with napari-ood[cohort] on PATH.
# Two to three minutes; everything lies in a temporary folder and is removed at the end.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
ssh_pid=
finish() {
    if [ -n "$ssh_pid" ]; then
        # Scheduler and workers end themselves; a shell's background job would not hear an interrupt.
        python -c 'from distributed import Client; Client("tcp://127.0.0.1:8786", timeout=10).shutdown()' || true
        kill "$ssh_pid" 2>/dev/null || true
    fi
    [ ! -f "$work/sshd.pid" ] || kill "$(cat "$work/sshd.pid")"
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

ssh-keygen -q -t ed25519 -N "" -f "$work/hostkey"
ssh-keygen -q -t ed25519 -N "" -f "$work/id"
cat > "$work/sshd_config" <<CONFIG
Port 2222
ListenAddress 127.0.0.1
ListenAddress 127.0.0.2
HostKey $work/hostkey
PidFile $work/sshd.pid
AuthorizedKeysFile $work/id.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
CONFIG
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
"$(command -v sshd || echo /usr/sbin/sshd)" -f "$work/sshd_config"

python - "$work" <<'DRAW'
import sys
from napari_ood.samples.slide_file import write_synthetic_slide
for name, size, seed in (("a", 4096, 11), ("b", 2560, 12)):
    write_synthetic_slide(f"{sys.argv[1]}/slides/{name}.ome.tif", size, seed)
DRAW
for name in a b; do
    napari-ood run "$work/slides/$name.ome.tif" --model lymph-node-he --stride 48 --device cpu --out "$work/alone"
done

printf '127.0.0.1\n127.0.0.2\n' > "$work/hosts.txt"
dask ssh --hostfile "$work/hosts.txt" --nworkers 1 --nthreads 1 --memory-limit 0 \
    --ssh-port 2222 --ssh-private-key "$work/id" > "$work/log" 2>&1 &
ssh_pid=$!
napari-ood cohort "$work/slides/a.ome.tif" "$work/slides/b.ome.tif" --model lymph-node-he --stride 48 \
    --device cpu --out "$work/runs" --scheduler tcp://127.0.0.1:8786 &
cohort_pid=$!
python "$here/kill_one.py" tcp://127.0.0.1:8786 "$work/runs"
wait "$cohort_pid"
python "$here/equal.py" "$work/alone" "$work/runs"

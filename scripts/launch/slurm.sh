#!/usr/bin/env bash
#SBATCH --job-name=bertjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --output=%x-%j.log
# A bertjax command on the nodes of a Slurm job, which are a Ray cluster while it runs. Submit it in a folder that all
# nodes share and that has bertjax in .venv, such as the checkout (BERTJAX_VENV names another environment):
#   sbatch scripts/launch/slurm.sh bertjax finetune --num-workers 2 --out runs/slurm
#   sbatch --gpus-per-node=4 scripts/launch/slurm.sh bertjax finetune --num-workers 8 --use-gpu --out runs/slurm
#   sbatch --nodes=8 scripts/launch/slurm.sh bertjax sweep --config experiments/sweep_projects.py --out runs/sweep
# The script adds --address.
set -euo pipefail
fail() { echo "slurm.sh: $1" >&2; exit 2; }
[ -n "${SLURM_JOB_NODELIST:-}" ] || fail "this is a job for Slurm; submit it with sbatch"
[ "${1:-}" = bertjax ] && [ $# -gt 1 ] || fail "give a command, such as: bertjax finetune --num-workers 2 --out runs/a"
cd "${SLURM_SUBMIT_DIR:?}"
export PATH="${BERTJAX_VENV:-$PWD/.venv}/bin:$PATH"
command -v bertjax >/dev/null || fail "no bertjax in ${BERTJAX_VENV:-$PWD/.venv}; scripts/quickstart.sh installs it"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head="${nodes[0]}"                                    # where this script runs, too
port="${RAY_PORT:-$((20000 + SLURM_JOB_ID % 10000))}" # another one for each job
# Other users of these machines stay out: they lack the token.
RAY_AUTH_TOKEN="$(ray get-auth-token --generate)"
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # nobody waits for these nodes when the command has ended
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT

start() { # start NODE RAY_FLAGS...: Ray on a node, with what Slurm gives this job of it
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" ray start --block --disable-usage-stats \
    --num-cpus="${SLURM_CPUS_ON_NODE:?}" "${@:2}" &
}
start "$head" --head --port="$port"
until (: <>"/dev/tcp/$head/$port") 2>/dev/null; do
  kill -0 "$!" 2>/dev/null || fail "Ray did not start on $head; the lines above say why"
  sleep 0.5
done
for node in "${nodes[@]:1}"; do start "$node" --address="$head:$port"; done
"$@" --address "$head:$port"

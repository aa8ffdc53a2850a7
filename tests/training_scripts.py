"""Training scripts as users have them, in the forms of FunASR's own; and what bash itself makes of them."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

SOUND = """\
# which gpu to train or finetune
workspace=`pwd`
export CUDA_VISIBLE_DEVICES="0,1"
gpu_num=$(echo $CUDA_VISIBLE_DEVICES | awk -F "," '{print NF}')

## option 1, download model automatically
model_name_or_model_dir="iic/some_paraformer"
#model_name_or_model_dir=${local_path_root}/${model_name_or_model_dir}

# 训练数据
data_dir="data/list"
train_data="${data_dir}/train.jsonl"
val_data=${data_dir}/val.jsonl

output_dir="./outputs"
log_file="${output_dir}/log.txt"
deepspeed_config=${workspace}/../../ds_stage1.json
mkdir -p ${output_dir}
echo "log_file: ${log_file}"

DISTRIBUTED_ARGS="
    --nnodes ${WORLD_SIZE:-1} \\
    --nproc_per_node $gpu_num \\
    --node_rank ${RANK:-0} \\
    --master_addr ${MASTER_ADDR:-127.0.0.1} \\
    --master_port ${MASTER_PORT:-26669}
"
echo $DISTRIBUTED_ARGS

# funasr trainer path
train_tool=../../../funasr/bin/train_ds.py

torchrun $DISTRIBUTED_ARGS \\
${train_tool} \\
++model="${model_name_or_model_dir}" \\
++train_data_set_list="${train_data}" \\
++valid_data_set_list="${val_data}" \\
++dataset_conf.batch_size=6000  \\
++dataset_conf.batch_type="token" \\
++train_conf.max_epoch=50 \\
++train_conf.resume=true \\
++train_conf.use_deepspeed=false \\
++train_conf.deepspeed_config=${deepspeed_config} \\
++optim_conf.lr=0.0002 \\
++output_dir="${output_dir}" &> ${log_file}
"""
"""In the form of the `finetune.sh` of the Paraformer recipes since 1.0.28."""

MODULE = """\
#!/bin/bash
set -euo pipefail
cd "$(dirname "$0")" || exit 1
EXP=exp/a
ARGS=(
    ++model=iic/some_paraformer   # from the hub
    "++train_data_set_list=$PWD/train.jsonl"
    ++valid_data_set_list=$PWD/val.jsonl
    '++freeze_param=[encoder,predictor]'
)
ARGS+=(++train_conf.max_epoch=$((5 * 2)))
if [ ! -d "$EXP" ]; then mkdir -p "$EXP"; fi
stage=2
if [ ${stage} -le 2 ]; then
    CUDA_VISIBLE_DEVICES=0 python -m funasr.bin.train "${ARGS[@]}" ++output_dir=$EXP 2>&1 | tee $EXP/log
fi
"""
"""A user's own, with an array, a stage and the trainer as a module."""

CONFIG = """\
CUDA_VISIBLE_DEVICES="0,1"
workspace=$(pwd)
config=conformer.yaml
lang=zh; token_type=char
token_list=data/${lang}_token_list/$token_type/tokens.txt
model_dir="baseline_$(basename "${config}" .yaml)_${lang}"
stage=0; stop_stage=5
if [ ${stage} -le 3 ] && [ ${stop_stage} -ge 3 ]; then
  echo "stage 3: LM Training"
fi
if [ ${stage} -le 4 ] && [ ${stop_stage} -ge 4 ]; then
  export CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES
  gpu_num=$(echo $CUDA_VISIBLE_DEVICES | awk -F "," '{print NF}')
  torchrun \\
  --nnodes 1 \\
  --nproc_per_node ${gpu_num} \\
  --master_port 12345 \\
  ../../../funasr/bin/train.py \\
  --config-path "${workspace}/conf" \\
  --config-name "${config}" \\
  ++train_data_set_list="data/train.jsonl" \\
  ++valid_data_set_list="data/dev.jsonl" \\
  ++tokenizer_conf.token_list="${token_list}" \\
  ++output_dir="exp/${model_dir}" &> log
fi
for dset in test; do
  for JOB in $(seq 4); do
  { python ../../../funasr/bin/inference.py ++input="x.${JOB}" ++keywords="\\"a"\\" ++output_dir="y" &> log2
  }&
  done
  wait
done
"""
"""In the form of the `run.sh` of the aishell recipes."""


TWO_GPUS = 'export CUDA_VISIBLE_DEVICES="0,1"\n'
TRAIN = "torchrun --nproc_per_node 2 funasr/bin/train_ds.py ++model=m ++train_data_set_list=a ++valid_data_set_list=b"
USERS = {
    "torchrun with a module": TWO_GPUS + "torchrun --nproc_per_node=2 -m funasr.bin.train_ds ++model=m ++seed=1\n",
    "a list of texts": TWO_GPUS + TRAIN + ' \'++x=["a.jsonl","b.jsonl"]\' \\\n',
    "a backslash before the end": TWO_GPUS + TRAIN + (" \\\n++seed=1 \\\n\n"),
    "tee": TWO_GPUS + TRAIN + " 2>&1 | tee log\n",
    "options of its own": (
        'lr=0.1\nwhile [[ $# -gt 0 ]]; do\ncase $1 in\n--lr) lr="$2"; shift 2;;\n*) echo "bad"; exit 1;;\nesac\ndone\n'
    )
    + TWO_GPUS
    + TRAIN
    + " ++optim_conf.lr=$lr\n",
    "an environment": ("source ~/.bashrc\nconda activate x\n") + SOUND,
    "an environment elsewhere": "source /opt/x/bin/activate\n" + SOUND,
    "arguments passed on": TWO_GPUS + TRAIN + ' "$@"\n',
    "arguments passed on unquoted": TWO_GPUS + TRAIN + " $*\n",
    "settings in a text": ('A="++seed=1 \\\n ++x.y=2\n ++z=3"\n') + TWO_GPUS + TRAIN + " $A\n",
    "GPUs counted by nvidia-smi": (
        "gpu_num=$(nvidia-smi -L | wc -l)\ntorchrun --nproc_per_node $gpu_num -m funasr.bin.train ++model=m\n"
    ),
    "a process for each GPU": TWO_GPUS + "torchrun --nproc_per_node=gpu -m funasr.bin.train ++model=m\n",
    "the trainer asked of python": 't=$(python -c "import funasr, os; print(os.path.join(os.pa'
    "th.dirname(funasr.__file__), 'bin/train_ds.py'))\")\n"
    + TWO_GPUS
    + "torchrun --nproc_per_node 2 $t ++model=m ++train_conf.max_epoch=1\n",
    "the trainer asked of pip": 'p=$(pip show funasr | grep Location | cut -d" " -f2)\n'
    + TWO_GPUS
    + "torchrun --nproc_per_node 2 ${p}/funasr/bin/train_ds.py ++model=m\n",
    "accelerate": TWO_GPUS + "accelerate launch --config_file x --num_processes 2 funasr/bin/train.py ++model=m\n",
    "deepspeed": "deepspeed --no_local_rank --include localhost:0,1 funasr/bin/train_ds.py ++mo"
    "del=m ++train_conf.use_deepspeed=true\n",
    "torch.distributed.run": TWO_GPUS
    + "python3 -m torch.distributed.run --nproc_per_node 2 funasr/bin/train.py ++model=m\n",
    "mpirun": TWO_GPUS + "mpirun -np 2 python funasr/bin/train.py ++model=m\n",
    "in a condition": TWO_GPUS + "if " + TRAIN + " ++seed=1; then echo ok; else echo no; exit 1; fi\n",
    "with a way out": TWO_GPUS + TRAIN + " || { echo failed; exit 1; }\n",
    "in a function, in a loop": TWO_GPUS
    + ("run() {\n  local n=$1\n  ")
    + TRAIN
    + (" ++seed=$n\n}\nfor s in 1 2 3; do run $s; done\n"),
    "many kinds of values": TWO_GPUS
    + TRAIN
    + (" ++model_revision=v2.0.4 ++x=2e-4 ++y=.5 ++hub=ms ++t=data/*.jsonl ++o=exp/$(date +%Y%m%d) &\nwait\n"),
    "a careful script": (
        "#!/usr/bin/env bash\n"
        "set -euo pipefail\n"
        'SCRIPT_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)\n'
        'cd "$SCRIPT_DIR"\n'
    )
    + TWO_GPUS
    + (
        "torchrun --standalone --nproc_per_node=2 -m funasr.bin.train_ds \\\n"
        '  ++model="${1:-iic/x}" \\\n'
        '  ++train_data_set_list="$SCRIPT_DIR/a.jsonl" \\\n'
        '  ++output_dir="$SCRIPT_DIR/out"\n'
    ),
    "texts for other programs": (
        "cat > run.py <<'PY'\n"
        "x = 1\n"
        "print('it''s')\n"
        "PY\n"
        "cat <<EOF > cfg.yaml\n"
        "a: ${HOME}\n"
        "++b=1\n"
        "EOF\n"
        "# it's a comment with an apostrophe\n"
    )
    + TWO_GPUS
    + TRAIN
    + "\n",
    "after another program": TWO_GPUS + "python data_prep.py --wav x --text y && \\\n" + TRAIN + "\n",
    "exported later": ("CUDA_VISIBLE_DEVICES=2,3\nexport CUDA_VISIBLE_DEVICES\n") + TRAIN + "\n",
    "single plus": (
        "export CUDA_VISIBLE_DEVICES=0\n"
        "python -u -m funasr.bin.train \\\n"
        "  +model=m \\\n"
        "  +train_conf.max_epoch=1 \\\n"
        "  hydra.run.dir=out\n"
    ),
    "goes on afterwards": SOUND + '\necho "训练完成"\npython infer.py --model outputs/model.pt # 推理\n',
    "a here string": (
        'gpu=${GPU:-"0,1"}\n'
        "n=$(awk -F, '{print NF}' <<< \"$gpu\")\n"
        "CUDA_VISIBLE_DEVICES=$gpu torchrun --nproc_per_node=$n -m funasr.bin.train ++model=m\n"
    ),
    "an array by read": (
        "export CUDA_VISIBLE_DEVICES=0,1,2,3\n"
        'IFS="," read -ra g <<< "$CUDA_VISIBLE_DEVICES"\n'
        "n=${#g[@]}\n"
        "torchrun --nproc_per_node=$n -m funasr.bin.train ++model=m\n"
    ),
    "an array joined": (
        "g=(0 1)\n"
        'export CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${g[*]}")\n'
        "torchrun --nproc_per_node=${#g[@]} -m funasr.bin.train ++model=m\n"
    ),
    "rendezvous": TWO_GPUS
    + (
        "torchrun --nproc_per_node 2 \\\n"
        "  --rdzv_backend c10d --rdzv_endpoint localhost:0 \\\n"
        " funasr/bin/train_ds.py ++model=m \\\n"
        " ++train_data_set_list=a >log 2>&1 & echo $! > pid\n"
    ),
    "a random port": TWO_GPUS
    + "torchrun --nproc_per_node 2 --master_port $((RANDOM + 20000)) funasr/bin/train.py ++model=m\n",
    "several machines by the environment": TWO_GPUS
    + "torchrun --nproc_per_node 2 --nnodes $NNODES --node_rank $NODE_RANK "
    "--master_addr $MASTER_ADDR funasr/bin/train.py ++model=m\n",
    "the program": "funasr-train ++model=m ++train_data_set_list=a ++device=cpu\n",
    "quotes for hydra": TWO_GPUS
    + TRAIN
    + " ++tokenizer_conf.unk_symbol='\"<unk>\"' ++frontend_conf.window=hamming ++token_list='[a,b]'\n",
    "on a CPU": ('export CUDA_VISIBLE_DEVICES=""\npython -m funasr.bin.train ++model=m ++device=cpu\n'),
    "GPUs by name": 'export CUDA_VISIBLE_DEVICES="GPU-3a,GPU-4b"\n' + TRAIN + "\n",
    "looks for its trainer": "workspace=`pwd`\n"
    + TWO_GPUS
    + (
        "train_tool=${workspace}/../FunASR/funasr/bin/train_ds.py\n"
        '[ -f "$train_tool" ] || { echo "no trainer"; exit 1; }\n'
        "torchrun --nproc_per_node 2 $train_tool ++model=m\n"
    ),
    "eval": TWO_GPUS
    + ('cmd="torchrun --nproc_per_node 2 funasr/bin/train.py ++model=m ++seed=1"\necho $cmd\neval $cmd\n'),
    "a command in a variable": TWO_GPUS
    + ('cmd="torchrun --nproc_per_node 2 funasr/bin/train.py ++model=m ++seed=1"\n$cmd\n'),
}
"""Sound scripts as users write them."""

FORMS = {"sound": SOUND, "module": MODULE, "config": CONFIG}
PROGRAMS = ("torchrun", "python", "python3", "deepspeed", "accelerate", "funasr-train", "nohup")


def write_script(folder: Path, text: str, name: str = "finetune.sh") -> Path:
    """A script, its line ends as given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text.encode())
    return path


def seen_by_programs(script: Path, root: Path) -> list[list[str]]:
    """Runs the script in bash with programs that write down their words, and returns these per call."""
    tools = root / "tools"
    tools.mkdir()
    record = root / "record"
    for name in PROGRAMS:
        tool = tools / name
        tool.write_text(f'#!/bin/bash\nprintf "%s\\0" {name} "$@" >> {record}\nprintf "\\1\\0" >> {record}\n')
        tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": "/home/user"}
    subprocess.run(["bash", str(script)], cwd=root, env=environment, capture_output=True, timeout=60, check=False)
    calls = record.read_bytes().decode().split("\0\1\0") if record.is_file() else []
    return [call.removeprefix("\0").split("\0") for call in calls if call]

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

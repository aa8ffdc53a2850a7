"""The training command: scripts as bash reads them, words as hydra reads them, and what is wrong with both."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_scripts import CONFIG, FORMS, MODULE, SOUND, TRAIN, TWO_GPUS, USERS, seen_by_programs, write_script

from harness.core.cells import Severity
from harness.core.errors import InputError
from harness.preflight.command import TrainingCommand, read_script, read_words, scripts
from harness.preflight.command.interpreter import ShellInterpreter
from harness.preflight.command.launchers import launch_of
from harness.preflight.command.scripts import Script, read_text
from harness.preflight.command.shell import Shell
from harness.preflight.findings import PreflightFinding

HOME = {"HOME": "/home/user"}


def command_of(folder: Path, text: str) -> TrainingCommand:
    return read_script(write_script(folder, text), root=folder, environment=HOME)


def named(command: TrainingCommand, rule: str) -> PreflightFinding:
    found = [one for one in command.findings if one.rule == rule]
    assert found, [one.rule for one in command.findings]
    return found[0]


def above_minor(command: TrainingCommand) -> list[str]:
    return [f"{one.rule}: {one.message}" for one in command.findings if one.severity is not Severity.MINOR]


def words_of(script: Path, root: Path) -> list[list[str]]:
    """The calls of trainers as we read them."""
    interpreter = ShellInterpreter()
    shell = Shell(environment=HOME, directory=str(root), script=script)
    text = read_text(script)
    assert text is not None
    interpreter.run(Script(path=script, text=text), shell)
    return [[word.text for word in one.words] for one in interpreter.commands if launch_of(one.words)]


@pytest.mark.parametrize("form", FORMS)
def test_scripts_in_the_shipped_forms_have_no_finding_above_minor(tmp_path: Path, form: str) -> None:
    command = command_of(tmp_path, FORMS[form])
    assert above_minor(command) == []
    assert command.called
    assert command.unvalued == ()


@pytest.mark.parametrize(
    "text",
    [
        b"a=" + b"x" * 1000 + b"\n" + b"a=$a$a\n" * 18_000,
        b"for x in 1 2 3 4 5 6 7 8; do f; done; f() { for y in 1 2 3 4 5 6 7 8; do f; done; }\n" * 1_500,
    ],
    ids=["doubling", "loops"],
)
def test_a_script_that_takes_seconds_to_follow_is_refused_in_time(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "finetune.sh"
    path.write_bytes(text)
    began = time.process_time()
    with contextlib.suppress(InputError):
        read_script(path, root=tmp_path)
    assert time.process_time() - began < 2.0


def test_statements_beyond_the_limit_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "MOST_SECONDS", 0.0)
    path = write_script(tmp_path, SOUND)
    with pytest.raises(InputError, match=r"finetune\.sh: cannot be read: its statements take more than 0 s to follow"):
        read_script(path, root=tmp_path)


@pytest.mark.parametrize(
    ("values", "unread"),
    [
        (["[" + "1," * 4000 + "1]"], 1),
        (["a" * 9000] * 5, 3),
        (["[" + "1," * 900 + "1]", "a" * 9000], 0),
        (["a" * 11_000, "1"], 1),
    ],
)
def test_values_that_hydra_reads_for_seconds_are_not_read_and_not_accused(values: list[str], unread: int) -> None:
    command = read_words([f"++dataset_conf.key{number}={value}" for number, value in enumerate(values)])
    assert len(command.unvalued) == unread
    assert len(command.overrides) == len(values) - unread
    assert above_minor(command) == []


@pytest.mark.parametrize("form", USERS)
def test_sound_scripts_of_users_have_no_finding_above_minor(tmp_path: Path, form: str) -> None:
    command = command_of(tmp_path, USERS[form])
    assert above_minor(command) == []
    assert command.called or form == "eval"


def test_a_shipped_form_is_read_as_it_runs(tmp_path: Path) -> None:
    command = command_of(tmp_path, SOUND)
    assert command.entry == "train_ds"
    assert (command.processes, command.devices, command.nodes) == (2, ("0", "1"), 1)
    assert (command.launcher, command.trainer) == ("torchrun", "../../../funasr/bin/train_ds.py")
    assert command.model == "iic/some_paraformer"
    assert (command.train, command.valid) == ("data/list/train.jsonl", "data/list/val.jsonl")
    by_path = {one.path: one for one in command.overrides}
    epochs = by_path["train_conf.max_epoch"]
    assert (epochs.value, epochs.text) == (50, "++train_conf.max_epoch=50")
    assert SOUND.splitlines()[(epochs.place.line or 0) - 1].startswith("++train_conf.max_epoch")
    assert by_path["optim_conf.lr"].value == 0.0002
    assert by_path["train_conf.resume"].value is True
    assert by_path["train_conf.deepspeed_config"].value == f"{tmp_path}/../../ds_stage1.json"


def test_arrays_stages_and_modules_are_followed(tmp_path: Path) -> None:
    command = command_of(tmp_path, MODULE)
    assert (command.entry, command.trainer, command.processes) == ("train", "-m funasr.bin.train", 1)
    assert command.devices == ("0",)
    by_path = {one.path: one for one in command.overrides}
    assert by_path["freeze_param"].value == ["encoder", "predictor"]
    assert by_path["train_conf.max_epoch"].value == 10
    assert by_path["model"].place.line == 6
    assert command.train == f"{tmp_path}/train.jsonl"


def test_a_config_of_its_own_is_named(tmp_path: Path) -> None:
    command = command_of(tmp_path, CONFIG)
    assert command.config_file == f"{tmp_path}/conf/conformer.yaml"
    assert command.entry == "train"
    assert {one.path: one.value for one in command.overrides}["tokenizer_conf.token_list"].endswith("char/tokens.txt")


@pytest.mark.parametrize(
    ("devices", "remedy"),
    [
        ("0,0", "export CUDA_VISIBLE_DEVICES=0"),
        ("1,0,1", "export CUDA_VISIBLE_DEVICES=1,0"),
        ("-1", "export CUDA_VISIBLE_DEVICES=0"),
        ("0 1", "export CUDA_VISIBLE_DEVICES=0,1"),
        ("none", "export CUDA_VISIBLE_DEVICES=0"),
    ],
)
def test_the_line_to_type_for_gpus_is_not_the_fault_again(tmp_path: Path, devices: str, remedy: str) -> None:
    text = SOUND.replace('DEVICES="0,1"', f'DEVICES="{devices}"', 1)
    assert text != SOUND
    assert named(command_of(tmp_path, text), "devices-unreadable").remedy == remedy


def test_options_in_quotes_are_named_once_and_what_follows_from_them_is_not(tmp_path: Path) -> None:
    text = SOUND.replace("torchrun $DISTRIBUTED_ARGS", 'torchrun "$DISTRIBUTED_ARGS"', 1)
    assert [one.rule for one in command_of(tmp_path, text).findings] == ["launcher-options-quoted"]
    # A word that is no trainer in the same place is named.
    other = SOUND.replace("++train_conf.max_epoch=50", "max_epoch", 1)
    assert named(command_of(tmp_path, other), "hydra-cannot-read")


ODD = {
    "braces": "torchrun x/train.py ++a={b,c} '++d={e: 1, f: 2}' ++g={h:1} ++seed=1\n",
    "quotes": """torchrun x/train.py ++a="b c"'d e'f "++g='h,i'" ++j=$'k\\tl' ++m='n'\\''o' ++p=\\"q\\" ++seed=1\n""",
    "operators": "a=x/y.tar.gz\nb=${a%.gz} c=${a##*/}\nd=${a//x/zz}\ntorchrun train.py ++b=$b ++c=${c:0:3} ++d=$d "
    '++e=${e:-5} ++f=${a:+set} ++n=${#a} ++s=${a/.tar/_} "++u=${c^^}"\n',
    "splitting": 'a="1  2\n 3"\ntorchrun train.py $a "$a" x${a}y "" $nothing ++seed=1\n',
    "joined lines": "torchrun train.py ++a=1\\\n++b=2 \\\n    ++c=3\\\n\n++d=4\n",
    "a comment between": "torchrun train.py ++a=1 \\\n# ++b=2 \\\n++c=3 \\\n++d=4\n",
    "a blank behind": "torchrun train.py ++a=1 \\ \n++c=3\n",
    "functions": 'train() {\n  local lr=$1; shift\n  torchrun train.py ++optim_conf.lr=$lr "$@"\n}\n'
    'train 0.1 "++a=b c" ++d\n',
    "branches": 'n=2\nif [[ $n -gt 1 && -n "$n" ]]; then l="torchrun --nproc_per_node $n"; else l=python; fi\n'
    "$l train.py ++seed=1\n[ $n == 2 ] && m=two || m=other\ntorchrun train.py ++seed=$m\n",
    "tilde and home": "torchrun train.py ++a=~/b ~/c $HOME/d '~/e' ++seed=1\n",
    "wrapped": "A=1 nohup torchrun train.py ++seed=1 > log 2>&1 &\nwait\n",
    "pipes of programs": "G=0,1,2\nn=$(echo $G | tr ',' '\\n' | wc -l)\nm=`echo ${G} | awk -F, '{print NF}'`\n"
    "d=$(cd / && pwd)\ntorchrun --nproc_per_node=$n train.py ++m=$m ++d=$d/x ++t=$(basename a/b.txt .txt)\n",
    "heredoc": "cat <<EOF > note\n++a=1 \\\ntorchrun\nEOF\ntorchrun train.py ++seed=1\n",
    "grammar": "t=${HOME}_x/$HOME/y\ntorchrun train.py ++a=${HOME}_x/$HOME/y ++t=$t ++b='$c'\n",
    "redirection": "torchrun train.py ++seed=1 ++t=<unk> ++k=v\n",
    "continued before a quote": 'torchrun train.py "++a=b\\\nc" ++seed=1\n',
}


@pytest.mark.parametrize("form", [*FORMS, *ODD])
def test_words_are_those_that_bash_passes(tmp_path: Path, form: str) -> None:
    script = write_script(tmp_path, {**FORMS, **ODD}[form])
    ours = words_of(script, tmp_path)
    seen = [call for call in seen_by_programs(script, tmp_path) if launch_of_texts(call)]
    if form == "wrapped":
        seen = [call[1:] for call in seen]
        ours = [call[1:] for call in ours]
    if form == "redirection":
        assert seen == []  # bash cannot open the file `unk`, and calls nothing
        return
    assert ours == seen


def launch_of_texts(call: list[str]) -> bool:
    from harness.preflight.command.words import Word

    return launch_of([Word(text=text, line=1) for text in call]) is not None


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("++train_conf.max_epoch=50 \\\n", "++train_conf.max_epoch=$1 \\\n", "argument of the script"),
        ("++train_conf.max_epoch=50 \\\n", "++train_conf.max_epoch=$(nproc) \\\n", "run time"),
        ("torchrun $D", "for e in 1 2; do :; done\ntorchrun $D", "takes several values"),
        ("torchrun $D", "if [ -f x ]; then e=1; else e=2; fi\ntorchrun $D", "depends on a condition"),
        ("torchrun $D", "read e\ntorchrun $D", "set by read"),
        ("torchrun $D", ". ./elsewhere.sh\ntorchrun $D", "may be set by ./elsewhere.sh"),
    ],
)
def test_what_only_a_run_knows_is_said_to_be_unknown(tmp_path: Path, before: str, after: str, why: str) -> None:
    text = SOUND.replace(before, after)
    if "max_epoch" not in before:
        text = text.replace("max_epoch=50", "max_epoch=$e")
    command = command_of(tmp_path, text)
    assert "train_conf.max_epoch" not in {one.path for one in command.overrides}
    assert [one.path for one in command.unvalued] == ["train_conf.max_epoch"]
    assert above_minor(command) == []


MADE, LOG = "mkdir -p ${output_dir}\n", "&> ${log_file}"


@pytest.mark.parametrize(
    "form", ["> logs/a.txt", ">> logs/a.txt", "2> logs/a.txt", "> a.txt 2>> logs/a.txt", ">| logs/a"]
)
def test_a_log_in_a_folder_that_nothing_makes_is_named_however_it_is_written(tmp_path: Path, form: str) -> None:
    found = named(command_of(tmp_path, SOUND.replace(LOG, form)), "log-folder-missing")
    assert str(tmp_path / "logs") in found.message
    assert found.remedy == "mkdir -p logs"
    bash = subprocess.run(["bash", "-c", f"true {form}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert bash.returncode == 1
    assert "No such file or directory" in bash.stderr


@pytest.mark.parametrize(
    ("made", "log"),
    [
        ("mkdir -p logs/today\n", "&> logs/a.txt"),
        ("mkdir logs\n", "&> logs/a.txt"),
        ('mkdir -p "$(date +%s)"\n', "&> logs/a.txt"),
        ("if [ ! -d logs ]; then mkdir logs; fi\n", "&> logs/a.txt"),
        ("python prepare.py\n", "&> logs/a.txt"),
        ("cp -r template logs\n", "&> logs/a.txt"),
        ("echo logs | xargs mkdir -p\n", "&> logs/a.txt"),
        ("source /not/here/env.sh\n", "&> logs/a.txt"),
        ("sudo mkdir logs\n", "&> logs/a.txt"),
        ("cd data && mkdir ../logs; cd ..\n", "&> logs/a.txt"),
        ("", "&> there/a.txt"),
        ("", "&> a.txt"),
        ("", "> /dev/null 2>&1"),
        ("", "&> /workspace/of/another/machine/a.txt"),
        ('name="$(prepare)"\n', '&> "$name/a.txt"'),
        ("", "2>&1 | tee logs/a.txt"),
    ],
)
def test_a_log_whose_folder_is_there_or_may_be_made_is_not_accused(tmp_path: Path, made: str, log: str) -> None:
    (tmp_path / "there").mkdir()
    command = command_of(tmp_path, SOUND.replace(MADE, made).replace(LOG, log))
    assert [one.rule for one in command.findings if one.rule == "log-folder-missing"] == []


CONSEQUENCES = (
    *("hydra-cannot-read", "hydra-refuses-words", "setting-given-twice", "setting-without-plus", "command-cut-off"),
    *("variable-not-set", "launcher-option", "launcher-without-trainer", "more-processes-than-gpus"),
)
"""What may be said besides, for one fault makes another."""
EPOCH = "++train_conf.max_epoch=50 \\\n"
PLANTED = [
    (EPOCH, "++train_conf.max_epoch=50\n", "command-cut-off", Severity.WRONG, "no backslash"),
    (EPOCH, "++train_conf.max_epoch=50 \\ \n", "blank-after-backslash", Severity.BROKEN, "a blank follows"),
    (EPOCH, "++train_conf.max_epoch=50 \\\n\n", "command-cut-off", Severity.WRONG, "an empty line"),
    (EPOCH, "# ++train_conf.max_epoch=50 \\\n", "command-cut-off", Severity.WRONG, "a comment follows"),
    ('++model="${model_name_or_model_dir}" \\\n', '++model="${model_name_or_model_dir}"\n', "command-cut-off",
     Severity.BROKEN, "train_data_set_list"),
    ("torchrun $DISTRIBUTED_ARGS \\\n", "torchrun $DISTRIBUTED_ARGS\n", "launcher-without-trainer", Severity.BROKEN,
     "no trainer"),
    ('"${output_dir}" &>', '"${output_dir}" &>', "", Severity.MINOR, ""),
    (EPOCH, "++train_conf.max_epoch=50\\\n", "hydra-cannot-read", Severity.BROKEN, "two settings arrive as one word"),
    (EPOCH, '++freeze_param="encoder,predictor" \\\n', "hydra-sweep", Severity.BROKEN, "Ambiguous value"),
    (EPOCH, "++freeze_param=choice(a,b) \\\n", "shell-syntax", Severity.BROKEN, "syntax error"),
    (EPOCH, "++x='choice(a,b)' \\\n", "hydra-sweep", Severity.BROKEN, "function of hydra"),
    (EPOCH, '++data_dir="/数据/train" \\\n', "hydra-cannot-read", Severity.BROKEN, "quotes of its own"),
    (EPOCH, '++data_dir="/data/a=b" \\\n', "hydra-cannot-read", Severity.BROKEN, "'='"),
    (EPOCH, "++train_conf.max_epoch = 50 \\\n", "hydra-cannot-read", Severity.BROKEN, "spaces around"),
    (EPOCH, "++freeze_param=[encoder, predictor] \\\n", "hydra-cannot-read", Severity.BROKEN, "in parts"),
    (EPOCH, "++x={a:1,b:2} \\\n", "setting-given-twice", Severity.WRONG, "different values"),
    (EPOCH, "train_conf.max_epoch=50 \\\n", "setting-without-plus", Severity.BROKEN, "without ++"),
    (EPOCH, "~train_conf.max_epoch \\\n", "setting-without-plus", Severity.BROKEN, "to remove"),
    (EPOCH, "--train_conf.max_epoch=50 \\\n", "option-for-setting", Severity.BROKEN, "refuses it"),
    (EPOCH, "--train_conf.max_epoch 50 \\\n", "option-for-setting", Severity.BROKEN, "refuses it"),
    (EPOCH, "—train_conf.max_epoch=50 \\\n", "typographic-sign", Severity.BROKEN, "no dash"),
    (EPOCH, "++train_conf.max_epoch=50 ++train_conf.max_epoch=5 \\\n", "setting-given-twice", Severity.WRONG, "5"),
    (EPOCH, "+seed=1 +seed=1 \\\n", "setting-appended-twice", Severity.BROKEN, "single +"),
    (EPOCH, "++train_conf.use_fp16=no \\\n", "word-for-no", Severity.WRONG, "true wherever"),
    (EPOCH, "++tokenizer_conf.unk_symbol=<unk> \\\n", "value-as-redirection", Severity.BROKEN, "redirection"),
    ('log_file="${output_dir}/log.txt"', 'log_file="${output_dir}/logs/log.txt"', "log-folder-missing",
     Severity.BROKEN, "no folder"),
    ("mkdir -p ${output_dir}", "echo ${output_dir}", "log-folder-missing", Severity.BROKEN, "no folder"),
    (EPOCH, '++train_conf.max_epoch="50 \\\n', "shell-syntax", Severity.BROKEN, "not closed"),
    (EPOCH, "++seed=1\u3000++x=2 \\\n", "typographic-sign", Severity.BROKEN, "separates no words"),
    (EPOCH, "--help \\\n", "hydra-prints-only", Severity.BROKEN, "nothing is trained"),
    (EPOCH, "--config-name x ++a=1 \\\n", "hydra-refuses-words", Severity.BROKEN, "before all settings"),
    ("torchrun $DISTRIBUTED_ARGS", 'torchrun "$DISTRIBUTED_ARGS"', "launcher-options-quoted", Severity.BROKEN,
     "one word"),
    ("torchrun $DISTRIBUTED_ARGS", "python -m torch.distributed.launch $DISTRIBUTED_ARGS", "launcher-adds-local-rank",
     Severity.BROKEN, "--local-rank"),
    ("torchrun $DISTRIBUTED_ARGS", "deepspeed --num_gpus 2", "launcher-adds-local-rank", Severity.BROKEN, "refuses"),
    ("train_tool=", "train_toll=", "variable-not-set", Severity.BROKEN, "$train_tool"),
    ('train_data="', 'train_dta="', "variable-not-set", Severity.BROKEN, "train_data_set_list"),
    ('model_name_or_model_dir="iic', 'model_name_or_model_dir = "iic', "assignment-with-blanks", Severity.BROKEN,
     "space next to"),
    ('dir="iic/some_paraformer"', "dir=“iic/some_paraformer”", "typographic-sign", Severity.BROKEN, "no quote"),
    ("--nproc_per_node $gpu_num", "--nproc_per_node 4", "more-processes-than-gpus", Severity.BROKEN, "4 processes"),
    ("--nproc_per_node $gpu_num", "--nproc_per_node $gpu_nums", "variable-not-set", Severity.BROKEN, "$gpu_nums"),
    ("--nproc_per_node $gpu_num", "--nproc_per_node 1", "idle-gpus", Severity.MINOR, "idle"),
    ("--nproc_per_node $gpu_num", "", "idle-gpus", Severity.MINOR, "1 process"),
    ("${WORLD_SIZE:-1}", "${WORLD_SIZE:-2}", "waits-for-machines", Severity.BROKEN, "2 machines"),
    ("${RANK:-0}", "1", "node-rank", Severity.BROKEN, "counted from 0"),
    ("${MASTER_PORT:-26669}", "266690", "launcher-option", Severity.BROKEN, "266690"),
    ('DEVICES="0,1"', 'DEVICES="0，1"', "devices-unreadable", Severity.BROKEN, "no number of a GPU"),
    ('DEVICES="0,1"', 'DEVICES="0 1"', "devices-unreadable", Severity.BROKEN, "no number of a GPU"),
    ('DEVICES="0,1"', 'DEVICES="1,1"', "devices-unreadable", Severity.BROKEN, "named twice"),
    ('DEVICES="0,1"', 'DEVICES="-1"', "devices-unreadable", Severity.BROKEN, "no GPU"),
    ('export CUDA_VISIBLE_DEVICES="0,1"', 'CUDA_VISIBLE_DEVICES="0,1"', "devices-not-exported", Severity.MINOR,
     "not exported"),
    ("torchrun $DIS", "exit 0\ntorchrun $DIS", "no-trainer-call", Severity.BROKEN, "calls no trainer"),
    (EPOCH, "'++train_conf.max_epoch=50 \\\n", "shell-syntax", Severity.BROKEN, "not closed"),
    ('26669}\n"', "26669}\n", "shell-syntax", Severity.BROKEN, "DISTRIBUTED_ARGS"),
    ('"iic/some_paraformer"', "'iic/some_paraformer", "shell-syntax", Severity.BROKEN, "not closed"),
    (EPOCH, "++train_conf.max_epoch=50\\ \n", "command-cut-off", Severity.WRONG, "a blank follows"),
    (EPOCH, "++train_conf.max_epoch:50 \\\n", "hydra-cannot-read", Severity.BROKEN, "a colon"),
    (EPOCH, "++train_conf.max_epoch=50, \\\n", "hydra-cannot-read", Severity.BROKEN, "a comma after"),
    (EPOCH, "++train_conf.max_epoch=50; \\\n", "command-cut-off", Severity.WRONG, "`;` ends"),
    (EPOCH, "++url=a?b&c=d \\\n", "command-cut-off", Severity.WRONG, "unquoted `&`"),
    (EPOCH, "++train_conf.max_epoch=50 \\ # many\n", "blank-after-backslash", Severity.BROKEN, "refuses"),
    (EPOCH, "++train_conf.max_epoch=50 # many \\\n", "command-cut-off", Severity.WRONG, "a comment ends"),
    (EPOCH, "++train_conf.max_epoch=50 /\n", "command-cut-off", Severity.BROKEN, "/ is no backslash"),
    (EPOCH, "++train_conf.max_epoch==50 \\\n", "hydra-cannot-read", Severity.BROKEN, "two `=`"),
    (EPOCH, "++train_conf.max_epoch= 50 \\\n", "hydra-cannot-read", Severity.BROKEN, "a space after `=`"),
    (EPOCH, "++train_conf.max_epoch 50 \\\n", "hydra-cannot-read", Severity.BROKEN, "a space where"),
    (EPOCH, "++train_conf,max_epoch=50 \\\n", "hydra-cannot-read", Severity.BROKEN, "the key contains a character"),
    (EPOCH, "++train_conf.max_epoch=５０ \\\n", "hydra-cannot-read", Severity.BROKEN, "full-width"),
    (EPOCH, "＋＋train_conf.max_epoch=50 \\\n", "typographic-sign", Severity.BROKEN, "full-width"),
    (EPOCH, '"" \\\n', "hydra-cannot-read", Severity.BROKEN, "empty"),
    (EPOCH, "++a={b: 4, c: d} \\\n", "hydra-cannot-read", Severity.BROKEN, "as a whole"),
    ("lr=0.0002", "lr=0,0002", "hydra-sweep", Severity.BROKEN, "decimal point"),
    ('dir="data/list"', 'dir="~/list"', "hydra-cannot-read", Severity.BROKEN, "replaces `~`"),
    ('dir="data/list"', 'dir="data/list (1)"', "hydra-cannot-read", Severity.BROKEN, "'()'"),
    ('list="${train_data}"', "list='${train_data}'", "variable-in-single-quotes", Severity.BROKEN, "$train_data"),
    ('list="${train_data}"', "list=data\\train.jsonl", "backslash-in-value", Severity.WRONG, "datatrain"),
    ('DEVICES="0,1"', "DEVICES=0, 1", "assignment-with-blanks", Severity.BROKEN, "a space in the list"),
    ('export CUDA_VISIBLE_DEVICES="0', 'export CUDA_VISIBLE_DEVICES = "0', "assignment-with-blanks", Severity.BROKEN,
     "CUDA_VISIBLE_DEVICES is not set"),
    ("gpu_num=$(", "$gpu_num=$(", "assignment-with-dollar", Severity.BROKEN, "gpu_num is not set"),
    ("torchrun $D", "torchrum $D", "no-trainer-call", Severity.BROKEN, "'torchrum'"),
    ("torchrun $D", "# torchrun $D", "trainer-without-launcher", Severity.BROKEN, "not executable"),
    ("torchrun $DISTRIBUTED", "torchrun $DISTRIBUTE", "variable-not-set", Severity.WRONG, "$DISTRIBUTE_ARGS"),
    ("${RANK:-0}", "${RANK:0}", "default-without-dash", Severity.BROKEN, "no default"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "rule", "severity", "says"), PLANTED)
def test_a_planted_fault_is_named_with_its_line(
    tmp_path: Path, before: str, after: str, rule: str, severity: Severity, says: str
) -> None:
    assert before in SOUND
    command = command_of(tmp_path, SOUND.replace(before, after, 1))
    if not rule:
        assert above_minor(command) == []
        return
    finding = named(command, rule)
    assert finding.severity is severity
    assert says in f"{finding.message} {finding.evidence}"
    assert finding.remedy
    if severity is not Severity.MINOR:
        graver = {one.rule for one in command.findings if one.severity is not Severity.MINOR}
        assert graver <= {rule, *CONSEQUENCES}


@pytest.mark.parametrize(
    ("text", "rule", "remedy"),
    [
        ("CUDA_VISIBLE_DEVICES=0, 1 " + TRAIN, "no-trainer-call", "torchrun"),
        (TWO_GPUS + TRAIN.replace("nproc_per_node 2", "nproc_per_node 3"), "more-processes-than-gpus", "node 2"),
        (
            TWO_GPUS + TRAIN.replace("funasr/bin/train_ds.py", "-m funasr/bin/train_ds.py"),
            "file-given-as-module",
            "-m ",
        ),
        (TWO_GPUS + TRAIN.replace("funasr/bin/train_ds.py", "funasr.bin.train_ds"), "module-given-as-file", "-m "),
        ("torchrun --nproc_per_node $n -m funasr.bin.train ++model=m", "variable-not-set", "n=…"),
        (TRAIN.replace("++model=m", "++model=$m") + "\nm=x", "variable-not-set", "m=…"),
        ("t='my code/funasr/bin/train.py'\npython $t ++model=m", "trainer-path-with-blank", '"my code/'),
    ],
)
def test_faults_of_short_scripts(tmp_path: Path, text: str, rule: str, remedy: str) -> None:
    finding = named(command_of(tmp_path, f"{text}\n"), rule)
    assert finding.severity is Severity.BROKEN
    assert remedy in finding.remedy


def test_lines_that_are_cut_off_are_not_in_force(tmp_path: Path) -> None:
    command = command_of(tmp_path, SOUND.replace(EPOCH, "++train_conf.max_epoch=50\n"))
    paths = {one.path for one in command.overrides}
    assert "train_conf.max_epoch" in paths
    assert "optim_conf.lr" not in paths
    finding = named(command, "command-cut-off")
    assert finding.count == 5
    assert finding.remedy == "++train_conf.max_epoch=50 \\"
    assert SOUND.splitlines()[(finding.place.line or 0) - 1].startswith("++train_conf.max_epoch")


def test_only_the_place_of_the_output_cut_off_is_minor(tmp_path: Path) -> None:
    """FunASR ships such a script: what is learned is the same."""
    command = command_of(tmp_path, SOUND.replace("0.0002 \\\n", "0.0002 \\\n\n"))
    assert named(command, "command-cut-off").severity is Severity.MINOR


def test_a_byte_order_mark(tmp_path: Path) -> None:
    mark = "\ufeff"
    assert above_minor(command_of(tmp_path, f"{mark}#!/bin/bash\n{SOUND}")) == []
    assert (
        named(command_of(tmp_path, f"{mark}{TWO_GPUS}{TRAIN}\n"), "script-byte-order-mark").severity is Severity.WRONG
    )


def test_comments_in_another_encoding_do_no_harm(tmp_path: Path) -> None:
    script = write_script(tmp_path, "")
    script.write_bytes(SOUND.encode("gb18030"))
    assert above_minor(read_script(script, root=tmp_path, environment=HOME)) == []


def test_a_typographic_quote_is_named_where_it_is_written(tmp_path: Path) -> None:
    command = command_of(tmp_path, SOUND.replace('"iic/some_paraformer"', "“iic/some_paraformer”"))
    finding = named(command, "typographic-sign")
    assert SOUND.splitlines()[(finding.place.line or 0) - 1].startswith("model_name_or_model_dir=")
    assert finding.remedy == 'model_name_or_model_dir="iic/some_paraformer"'
    assert [one.path for one in command.unvalued] == ["model"]


def test_windows_line_ends(tmp_path: Path) -> None:
    command = command_of(tmp_path, SOUND.replace("\n", "\r\n"))
    finding = named(command, "script-crlf")
    assert finding.severity is Severity.BROKEN
    assert finding.count == SOUND.count("\n")
    assert {one.path for one in command.overrides} >= {"model", "output_dir"}
    only_comments = command_of(tmp_path, SOUND.replace("# 训练数据\n", "# 训练数据\r\n"))
    assert above_minor(only_comments) == []


def test_a_call_that_is_commented_out(tmp_path: Path) -> None:
    start = SOUND.index("torchrun $DIS")
    text = SOUND[:start] + "".join(f"# {line}\n" for line in SOUND[start:].splitlines())
    finding = named(command_of(tmp_path, text), "no-trainer-call")
    assert "commented out" in finding.message
    assert SOUND.splitlines()[(finding.place.line or 0) - 1].startswith("torchrun")


def test_a_deepspeed_config_that_is_not_used_may_be_unset(tmp_path: Path) -> None:
    """FunASR ships such a script."""
    text = SOUND.replace("deepspeed_config=${workspace}/../../ds_stage1.json\n", "")
    assert named(command_of(tmp_path, text), "variable-not-set").severity is Severity.MINOR


def test_a_script_that_calls_another_is_followed(tmp_path: Path) -> None:
    inner = write_script(tmp_path, SOUND.replace("max_epoch=50", "max_epoch=$1"), "inner.sh")
    command = command_of(tmp_path, f"bash {inner.name} 7\n")
    assert {one.path: one.value for one in command.overrides}["train_conf.max_epoch"] == 7
    lost = command_of(tmp_path, "bash not_here.sh\n")
    assert named(lost, "script-calls-another").severity is Severity.MINOR


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"\xff\xfet\0r\0", "UTF-16"), (b"a\0b", "no text"), (b"#" * ((1 << 20) + 1), "larger"), (None, "no script")],
)
def test_what_is_no_script_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "finetune.sh"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_script(path, root=tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "a=x\n" + "a=$a$a\n" * 40 + "torchrun train.py ++a=$a\n",
        "torchrun train.py ++a=" + "{b,c}" * 40 + "\n",
        "torchrun train.py '++a=" + "[" * 3000 + "'\n",
        "f() { f; f; }\nf\ntorchrun train.py ++seed=1\n",
        "(" * 3000,
        "touch made; $(touch made); `touch made`; eval 'touch made'\ntorchrun train.py ++seed=$(touch made)\n",
        "torchrun train.py ++a=\x1b[31mred ++b=\x07\n",
        ". ./finetune.sh\n",
    ],
    ids=["doubling", "braces", "brackets", "functions", "nesting", "commands", "escapes", "itself"],
)
def test_hostile_scripts_do_nothing(tmp_path: Path, text: str) -> None:
    path = write_script(tmp_path, text)
    try:
        read_script(path, root=tmp_path, environment=HOME)
    except InputError:
        assert text.startswith("(")
    assert [one.name for one in tmp_path.iterdir()] == ["finetune.sh"]


def test_words_of_the_command_line() -> None:
    command = read_words(["++train_conf.max_epoch=5", "++x=[a,b]", "++y={z: 1, w: {v: null}}", "++seed=${s}"])
    assert {one.path: one.value for one in command.overrides} == {
        "train_conf.max_epoch": 5,
        "x": ["a", "b"],
        "y.z": 1,
        "y.w.v": None,
    }
    assert command.overrides[0].place.file == ""
    assert command.overrides[0].place.line is None
    assert [one.path for one in command.unvalued] == ["seed"]
    assert command.findings == ()
    assert read_words([]).called is False


def test_words_of_the_command_line_may_be_the_whole_command() -> None:
    words = ["torchrun", "--nproc_per_node", "2", "funasr/bin/train_ds.py", "++model=x", "++seed=1"]
    command = read_words(words)
    assert (command.entry, command.processes, command.model) == ("train_ds", 2, "x")
    assert command.findings == ()


@pytest.mark.parametrize(
    ("words", "rule", "remedy"),
    [
        (["++a=b,c"], "hydra-sweep", "\"++a='b,c'\" for a text, '++a=[b,c]' for a list"),
        (["++a=1", "--gpus", "2"], "option-for-setting", "--gpus before the `--`"),
        (["++a=1", "--nproc_per_node=2"], "option-for-setting", "--gpus N before the `--`"),
        (["a=1"], "setting-without-plus", "++a=1"),
        (["++a=it's"], "hydra-cannot-read", "\"++a='it\\'s'\""),
        (["++a=b", "c"], "hydra-cannot-read", "\"++a='b c'\""),
    ],
)
def test_faults_in_words_of_the_command_line(words: list[str], rule: str, remedy: str) -> None:
    finding = named(read_words(words), rule)
    assert finding.severity is Severity.BROKEN
    assert finding.remedy == remedy


VERDICTS = [
    *(["++a=1"], ["+a=1"], ["a=1"], ["+a=1", "+a=2"], ["++a=1", "+a=2"], ["~a"], ["++a.b=1", "~a.b"]),
    *(["++a=b,c"], ["++a=[b,c]"], ["++a='b,c'"], ["++a={b: 1}"], ["++a=choice(1,2)"], ["++a=x(1)"], ["++a=/数据/x"]),
    *(
        ["++a='/数据/x'"],
        ["++a=b=c"],
        ["++a=b c"],
        ["++a="],
        ["++a"],
        [" "],
        ["++a=<unk>"],
        ["++a=1++b=2"],
        ["++a=b#c"],
    ),
    *(["++a=~/x"], ["++a=${b}"], ["++a=it's"], ["hydra.run.dir=x"], ["++a=100%"], ["++a=1:2"], ["++中=1"], ["++a=“b”"]),
]


def test_hydra_agrees() -> None:
    """What hydra composes has no finding; what it refuses has one: asked of hydra itself, with FunASR's settings."""
    asked = (
        "import json, sys, hydra\n"
        "answers = []\n"
        "with hydra.initialize(version_base=None, config_path=None):\n"
        "    for words in json.loads(sys.argv[1]):\n"
        "        try:\n"
        "            hydra.compose(config_name=None, overrides=words)\n"
        "            answers.append(True)\n"
        "        except Exception:\n"
        "            answers.append(False)\n"
        "print(json.dumps(answers))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked, json.dumps(VERDICTS)], capture_output=True, check=True, text=True
    )
    ours = [not above_minor(read_words(words)) for words in VERDICTS]
    theirs = json.loads(done.stdout)
    assert [(words, answer) for words, answer in zip(VERDICTS, ours, strict=True)] == [
        (words, answer) for words, answer in zip(VERDICTS, theirs, strict=True)
    ]

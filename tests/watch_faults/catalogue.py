"""The faults and the sound trainings: what is changed, and what `watch` has to say of it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.cells import Severity

BROKEN, WRONG, MINOR = Severity.BROKEN, Severity.WRONG, Severity.MINOR

TRAINER = "funasr/train_utils/trainer_ds.py"
MAIN = "funasr/bin/train_ds.py"
LOADING = "funasr/train_utils/load_pretrained_model.py"
SAMPLERS = "funasr/datasets/audio_datasets/samplers.py"
DATASET = "funasr/datasets/audio_datasets/datasets.py"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A text of a release's file that is replaced by another; it has to be there."""

    file: str
    old: str
    new: str
    every: bool = False
    """Whether all of its places are replaced; else there has to be one."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training by 1.4.16's `train_ds`, of a Paraformer that was trained before, unless it says otherwise."""

    name: str
    expected: tuple[tuple[str, Severity], ...] = ()
    """Rules, one of which has to be named, with the severity; none for a sound training."""
    changes: tuple[Change, ...] = ()
    overrides: tuple[str, ...] = ()
    before: str = ""
    """Shell lines before the trainer is called."""
    after: str = ""
    """Shell lines after it was called in the background, with its process in `$!`; without any it is waited for."""
    ranks: int = 1
    rows: str = "train.jsonl"
    """File of the rows, as `measure.write_rows` makes them."""
    entry: str = "train_ds"
    options: tuple[str, ...] = ()
    """Of `watch`."""
    python: tuple[str, ...] = ()
    """Options of the interpreter."""
    status: int | None = None
    """The exit status of the command, where it matters."""


def epochs(count: int) -> str:
    """The override of the number of epochs; one has 8 steps."""
    return f"++train_conf.max_epoch={count}"


BACKWARD = "            loss = loss / self.accum_grad\n"
STEP = "                    optim.step()\n"
FORWARD = "            retval = model(**batch)\n"
EACH_BATCH = "        for batch_idx, batch in enumerate(dataloader_train):\n"


def trainer(old: str, new: str, *, every: bool = False) -> Change:
    """A change of the trainer."""
    return Change(file=TRAINER, old=old, new=new, every=every)


IN_RELEASE = (
    Training(
        name="the trainer does not clip",
        expected=(("not-clipped", WRONG),),
        changes=(trainer("if self.grad_clip > 0:", "if False:"),),
    ),
    Training(
        name="the trainer clips at 1",
        expected=(("clipped-otherwise", WRONG),),
        changes=(trainer("max_norm=self.grad_clip", "max_norm=1.0"),),
    ),
    Training(
        name="each batch takes a step",
        expected=(("accumulates-otherwise", WRONG),),
        changes=(trainer("if (batch_idx + 1) % self.accum_grad == 0:", "if True:"),),
        overrides=("++train_conf.accum_grad=2",),
    ),
    Training(
        name="the schedule stands still",
        expected=(("schedule-not-kept", WRONG), ("learning-rate-zero", BROKEN)),
        changes=(trainer("                scheduler.step()\n", "                pass\n"),),
    ),
    Training(
        name="the schedule is stepped tenfold",
        expected=(("schedule-not-kept", WRONG),),
        changes=(
            trainer(
                "                scheduler.step()\n",
                "                for _ in range(10):\n                    scheduler.step()\n",
            ),
        ),
    ),
    Training(
        name="the optimizer takes no step",
        expected=(("steps-skipped", BROKEN), ("no-step-taken", BROKEN), ("parts-not-moved", BROKEN)),
        changes=(trainer(STEP, "                    pass\n"),),
    ),
    Training(
        name="the loss has no gradient",
        expected=(("gradient-zero", BROKEN),),
        changes=(trainer(BACKWARD, "            loss = loss / self.accum_grad * 0\n"),),
        overrides=(epochs(4),),
    ),
    Training(
        name="the loss is NaN from step 5 on",
        expected=(("loss-not-finite", BROKEN), ("steps-skipped", BROKEN)),
        changes=(
            trainer(
                FORWARD,
                FORWARD + "            if self.batch_total >= 5:\n"
                "                retval = (retval[0] * float('nan'), *retval[1:])\n",
            ),
        ),
        overrides=(epochs(3),),
    ),
    Training(
        name="the loss exceeds what math.exp takes",
        expected=(("loss-overflows-exp", BROKEN),),
        changes=(
            trainer(
                FORWARD,
                FORWARD
                + "            if self.batch_total >= 5:\n                retval = (retval[0] + 6000.0, *retval[1:])\n",
            ),
        ),
    ),
    Training(
        name="the optimizer does not know the encoder",
        expected=(("parts-not-moved", WRONG),),
        changes=(
            trainer(
                '        optim = optim_class(model.parameters(), **kwargs.get("optim_conf"))',
                "        optim = optim_class([p for n, p in model.named_parameters() if 'encoder' not in n], "
                '**kwargs.get("optim_conf"))',
            ),
        ),
    ),
    Training(
        name="a checkpoint of the weights at the start",
        expected=(("checkpoint-not-the-model", BROKEN), ("read-back-differs", BROKEN)),
        changes=(
            trainer(
                "                state_dict = model.state_dict()\n",
                "                if not hasattr(self, '_first'):\n"
                "                    self._first = {k: v.clone() for k, v in model.state_dict().items()}\n"
                "                state_dict = self._first\n",
            ),
        ),
        overrides=(epochs(3),),
    ),
    Training(
        name="a checkpoint without the output layer",
        expected=(("checkpoint-not-the-model", BROKEN),),
        changes=(
            trainer(
                '                state["state_dict"] = state_dict\n',
                '                state["state_dict"] = {\n'
                "                    k: v for k, v in state_dict.items() if 'output_layer' not in k\n"
                "                }\n",
            ),
        ),
    ),
    Training(
        name="memory leaks by 3 MB a step",
        expected=(("memory-grows", WRONG),),
        changes=(
            trainer(
                EACH_BATCH,
                EACH_BATCH + "            self.__dict__.setdefault('_kept', []).append(torch.ones(3 * 2**18))\n",
            ),
        ),
        overrides=(epochs(24),),
    ),
    Training(
        name="the checkpoint is not loaded",
        expected=(("start-at-random-level", WRONG),),
        changes=(
            Change(
                file=LOADING,
                old="    flag = obj.load_state_dict(dst_state, strict=True)\n",
                new="    flag = None\n",
            ),
        ),
        overrides=(epochs(2),),
    ),
    Training(
        name="an epoch fewer",
        expected=(("epochs-missing", WRONG),),
        changes=(
            Change(
                file=MAIN,
                old="range(trainer.start_epoch, trainer.max_epoch)",
                new="range(trainer.start_epoch, trainer.max_epoch - 1)",
            ),
        ),
        overrides=(epochs(3),),
    ),
    Training(
        name="half of the rows never arrive",
        expected=(("rows-not-trained", WRONG),),
        changes=(
            trainer(
                EACH_BATCH,
                EACH_BATCH + "            if batch_idx >= len(dataloader_train) // 2:\n                break\n",
            ),
        ),
        overrides=(epochs(2),),
    ),
    Training(
        name="nothing is saved",
        expected=(("never-saved", BROKEN),),
        changes=(
            Change(
                file=MAIN,
                old="        trainer.save_checkpoint(\n"
                "            epoch + 1, model=model, optim=optim, scheduler=scheduler, scaler=scaler\n        )\n",
                new="",
            ),
        ),
    ),
    Training(
        name="the data loader is slow",
        expected=(("starved-by-data", MINOR),),
        changes=(
            Change(
                file=DATASET,
                old="    def collator(self, samples: list = None):\n",
                new="    def collator(self, samples: list = None):\n        import time; time.sleep(0.3)\n",
                every=True,
            ),
        ),
        overrides=(epochs(5),),
    ),
    Training(
        name="the ranks are not connected",
        expected=(("ranks-not-connected", BROKEN),),
        changes=(
            trainer(
                "        elif self.use_ddp:\n            local_rank", "        elif False:\n            local_rank"
            ),
        ),
        ranks=2,
    ),
    Training(
        name="the ranks' gradients are never summed",
        expected=(("ranks-drift", BROKEN),),
        changes=(
            trainer(
                "                    model.no_sync if (batch_idx + 1) % accum_grad != 0 else my_context\n",
                "                    model.no_sync\n",
            ),
        ),
        ranks=2,
        overrides=(epochs(2),),
    ),
    Training(
        name="a rank with a batch more",
        expected=(("ranks-batches-differ", BROKEN),),
        changes=(
            Change(
                file=SAMPLERS,
                old="        # Drop the last batch if it's not full and drop_last is True\n"
                "        if self.drop_last and len(batches[-1]) != self.batch_size:\n"
                "            batches = batches[:-1]\n\n        return iter(batches)\n\n    def __len__(self):\n\n"
                '        """Internal: len  ."""\n        return self.num_samples // self.batch_size\n',
                new="        return iter(batches + batches[:self.rank])\n\n    def __len__(self):\n\n"
                "        return self.num_samples // self.batch_size\n",
            ),
        ),
        ranks=2,
        options=("--stop-on", "broken"),
        overrides=(epochs(2),),
    ),
    Training(
        name="a slow rank",
        expected=(("rank-waits", MINOR),),
        changes=(
            Change(
                file=DATASET,
                old="    def collator(self, samples: list = None):\n",
                new="    def collator(self, samples: list = None):\n"
                "        import os, time; time.sleep(0.3 * int(os.environ['RANK']))\n",
                every=True,
            ),
        ),
        ranks=2,
        overrides=(epochs(7),),
    ),
    Training(
        name="the trainer ends in its third step",
        expected=(("ended-by-exception", BROKEN),),
        changes=(
            trainer(
                FORWARD,
                FORWARD + "            if self.batch_total == 3:\n                raise RuntimeError('planted')\n",
            ),
        ),
    ),
)

IN_DATA = (
    Training(
        name="no text has a token of the model's list",
        expected=(("texts-of-one-token", BROKEN),),
        rows="unknown.jsonl",
        overrides=(epochs(4),),
    ),
    Training(
        name="every row is beyond the limit",
        expected=(("no-step-taken", BROKEN), ("ended-by-exception", BROKEN)),
        rows="long.jsonl",
    ),
    Training(name="a recording is missing", expected=(("ended-by-exception", BROKEN),), rows="missing.jsonl"),
)

IN_COMMAND = (
    Training(
        name="a learning rate of 30",
        expected=(
            *(("diverged", BROKEN), ("loss-not-finite", BROKEN), ("loss-overflows-exp", BROKEN)),
            # Of the predictor, whose weights are NaN after the first step.
            ("ended-by-exception", BROKEN),
        ),
        overrides=("++optim_conf.lr=30", epochs(20)),
    ),
    Training(
        name="a learning rate of 0",
        expected=(("learning-rate-zero", BROKEN), ("gradient-zero", BROKEN)),
        overrides=("++optim_conf.lr=0.0", epochs(4)),
    ),
    Training(
        name="from random weights at a learning rate of 1e-9",
        expected=(("not-learning", BROKEN),),
        overrides=("++optim_conf.lr=1e-9", "++init_param=random.pt", epochs(17)),
    ),
    Training(
        name="a warm-up of a million steps",
        expected=(("warm-up-not-over", MINOR),),
        overrides=("++scheduler_conf.warmup_steps=1000000",),
    ),
    Training(
        name="more accumulation than batches",
        expected=(("epoch-without-step", BROKEN),),
        overrides=("++train_conf.accum_grad=100",),
    ),
    Training(
        name="everything frozen",
        expected=(("ended-by-exception", BROKEN),),
        overrides=('++freeze_param="encoder,decoder,predictor"',),
    ),
    Training(
        name="the best checkpoint by a statistic that is not there",
        expected=(("best-by-nothing", WRONG), ("ended-by-exception", BROKEN)),
        overrides=("++train_conf.avg_keep_nbest_models_type=cer",),
    ),
    Training(
        name="killed",
        expected=(("killed", BROKEN),),
        overrides=(epochs(50),),
        after="sleep 25; kill -9 $!; wait $!",
    ),
    Training(
        name="too little memory",
        expected=(("out-of-memory", BROKEN),),
        changes=(
            trainer(
                FORWARD,
                "            if self.batch_total == 4:\n"
                "                import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
                "                torch.ones(2**31)\n" + FORWARD,
            ),
        ),
    ),
    Training(
        name="no room for a checkpoint",
        expected=(("ended-by-exception", BROKEN),),
        before="ulimit -f 2000",
    ),
    Training(
        name="an interpreter that is not observed",
        expected=(("nothing-observed", MINOR),),
        python=("-S",),
        status=1,
    ),
)

SOUND = (
    Training(name="as the recipe says", overrides=(epochs(3),)),
    Training(name="AdamW, another bound", overrides=("++optim=adamw", "++train_conf.grad_clip=1.0", epochs(3))),
    Training(name="the encoder frozen", overrides=('++freeze_param="encoder"', epochs(3))),
    Training(name="a warm-up longer than an epoch", overrides=("++scheduler_conf.warmup_steps=20", epochs(4))),
    Training(
        name="validated and saved within an epoch",
        overrides=("++train_conf.validate_interval=3", "++train_conf.save_checkpoint_interval=3", epochs(2)),
    ),
    Training(name="accumulating 2", overrides=("++train_conf.accum_grad=2", epochs(3))),
    Training(name="two ranks", ranks=2, overrides=(epochs(3),)),
    Training(name="two ranks, accumulating 2", ranks=2, overrides=("++train_conf.accum_grad=2", epochs(3))),
    Training(name="train", entry="train", overrides=(epochs(3),)),
    Training(name="bf16", overrides=("++train_conf.use_bf16=true", epochs(3))),
    Training(
        name="batches by token",
        overrides=(*("++dataset_conf.batch_type=token", "++dataset_conf.batch_size=600"), epochs(3)),
    ),
    Training(
        name="resumed",
        overrides=(epochs(4),),
        before='"$PYTHON" -m funasr.bin.train_ds "$@" ++train_conf.max_epoch=2',
    ),
    Training(
        name="LoRA",
        overrides=(
            *("++lora_only=true", "++encoder_conf.lora_list=[q,k,v,o]", "++encoder_conf.lora_rank=4"),
            epochs(3),
        ),
    ),
    Training(name="the best by loss", overrides=("++train_conf.avg_keep_nbest_models_type=loss", epochs(3))),
    Training(name="200 steps", overrides=(epochs(25),)),
)

FAULTS = (*IN_RELEASE, *IN_DATA, *IN_COMMAND)

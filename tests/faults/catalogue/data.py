"""Faults in what the trainer is fed."""

from __future__ import annotations

from dataclasses import replace

from harness.core.cells import Check, Severity

from ..records import Edit, Expected, Family, Fault

DATASET = ("datasets/audio_datasets/datasets.py",)
INDEX = ("datasets/audio_datasets/index_ds.py",)
SAMPLERS = ("datasets/audio_datasets/samplers.py",)
FRONTEND = ("frontends/wav_frontend.py",)

_DATA = Expected(check=Check.DATA)
_AUDIO = "class AudioDataset(torch.utils.data.Dataset):"
_SAMPLER = "class CustomDistributedBatchSampler(Sampler):"
_ONLINE = "class WavFrontendOnline("

FAULTS = (
    Fault(
        name="first-batch-repeats",
        family=Family.REPEATS,
        title="The sampler gives the epoch's first batch as often as there should be batches.",
        edits=(
            Edit(
                files=SAMPLERS,
                old="return iter(batches)",
                new="return iter(batches[:1] * len(batches))",
                below=_SAMPLER,
            ),
        ),
        expected=_DATA,
    ),
    Fault(
        name="ranks-see-the-same",
        family=Family.REPEATS,
        title="Every rank is given the same utterances.",
        edits=(
            Edit(
                files=SAMPLERS,
                old="indices[self.rank : self.total_size : self.num_replicas]",
                new="indices[0 : self.total_size : self.num_replicas]",
                below=_SAMPLER,
            ),
        ),
        expected=Expected(check=Check.DATA, signature="DataDiffers@*ranks*"),
    ),
    Fault(
        name="text-of-next-row",
        family=Family.WRONG_ROW,
        title="Each utterance arrives with the text of the row after it.",
        edits=(
            Edit(
                files=DATASET,
                old='target = item["target"]',
                new='target = self.index_ds[(index + 1) % len(self.index_ds)]["target"]',
                below=_AUDIO,
            ),
        ),
        expected=replace(_DATA, severity=Severity.BROKEN),
    ),
    Fault(
        name="audio-of-first-row",
        family=Family.WRONG_ROW,
        title="Every utterance arrives with the audio of the first row.",
        edits=(
            Edit(files=DATASET, old='source = item["source"]', new='source = self.index_ds[0]["source"]', below=_AUDIO),
        ),
        expected=_DATA,
    ),
    Fault(
        name="last-token-lost",
        family=Family.WRONG_ROW,
        title="Each text arrives without its last token.",
        edits=(
            Edit(
                files=DATASET,
                old="ids = self.tokenizer.encode(target)",
                new="ids = self.tokenizer.encode(target)[:-1]",
                below=_AUDIO,
            ),
        ),
        expected=replace(_DATA, severity=Severity.BROKEN),
    ),
    Fault(
        name="last-row-lost",
        family=Family.WRONG_ROW,
        title="The last row of the file is never read.",
        edits=(Edit(files=INDEX, old="self.contents = contents", new="self.contents = contents[:-1]"),),
        expected=_DATA,
    ),
    Fault(
        name="normalisation-forgotten",
        family=Family.FEATURES,
        title="The features are not scaled by the statistics that the config names.",
        edits=(Edit(files=FRONTEND, old="mat = self.apply_cmvn(mat, self.cmvn)", new="pass", below=_ONLINE),),
        expected=Expected(check=Check.DATA, signature="DataDiffers@*cmvn*"),
    ),
    Fault(
        name="end-of-audio-cut",
        family=Family.FEATURES,
        title="Each utterance arrives without its last five frames.",
        edits=(
            Edit(files=DATASET, old='"speech": speech[0, :, :],', new='"speech": speech[0, :-5, :],', below=_AUDIO),
            Edit(
                files=DATASET,
                old='"speech_lengths": speech_lengths,',
                new='"speech_lengths": speech_lengths - 5,',
                below=_AUDIO,
            ),
        ),
        expected=Expected(check=Check.DATA, signature="DataDiffers@*frames*"),
    ),
)

"""Leave one subject out, on a folder of a data set as it comes: the protocol of published
heart-rate work.

The folder is prepared with every window kept that has no missing samples, as published work scores
all of them. The truth is the data set's own heart rate where it brings one.
"""

import re
from pathlib import Path

import numpy as np

from xmae.data.prepare.prepare import prepare
from xmae.data.store.store import WindowStore
from xmae.errors import UserError, names_of
from xmae.files import atomic_file

LOSO = "loso"  # the protocol
REFERENCE, TRUTH = "hr_reference", "hr_ecg"
# MAE on PPG-DaLiA, bpm, leaving one subject out, as their authors report it
PUBLISHED = {
    "PPG-DaLiA": {"Q-PPG": "4.41", "BeliefPPG": "3.6 to 4.0", "TimePPG": "3.84", "KID-PPG": "2.85"}
}


def words_and_data(models, data):
    """Split the words of a command line into models and data: without `data`, folders are data, and
    the model is "base" if none is named.
    """
    if data is not None:
        return models, names_of(data)
    folders = [word for word in models if Path(word).is_dir()]
    if not folders:
        raise UserError("evaluate: --data must be given: a store, or a folder of a data set")
    return [word for word in models if word not in folders] or ["base"], folders


def as_stores(data, out):
    """Return stores of windows: given ones as they are, and a new one in `out` for each folder of
    recordings.
    """
    stores = []
    for item in data:
        if "://" in item or not Path(item).is_dir() or (Path(item) / "store.json").is_file():
            stores.append(item)
            continue
        store = Path(out) / "stores" / Path(item).resolve().name
        prepare([item], str(store), split="1,0,0", min_quality=-1)
        stores.append(str(store))
    return stores


def use_reference(dataset):
    """Use the data set's own heart rate as the truth, where it has one."""
    reference = dataset.labels.get(REFERENCE)
    if reference is not None and np.isfinite(reference).any():
        dataset.labels[TRUTH] = reference


def name_of(store):
    """Return the name of the data set in a store, from its files: "PPG-DaLiA", or "" for others."""
    opened = WindowStore(store)
    sources = {Path(row["source"]).name for row in opened.index()}
    dalia = all(re.fullmatch(r"S\d+\.pkl", source) for source in sources)
    labelled = any(
        np.isfinite(windows.labels.get(REFERENCE, np.nan)).any() for windows in opened.shards()
    )
    return "PPG-DaLiA" if dalia and labelled else ""


def notes(stores, finetune):
    """Explain the numbers in lines of Markdown: what is fitted in a fold, and published numbers for
    comparison.
    """
    fitted = "encoder and head, trained together" if finetune else (
        "a linear probe on the frozen embedding, its regularisation chosen among them"
    )  # fmt: skip
    lines = [
        "",
        f"**Leave one subject out.** Fitted in each fold, on all other subjects: {fitted}. "
        "Nothing of the subject that is scored is used, and no window is dropped but for missing "
        "samples. The MAE is the mean over subjects.",
    ]
    for name in dict.fromkeys(map(name_of, stores)):
        if name in PUBLISHED:
            numbers = ", ".join(f"{who} {mae}" for who, mae in PUBLISHED[name].items())
            lines += [
                "",
                f"**Published on {name}**, MAE in bpm: {numbers}. Those are of windows of 8 s, "
                "every 2 s; ours are of 10 s, one after the other, against the mean of the data "
                "set's heart rates in them.",
            ]
    return lines


def add_notes(path, lines):
    """Append lines to the table of an evaluation."""
    text = Path(path).read_text()
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n".join(lines) + "\n")

"""All kinds of files that xmae reads."""

from xmae.benchmarks.harness.baseline import load_reference
from xmae.data.prepare.inputs import read_splits, read_subjects
from xmae.data.recording.channels import ChannelMap
from xmae.data.recording.readers.dreamer import read_dreamer
from xmae.data.store.relabel import read_labels
from xmae.data.store.schema import Note
from xmae.evaluation.compare import kept_predictions
from xmae.evaluation.protocol.labels import read_labels as read_task_labels
from xmae.export.bundle.bundle import Bundle
from xmae.manifest import read_manifest
from xmae.models.adopted.contract import Contract
from xmae.models.adopted.weights import read_state
from xmae.models.checkpoint import load_encoder
from xmae.models.fusion import load_fusion
from xmae.models.reference import read_state as read_reference_state
from xmae.quantize.calibration import read_calibration
from xmae.training.fit import check_resume
from xmae.twin.bank import read_bank

from . import manifests, recordings
from .damage import damage_header
from .kind import Kind, write_text
from .recordings import read_all

RECORDINGS = {
    "npz": recordings.write_npz,
    "twin": recordings.write_twin,
    "wfdb": recordings.write_wfdb,
    "wfdb segments": recordings.write_segments,
    "csv": recordings.write_csv,
    "txt": recordings.write_txt,
    "parquet": recordings.write_parquet,
    "edf": recordings.write_edf,
    "edf+d": recordings.write_edf_d,
    "hdf5": recordings.write_hdf5,
    "pulsedb": recordings.write_pulsedb,
    "ieee spc": recordings.write_spc,
    "bami": recordings.write_bami,
    "vital": recordings.write_vital,
    "pickle": recordings.write_pickle,
    "empatica e4": recordings.write_empatica,
    "embraceplus": recordings.write_embraceplus,
    "polar": recordings.write_polar,
    "shimmer": recordings.write_shimmer,
    "opensignals": recordings.write_opensignals,
    "biopac": recordings.write_biopac,
    "session": recordings.write_session,
}
READERS = (
    *(Kind(name, write, read_all, signals=True) for name, write in RECORDINGS.items()),
    Kind("session manifest", recordings.write_session, read_all, ("*.yaml",), signals=False),
    Kind("apple health", recordings.write_session, read_all, ("ecg.csv",), signals=False),
    Kind("light csv", recordings.write_light, recordings.read_light, signals=True),
    Kind("dreamer", recordings.write_dreamer, read_dreamer),
)


def opened(path):
    """Open a bundle, from its manifest."""
    return Bundle.open(path.parent)


def resumed(path):
    """Open a run, from its settings."""
    return check_resume(path.parent, {"lr": 0.1})


LABELS = "record,start_s,sbp\na,0,111\na,10,112\nb,0,97\n"
TASK_LABELS = "subject,record,hr_ecg\na,a1,70\nb,b1,80\n"
SUBJECTS = "record,subject,age,sex\na,1,64,F\nb,2,31,M\n"
SPLITS = "subject,split\n1,train\n2,val\n3,test\n"
SHARDS, INDEX = ("[0-9]*.parquet",), ("index*.parquet",)
HUB, WEIGHTS = ("config.json",), ("*.safetensors",)
MANIFESTS = (
    Kind("store.json", manifests.write_store, manifests.open_store, ("store.json",)),
    Kind("store shards", manifests.write_store, manifests.open_store, SHARDS,
         repair=manifests.rehash),
    Kind("store index", manifests.write_store, manifests.open_store, INDEX,
         repair=manifests.rehash),
    Kind("note", manifests.write_note, lambda path: read_manifest(path, Note)),
    Kind("bundle manifest", manifests.write_bundle, opened, ("manifest.json",)),
    Kind("old bundle manifest", manifests.write_old_bundle, opened, ("manifest.json",)),
    Kind("bundle heads", manifests.write_bundle, opened, ("heads.json",), repair=manifests.reseal),
    Kind("signed bundle", manifests.write_signed, manifests.open_signed, ("bundle/*", "*.pem")),
    Kind("signature", manifests.write_signed, manifests.open_signed, ("*.sig",)),
    Kind("encoder", manifests.write_encoder, load_encoder),
    Kind("encoder notes", manifests.write_encoder, load_encoder, ways=(damage_header,)),
    Kind("hub config", manifests.write_hub, manifests.open_hub, HUB),
    Kind("hub weights", manifests.write_hub, manifests.open_hub, WEIGHTS),
    Kind("fusion.json", manifests.write_fusion, lambda path: load_fusion(path.parent), ("*.json",)),
    Kind("fusion head", manifests.write_fusion, lambda path: load_fusion(path.parent), WEIGHTS),
    Kind("foreign weights", manifests.write_weights, read_state),
    Kind("contract", write_text("spec.yaml", manifests.CONTRACT), Contract.load),
    Kind("reference weights", manifests.write_reference_checkpoint,
         read_reference_state),
    Kind("checkpoint", manifests.write_checkpoint, resumed),
    Kind("predictions", manifests.write_predictions, kept_predictions),
    Kind("rhythm bank", manifests.write_bank, lambda path: read_bank(str(path))),
    Kind("calibration", manifests.write_calibration,
         lambda path: read_calibration(path, {"a": "train"})),
    Kind("reference", manifests.write_reference, load_reference),
    Kind("bench.json", manifests.write_bench, manifests.open_bench),
    Kind("channel map", write_text("map.yaml", manifests.MAP), ChannelMap.load),
    Kind("settings", write_text("config.yaml", manifests.SETTINGS), manifests.open_settings),
    Kind("labels", write_text("l.csv", LABELS), read_labels),
    Kind("task labels", write_text("l.csv", TASK_LABELS), read_task_labels),
    Kind("subjects", write_text("s.csv", SUBJECTS), read_subjects),
    Kind("splits", write_text("s.csv", SPLITS), read_splits),
)  # fmt: skip
KINDS = {kind.name: kind for kind in (*READERS, *MANIFESTS)}

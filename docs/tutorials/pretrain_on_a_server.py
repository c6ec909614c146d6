"""Pretrain an encoder, stop when time is up, go on, and see what it knows."""

import xmae
from xmae.data.bidmc import bidmc_files
from xmae.evaluation.probe import probe


def main():
    """Pretrain for two epochs; on a server, leave `size`, `epochs` and `max_minutes` out."""
    recordings = [str(path) for path in bidmc_files()[:8]]
    xmae.prepare(recordings, "store", split="0.4,0.2,0.4", min_quality=-1, jobs=1)

    # killed, or out of time? the same call with resume=True goes on to the bit
    settings = {"method": "xmae", "size": "small", "epochs": 2, "batch_size": 32}
    run = xmae.pretrain("store", "run", **settings)
    print(f"{run['windows_seen']} windows, {run['windows_per_s']:.0f} a second")

    # linear probes on test subjects, beside hand-made features
    result = probe("run/encoder.safetensors", "store", "probe", baselines=False)
    print("\n".join(result["summary"]))


if __name__ == "__main__":  # prepare starts processes
    main()

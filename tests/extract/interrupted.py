"""Extract a folder of images in parts of 16 rows; run as a script, so that a test can kill it."""

import sys
import time
from pathlib import Path

import w2s_fast.store.layout as layout
from w2s_fast.data import open_manifest
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.extract.worker import extract

layout.PART_ROWS = 16


def main(data: str, cache: str, model: str, pause: float) -> None:
    manifest = open_manifest(data, cache=Path(cache))
    options = ExtractOptions(random_weights=True, batch_size=8, workers=0, device="cpu")

    def slowly(label: str, done: int, total: int) -> None:
        print(done, flush=True)
        time.sleep(pause)

    [record] = extract(manifest, [model], data=data, options=options, cache=Path(cache), on_progress=slowly)
    print("digest", record.digest, record.key, record.made_parts, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))

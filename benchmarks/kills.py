"""Kill runs, answers and takedowns at random moments, on a folder or on a real S3 server, and look for what is lost.

    python -m benchmarks.kills --kills 300
    python -m benchmarks.kills --kills 300 --store radosgw

After every kill each row that is done is read and compared with its hash, and so is each master. Every tenth kill a
command is given again to its end, and then nothing may be published but what the catalogue names. A promise that is
broken ends the command with 1 and says which one; `--seed` plays the same choices, though not the same moments, again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

from tests.faults.killing import Shop, Wrong
from tests.radosgw import ACCESS, SECRET, Radosgw, lacking

ROOT = Path(__file__).parents[1]
BETWEEN_ENDS = 10  # kills


def bucket_on(server: Radosgw) -> str:
    """Make a bucket, and point boto3 to the server, here and in every child."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": server.address,
        "NO_PROXY": "127.0.0.1,localhost",
    }
    import boto3

    name = f"kills-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}/store"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--store", choices=["folder", "radosgw"], default="folder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PREFECT_LOGGING_LEVEL": "CRITICAL", "PYTHONPATH": str(ROOT)}
    begun, killed = time.monotonic(), 0
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="kills-")))
        (folder / "temporary").mkdir()
        os.environ |= {"TMPDIR": str(folder / "temporary"), "PREFECT_HOME": str(folder / "prefect")}
        uri = str(folder / "store")
        if options.store == "radosgw":
            if missing := lacking():
                print(f"radosgw can't be started here: {', '.join(missing)} isn't installed.")
                return 2
            uri = bucket_on(held.enter_context(Radosgw(folder / "radosgw")))
        from flows.orchestration.server import prefect_server

        os.environ["PREFECT_API_URL"] = held.enter_context(prefect_server())
        shop = Shop(uri, folder, options.seed)
        try:
            while killed < options.kills:
                before = killed // BETWEEN_ENDS
                killed += shop.kill_some()
                if killed // BETWEEN_ENDS > before:
                    shop.end()
            shop.end()
        except Wrong as wrong:
            print(f"After {killed} kills: {wrong}")
            return 1
        if left := [file.name for file in (folder / "temporary").glob("packshot-*")]:
            print(f"Killed commands left {left}.")
            return 1
    for what, times in sorted(shop.count.items()):
        print(f"{times:8} {what}")
    print(f"{killed} kills on a {options.store} in {time.monotonic() - begun:.0f} s: 0 lost, 0 doubled, 0 left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

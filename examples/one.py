"""Download one URL, and see what became of it.

python examples/one.py [BASE_URL]
"""

from server import base_url

import aiodownload


def main(base: str) -> None:
    """Download one file to the current directory, and fail to download another."""
    bundle = aiodownload.one(f"{base}/report.csv")
    print(bundle.status_msg)
    print(bundle.ok, bundle.size, "bytes")

    missing = aiodownload.one(f"{base}/missing.csv")  # no exception: the bundle says what happened
    print(missing.status_msg)
    print(missing.ok, missing.error)


if __name__ == "__main__":
    with base_url() as base:
        main(base)

"""One URL with pypdl in four segments and up to three retries."""

import argparse
import logging
import os
import sys

from pypdl import Pypdl

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("--file")
parser.add_argument("--folder", default=".")
parser.add_argument("--skip", action="store_true")
parser.add_argument("--header", action="append", default=[])
given = parser.parse_args()

more = {"headers": dict(pair.split(": ", 1) for pair in given.header)} if given.header else {}
loader = Pypdl(logger=logging.getLogger("pypdl"))
done = loader.start(
    given.url,
    os.path.abspath(given.file or given.folder),
    segments=4,
    retries=3,
    overwrite=not given.skip,
    display=False,
    **more,
)
print(done, loader.failed)
sys.exit(not done)

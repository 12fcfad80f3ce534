"""Download a table of URLs with Spark: each host in one partition; a row for every URL says what became of it.

python examples/with_spark.py [BASE_URL]
"""

import os
from collections.abc import Iterable, Iterator

import pandas as pd
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import udf
from server import base_url
from yarl import URL

from aiodownload import Adaptive, AioDownload, AioDownloadBundle, DownloadStrategy, each

CONCURRENT = 16  # requests at once, in all partitions together
PARTITIONS = 4
HOME = os.path.abspath("downloads")  # every executor must see it
COLUMNS = (
    "url string, status string, file_path string, size long, verified string,"
    " error_type string, error string, attempts int"
)


def host_of(url: str) -> str:
    """The host of ``url``, spelled as it is asked; what is no URL has none."""
    try:
        return URL(url.strip()).raw_host or ""
    except (ValueError, IndexError):
        return ""


def row(bundle: AioDownloadBundle) -> tuple[object, ...]:
    """What became of one URL, in the order of COLUMNS."""
    error = bundle.error
    return (
        bundle.url,
        bundle.status.name,
        bundle.file_path,
        bundle.size,
        bundle.verified.value,
        type(error).__name__ if error else None,
        str(error) if error else None,
        bundle.attempts,
    )


def fetch(tables: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Fetch one partition, in the process of an executor."""
    context = TaskContext.get()
    download = AioDownload(
        download_strategy=DownloadStrategy(home=HOME, skip_cached=True),
        request_strategy=Adaptive(max_attempts=4, concurrent=max(1, CONCURRENT // PARTITIONS), per_host=4),
        journal=f"{HOME}.journals/{context.partitionId():05}-of-{PARTITIONS:05}.db",
    )
    urls = (url for table in tables for url in table["url"])
    names = [column.split()[0] for column in COLUMNS.split(",")]
    rows = []
    for bundle in each(urls, download=download):
        rows.append(row(bundle))
        if len(rows) == 1000:
            yield pd.DataFrame(rows, columns=names)
            rows = []
    yield pd.DataFrame(rows, columns=names)


def fetched(table: DataFrame) -> DataFrame:
    """The outcomes of a table with a column ``url``."""
    by_host = table.repartition(PARTITIONS, udf(host_of, useArrow=False)("url"))
    return by_host.mapInPandas(fetch, COLUMNS)


def main(base: str) -> None:
    """Download four files and one that is missing; a second time nothing is fetched."""
    urls = [f"{base}/files/{number}.txt" for number in range(1, 5)] + [f"{base}/missing.txt"]
    spark = (
        SparkSession.builder.master("local[2,4]")  # two tasks at once, four tries of each
        .config("spark.speculation", "false")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    table = spark.createDataFrame([(url,) for url in urls], "url string")
    for turn in ("first", "second"):
        outcomes = fetched(table).collect()  # of a large table: fetched(table).write.parquet(…), and read that
        for one in sorted(outcomes, key=lambda one: one.url):
            print(turn, one.status, one.size, one.attempts, one.error)
    spark.stop()


if __name__ == "__main__":
    with base_url() as base:
        main(base)

"""Download for objects of one's own: url_map tells the URL of each, and the object comes back as bundle.info.

python examples/each_with_info.py [BASE_URL]
"""

from dataclasses import dataclass

from server import base_url

from aiodownload import AioDownload, AioDownloadBundle, DownloadStrategy, each


@dataclass
class Chapter:
    """What the program works with."""

    number: int
    title: str


BOOK = [Chapter(1, "Loomings"), Chapter(2, "The Carpet-Bag"), Chapter(3, "The Spouter-Inn")]


def main(base: str) -> None:
    """Download every chapter; print each as soon as it is there, which may be in another order."""

    def url_of(chapter: Chapter) -> str:
        return f"{base}/files/{chapter.number}.txt"

    download = AioDownload(download_strategy=DownloadStrategy(home="downloads"))
    for bundle in each(BOOK, url_map=url_of, download=download):
        print(bundle.info.title, bundle.status.value)

    def bundle_of(chapter: Chapter) -> AioDownloadBundle:
        """A bundle says more than a URL: here, also where the file goes."""
        return AioDownloadBundle(url_of(chapter), file_path=f"book/{chapter.number:02} {chapter.title}.txt")

    for bundle in each(BOOK, url_map=bundle_of, download=download):
        print(bundle.info.title, bundle.file_path)


if __name__ == "__main__":
    with base_url() as base:
        main(base)

"""Ask in another way: a subclass of RequestStrategy.

python examples/custom_request.py [BASE_URL]
"""

from aiohttp import ClientResponse
from server import base_url

from aiodownload import AioDownload, AioDownloadBundle, DownloadStrategy, RequestStrategy, swarm


class Shop(RequestStrategy):
    """For a server that is often busy for a moment, and shows a page to log in where data should be."""

    def __init__(self) -> None:
        super().__init__(concurrent=3, max_attempts=4, timeout=10)

    def assert_response(self, response: ClientResponse) -> None:
        """Every status >= 400 is unsuccessful, and so is a page for people."""
        super().assert_response(response)
        if response.content_type == "text/html":
            raise AssertionError("a page for people instead of data")

    def retry(self, response: ClientResponse) -> bool:
        """Asked after an unsuccessful response."""
        return response.status == 503

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        """Seconds: at first between the starts of two requests, later before the next try of this bundle."""
        return 0.05 if bundle.attempts == 0 else 0.1 * bundle.attempts


def main(base: str) -> None:
    """Download a file that is there at once, one at the third try, and one that never comes."""
    download = AioDownload(download_strategy=DownloadStrategy(home="downloads"), request_strategy=Shop())
    for bundle in swarm([f"{base}/report.csv", f"{base}/busy.txt", f"{base}/login.csv"], download):
        print(bundle.status.value, bundle.attempts, bundle.error)


if __name__ == "__main__":
    with base_url() as base:
        main(base)

"""Ask in another way: a subclass of RequestStrategy.

python examples/custom_request.py [BASE_URL]
"""

from aiodownload import AioDownload, AioDownloadBundle, DownloadStrategy, RequestStrategy, swarm
from aiohttp import ClientResponse
from server import base_url


class Shop(RequestStrategy):
    """For a server that is often busy for a moment, and shows a page to log in where data should be."""

    def __init__(self) -> None:
        super().__init__(concurrent=3, max_attempts=4, timeout=10)

    def assert_response(self, response: ClientResponse) -> None:
        super().assert_response(response)  # every status >= 400 is unsuccessful
        if response.content_type == "text/html":
            raise AssertionError("a page for people instead of data")

    def retry(self, response: ClientResponse) -> bool:
        return response.status == 503

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        if bundle.attempts == 0:
            return 0.05  # between the starts of any two requests
        return 0.1 * bundle.attempts  # before the next try of this one: 0.1, 0.2, 0.3 s


def main(base: str) -> None:
    """Download a file that is there at once, one at the third try, and one that never comes."""
    download = AioDownload(download_strategy=DownloadStrategy(home="downloads"), request_strategy=Shop())
    for bundle in swarm([f"{base}/report.csv", f"{base}/busy.txt", f"{base}/login.csv"], download):
        print(bundle.status.value, bundle.attempts, bundle.error)


if __name__ == "__main__":
    with base_url() as base:
        main(base)

"""Sphinx: the guide, the tour of the house, and the reference from the docstrings; built without a network."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import aiodownload  # noqa: E402

project = "aiodownload"
author = "The aiodownload developers"
copyright = "2026, The aiodownload developers"
release = version = aiodownload.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_click"]
man_pages = [("command_line", "aiodownload", "asynchronous downloads without thinking about it", author, 1)]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"aiodownload {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"show-inheritance": True}
python_use_unqualified_type_names = True

# Everything of ours must be found.  What belongs to others is not linked, so that no other site is asked for its index.
nitpicky = True
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(aiohttp|asyncio|collections|concurrent|enum|multidict|opentelemetry|os|pandas|pd|prometheus_client)\..*",
    ),
    ("py:.*", r"(obstore|socket|ssl|threading|time|tqdm|typing|yarl)\..*"),
    ("py:.*", r"(URL|ClientSession|ClientResponse|CIMultiDict|Client|UrlMap|Unpack|RequestSettings|TracebackType)"),
    ("py:.*", r"(CollectorRegistry|MemoryStore|TracerProvider)"),
    ("py:class", r"aiodownload\.(download\.Results|events\._Record|observers\.progress\.Display)"),  # no names to type
    ("py:class", r"(any|bool|bytes|dict|float|int|iterable|list|mapping|object|optional|path-like|str|tuple)"),
    ("py:exc", r"(AssertionError|Exception|ImportError|KeyboardInterrupt|RuntimeError|ValueError)"),
]

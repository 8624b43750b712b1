"""The site: README, docs and the changelog, built by Sphinx from the files as they are. `make site` runs it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.addnodes import pending_xref

from devicevault_cli import __version__

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

project = "dvctl"
version = release = __version__
root_doc = "README"
include_patterns = ["*.md", "docs/**"]
exclude_patterns = ["build", ".venv"]
extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True
smartquotes = False

html_theme = "furo"
html_title = f"dvctl {__version__}"
html_copy_source = False
html_show_sourcelink = False
html_use_index = False
html_show_sphinx = False

NAVIGATION = {
    "README": {
        "Start": ["Overview <self>", "docs/take-over"],
        "Operate": [
            "docs/deployment",
            "docs/operations",
            "docs/storage-dispatch",
            "docs/many-streams",
            "docs/high-availability",
            "docs/runbooks/README",
            "docs/recovery",
        ],
        "Understand": ["docs/verify", "docs/reliability", "docs/performance", "docs/architecture"],
        "Reference": ["docs/cli", "docs/settings", "docs/glossary", "CHANGELOG", "CONTRIBUTING", "SECURITY"],
    },
    "docs/runbooks/README": {"Runbooks": ["/docs/runbooks/*"]},
    "docs/performance": {"History": ["/docs/performance-history"]},
}


def add_navigation(_: Sphinx, page: str, source: list[str]) -> None:
    """The tree of contents is appended to pages that GitHub shows too, and would show as text."""
    for caption, pages in NAVIGATION.get(page, {}).items():
        entries = "\n".join(pages)
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {caption}\n\n{entries}\n```\n"


def unlink_folders(app: Sphinx, page: nodes.document) -> None:
    """A folder of the checkout has no page: its name remains, without a link. A folder that is missing is an error."""
    here = Path(app.env.doc2path(app.env.docname)).parent
    for link in list(page.findall(pending_xref)):
        if (here / link["reftarget"]).is_dir():
            link.replace_self(link.children)


def write_front_page(app: Sphinx, error: Exception | None) -> None:
    """A web server shows index.html; Sphinx names the page after the README."""
    if error is None and app.builder.name == "html":
        shutil.copy(Path(app.outdir, "README.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", add_navigation)
    app.connect("doctree-read", unlink_folders)
    app.connect("build-finished", write_front_page)

"""Links that lead out of docs/ serve those who read the Markdown in the repository.

The site does not hold their targets, so it shows the text of such a link as code, without the link.
"""

import posixpath
import re


def on_page_markdown(markdown, page, **kwargs):
    """Called by MkDocs with the source of each page."""
    folder = posixpath.dirname(page.file.src_uri)

    def plain(link):
        outside = posixpath.normpath(posixpath.join(folder, link[2])).startswith("..")
        return f"`{link[1].strip('`')}`" if outside else link[0]

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)]+)\)", plain, markdown)

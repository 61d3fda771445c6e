# SPDX-License-Identifier: Apache-2.0
"""Where the Space of a method is: on the Hub beside the gallery, or on this machine."""

import os
import re
from html import escape
from urllib.parse import urlsplit


def hub_owner() -> str | None:
    """Whose Space on the Hub this is; `None` on a machine of one's own."""
    return os.environ.get("SPACE_ID", "").partition("/")[0] or None


def hub_page(owner: str, slug: str) -> str:
    """
    Address of a method's Space on the Hub.

    Args:
        owner (`str`): user or organisation.
        slug (`str`): the method.
    """
    return f"https://huggingface.co/spaces/{owner}/{hub_name(slug)}"


def hub_app(owner: str, slug: str) -> str:
    """
    Address of the bare app of a method's Space on the Hub, for a frame.

    Args:
        owner (`str`): user or organisation.
        slug (`str`): the method.
    """
    name = re.sub(r"[^a-z0-9]+", "-", f"{owner}-{hub_name(slug)}".lower())
    return f"https://{name}.hf.space"


def hub_name(slug: str) -> str:
    """
    Name of a method's Space on the Hub.

    Args:
        slug (`str`): the method.
    """
    return f"eigenhub-{slug.replace('_', '-')}"


def local_app(gallery: str, port: int) -> str:
    """
    Address of a Space on this machine, by the name under which the visitor has reached the gallery.

    Args:
        gallery (`str`): address of the gallery.
        port (`int`): of the Space.
    """
    host = urlsplit(gallery).hostname or "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def link(url: str) -> str:
    """
    HTML of a link to a Space.

    Args:
        url (`str`): its address.
    """
    return f'<a href="{escape(url)}" target="_blank" rel="noopener">Open in a tab of its own</a>'


def frame(url: str, title: str) -> str:
    """
    HTML of a Space inside the gallery.

    Args:
        url (`str`): its address.
        title (`str`): for screen readers.
    """
    return (
        f'<iframe id="space-frame" src="{escape(url)}" title="{escape(title)}" '
        'allow="clipboard-read; clipboard-write; fullscreen"></iframe>'
    )

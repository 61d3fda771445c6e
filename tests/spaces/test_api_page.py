# SPDX-License-Identifier: Apache-2.0
"""What programs are told of the Spaces: the page in the docs, and the tools over MCP."""

import ast
import asyncio

import pytest

from eigenhub.methods import METHODS
from tests.spaces.api_page import PAGE, page
from tests.spaces.checks import opened_by_command
from tests.spaces.conftest import modules_of
from tests.support.devices import require_package


@pytest.mark.browser  # builds all pages
def test_the_page_of_endpoints_is_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.spaces.api_page"


async def ask(url, tool, arguments):
    """Names of the tools, and what one of them answers."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async with streamable_http_client(f"{url}/gradio_api/mcp/") as (reader, writer, _):
        async with ClientSession(reader, writer) as session:
            await session.initialize()
            tools = (await session.list_tools()).tools
            return tools, await session.call_tool(tool, arguments)


@require_package("mcp")
@pytest.mark.browser  # beside the other tests that need a running page
def test_endpoints_are_tools_and_private_events_are_not():
    with opened_by_command("dct", "--mcp") as opened:
        tools, answer = asyncio.run(ask(opened.url, "brake", {"gamma": 2.0, "rows": 3, "columns": 3}))
    assert {tool.name for tool in tools} == {"energy", "race", "memory", "check_memory", "brake"}
    assert all(p["description"] for tool in tools for p in tool.inputSchema["properties"].values())
    found = ast.literal_eval(answer.content[0].text)
    assert not answer.isError and len(found["singular_values"]["momentum"]) == 3


@require_package("mcp")
@pytest.mark.browser
@pytest.mark.parametrize("slug", [method.slug for method in METHODS])
def test_every_public_endpoint_is_a_tool(slug):
    from gradio.mcp import GradioMCPServer

    with modules_of(slug, "app") as modules:
        demo = modules.app.demo
        endpoints = GradioMCPServer(demo).tool_to_endpoint.values()
        assert {name.lstrip("/") for name in endpoints} == {
            fn.api_name for fn in demo.fns.values() if fn.api_visibility == "public"
        }

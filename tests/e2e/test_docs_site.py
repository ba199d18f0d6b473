"""The site of the documentation in a real browser."""

import functools
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from test_pages import Quiet, browser, page, pytestmark  # noqa: F401  # fixtures, and the browser

ROOT = Path(__file__).parents[2]
PAGES = [path.stem for path in sorted((ROOT / 'docs').glob('*.md'))]


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    """Build the site and serve it on this machine."""
    out = tmp_path_factory.mktemp('docs')
    subprocess.run(
        [sys.executable, '-m', 'sphinx', '-q', '-W', '-b', 'html', '-d', str(out / 'doctrees'),
         str(ROOT / 'docs'), str(out / 'html')],
        check=True,
    )  # fmt: skip
    handler = functools.partial(Quiet, directory=str(out / 'html'))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def test_a_button_copies_the_commands_and_nothing_else(page, address):  # noqa: F811
    page.context.grant_permissions(['clipboard-read', 'clipboard-write'])
    page.goto(f'{address}/index.html')
    page.get_by_role('button', name='Copy this code').click()
    page.get_by_text('Copied').wait_for()
    assert page.evaluate('navigator.clipboard.readText()') == 'make demo\nmake test'


def test_the_search_finds_an_option(page, address):  # noqa: F811
    page.goto(f'{address}/search.html?q=cache-features')
    page.locator('#search-results a', has_text='Commands').first.wait_for()


@pytest.mark.parametrize('name', PAGES)
def test_pages_load_nothing_from_elsewhere_and_fit_a_phone(browser, address, name):  # noqa: F811
    for scheme in ('light', 'dark'):
        context = browser.new_context(viewport={'width': 390, 'height': 844}, color_scheme=scheme)
        with context:
            window, asked, problems = context.new_page(), [], []
            window.on('request', lambda request, asked=asked: asked.append(request.url))
            window.on('pageerror', lambda error, found=problems: found.append(str(error)))
            window.goto(f'{address}/{name}.html', wait_until='networkidle')
            assert window.evaluate('document.documentElement.scrollWidth') <= 390
            assert all(url.startswith((f'{address}/', 'data:')) for url in asked)
            assert problems == []

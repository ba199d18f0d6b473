"""The pages of the chapters in a real browser: headless Chromium, driven by Playwright."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from d2l_ft.chapter.book import Book
from d2l_ft.chapter.site import build_site

ROOT = Path(__file__).parents[2]
CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason='needs Chromium: apt-get install chromium, or any Chrome on the PATH',
    ),
]
PAGES = [
    f'{language}/{name}.html'
    for language in ('en', 'tr')
    for name in ('index', 'fine-tuning', 'fine-tuning-answers', 'search')
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and writes no log."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    """Build the pages of the chapters and serve them on this machine."""
    out = tmp_path_factory.mktemp('site')
    build_site(Book(ROOT / 'chapters'), out, {})
    handler = functools.partial(Quiet, directory=str(out / 'html'))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


@pytest.fixture(scope='module')
def browser():
    """Start a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """Open a window whose requests and errors are noted."""
    context = browser.new_context()
    page = context.new_page()
    page.requests, page.problems = [], []
    page.on('request', lambda request: page.requests.append(request.url))
    page.on('pageerror', lambda error: page.problems.append(str(error)))
    page.on('requestfailed', lambda request: page.problems.append(request.url))
    page.on(
        'console',
        lambda message: page.problems.append(message.text) if message.type == 'error' else None,
    )
    yield page
    context.close()


def chosen(page):
    """Return the names of the tabs that are chosen, one for each set of tabs."""
    return page.eval_on_selector_all(
        '.sd-tab-set > input:checked + label', 'labels => labels.map(l => l.innerText.trim())'
    )


def sees(page, framework):
    """Return how many cells of a framework are seen."""
    lines = {'MXNet': 'import mxnet as mx', 'PyTorch': 'import torchvision'}
    cells = page.locator('.d2l-code pre', has_text=lines[framework])
    return sum(cells.nth(number).is_visible() for number in range(cells.count()))


def test_a_click_changes_every_set_of_tabs_and_is_remembered(page, address):
    page.goto(f'{address}/en/fine-tuning.html')
    assert len(chosen(page)) > 8
    assert set(chosen(page)) == {'MXNet'}
    page.locator('label.sd-tab-label', has_text='PyTorch').nth(2).click()
    assert set(chosen(page)) == {'PyTorch'}
    assert page.url.endswith('?tab=pytorch')
    page.reload()
    assert set(chosen(page)) == {'PyTorch'}
    page.goto(f'{address}/tr/fine-tuning-answers.html')  # another page, another language
    assert set(chosen(page)) == {'PyTorch'}
    assert (sees(page, 'MXNet'), sees(page, 'PyTorch')) == (0, 0)


def test_the_address_wins_over_what_is_remembered(page, address):
    page.goto(f'{address}/en/fine-tuning.html?tab=pytorch')
    assert set(chosen(page)) == {'PyTorch'}
    assert (sees(page, 'MXNet'), sees(page, 'PyTorch')) == (0, 1)
    page.goto(f'{address}/en/fine-tuning.html?tab=mxnet')
    assert set(chosen(page)) == {'MXNet'}
    assert (sees(page, 'MXNet'), sees(page, 'PyTorch')) == (1, 0)


def test_tabs_can_be_changed_by_the_keyboard(page, address):
    page.goto(f'{address}/en/fine-tuning.html?tab=mxnet')
    page.locator('.sd-tab-set > input').first.focus()
    page.keyboard.press('ArrowRight')
    assert set(chosen(page)) == {'PyTorch'}


@pytest.mark.parametrize('path', PAGES)
def test_pages_load_nothing_from_elsewhere_and_have_no_error(page, address, path):
    page.goto(f'{address}/{path}', wait_until='networkidle')
    assert page.problems == []
    assert all(url.startswith((f'{address}/', 'data:')) for url in page.requests)
    broken = page.eval_on_selector_all(
        'img', 'images => images.filter(i => !i.naturalWidth).length'
    )
    assert broken == 0


@pytest.mark.parametrize('path', PAGES)
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_pages_fit_a_phone_in_light_and_dark(browser, address, path, scheme):
    with browser.new_context(
        viewport={'width': 390, 'height': 844}, color_scheme=scheme
    ) as context:
        page = context.new_page()
        page.goto(f'{address}/{path}')
        assert page.evaluate('document.documentElement.scrollWidth') <= 390
        colour = page.evaluate('getComputedStyle(document.body).backgroundColor')
        brightness = sum(int(each) for each in colour.strip('rgb()').split(',')[:3])
        assert (brightness < 3 * 64) == (scheme == 'dark'), colour


def test_without_scripts_both_variants_are_seen_with_their_names(browser, address):
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f'{address}/en/fine-tuning.html')
        assert (sees(page, 'MXNet'), sees(page, 'PyTorch')) == (1, 1)
        labels = page.locator('.sd-tab-set').first.locator('label.sd-tab-label')
        assert [labels.nth(n).is_visible() for n in range(2)] == [True, True]
        top = [page.locator(f'.sd-tab-set >> nth=0 >> {each}').nth(n).bounding_box()['y']
               for n in range(2) for each in ('label.sd-tab-label', '.sd-tab-content')]  # fmt: skip
        assert top == sorted(top)  # each name stands above its variant


@pytest.mark.parametrize(('language', 'word'), [('en', 'photocopier'), ('tr', 'fotokopi')])
def test_the_search_finds(page, address, language, word):
    page.goto(f'{address}/{language}/search.html?q={word}')
    page.wait_for_selector('#search-results li a')
    assert 'fine-tuning' in page.locator('#search-results li a').first.get_attribute('href')


def test_links_between_languages_and_notebooks_lead_somewhere(page, address):
    page.goto(f'{address}/en/fine-tuning.html')
    page.locator('.d2l-links a[hreflang=tr]').click()
    assert page.url.startswith(f'{address}/tr/fine-tuning.html')
    with page.expect_download() as download:
        page.locator('a[download]', has_text='PyTorch').first.click()
    assert download.value.suggested_filename == 'fine-tuning-pytorch.ipynb'
    page.goto(f'{address}/index.html?tab=pytorch')
    page.wait_for_url('**/en/index.html?tab=pytorch')


def test_the_policy_of_the_pages_stops_a_script_that_got_into_one(page, address):
    """Whatever let it in; the theme's own scripts run, as the other tests show."""
    page.goto(f'{address}/en/fine-tuning.html')
    for how in ("createElement('script')", "createElement('img')"):
        page.evaluate(
            f"""() => {{
                const added = document.{how};
                if (added.tagName === 'SCRIPT') added.textContent = 'window.ran = true';
                else added.setAttribute('onerror', 'window.ran = true');
                if (added.tagName === 'IMG') added.src = 'none.png';
                document.body.append(added);
            }}"""
        )
    page.wait_for_timeout(500)
    assert page.evaluate('window.ran') is None
    assert sum('Content Security Policy' in text for text in page.problems) == 2

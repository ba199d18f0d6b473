"""The page that ``d2l-ft verify --report`` writes, in a real browser."""

import pytest
from test_pages import browser, pytestmark  # noqa: F401  # a fixture, and the browser

from d2l_ft.convert.report import page
from d2l_ft.convert.verify import Defect, Proof, Row

LONG = 'stage4_unit23_' + 'conv_' * 20 + '<script>document.title = "run"</script>'


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_a_proof_fits_a_phone_and_runs_no_name(browser, scheme, tmp_path):  # noqa: F811
    proof = Proof(
        [Row('eval', 200, float('inf'), 1e-12, LONG, 'part')],
        [Defect(LONG, -0.5, -0.5, 0.25, 'PyTorch')],
        ['no images were given'],
        {'fix_gamma is ignored': ['eval', 'statistic'], 'no eps': [], 'no pooling': None},
    )
    facts = {'files': {LONG: 'f' * 64}, 'inputs': {LONG: [4, 3, 8, 8]}, 'other': {}}
    path = tmp_path / 'proof.html'
    path.write_text(page(proof, facts), encoding='utf-8')
    context = browser.new_context(viewport={'width': 390, 'height': 844}, color_scheme=scheme)
    with context:
        window, asked = context.new_page(), []
        window.on('request', lambda request: asked.append(request.url))
        window.goto(path.as_uri())
        assert window.evaluate('document.documentElement.scrollWidth') <= 390
        assert window.title() == 'part: a net of MXNet in PyTorch'
        assert asked == [path.as_uri()]
        shown = window.inner_text('body')
    assert 'They part' in shown
    assert '<script>document.title = "run"</script>' in shown
    assert 'seen by values, statistics' in shown
    assert 'not seen' in shown
    assert '4 x 3 x 8 x 8' in shown

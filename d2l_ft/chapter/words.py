"""The words that pages add to a chapter, in every supported language."""

WORDS: dict[str, dict[str, str]] = {
    'en': {
        'section': 'Section {}',
        'figure': 'Fig. {}',
        'table': 'Table {}',
        'equation': '({})',
        'notebook': 'Notebooks',
        'colab': 'for Colab',
        'outputs': 'Outputs on this page',
        'sample': 'the built-in sample (drawn pictures)',
        'hotdog': 'the hot dog photographs of the book',
        'never': 'not run',
        'made': '{title}: {data}, on {device}, {versions}, {date}',
        'output': 'Output',
        'failed': 'This cell failed when it was last run.',
        'active': 'A picture that could run something is left out.',
        'own': 'English',
        'discuss': 'Discussions',
        'epub': 'E-book (EPUB)',
        'pip': 'Installs what is needed; restart the kernel if pip asks for it.',
    },
    'tr': {
        'section': 'Bölüm {}',
        'figure': 'Şekil {}',
        'table': 'Tablo {}',
        'equation': '({})',
        'notebook': 'Not defterleri',
        'colab': 'Colab için',
        'outputs': 'Bu sayfadaki çıktılar',
        'sample': 'yerleşik örnek (çizilmiş resimler)',
        'hotdog': 'kitabın sosisli sandviç fotoğrafları',
        'never': 'çalıştırılmadı',
        'made': '{title}: {data}, {device} üzerinde, {versions}, {date}',
        'output': 'Çıktı',
        'failed': 'Bu hücre son çalıştırıldığında hata verdi.',
        'active': 'Bir şey çalıştırabilecek bir resim gösterilmedi.',
        'own': 'Türkçe',
        'discuss': 'Tartışmalar',
        'epub': 'E-kitap (EPUB)',
        'pip': 'Gerekli paketleri kurar; pip isterse çekirdeği yeniden başlatın.',
    },
}
"""Language -> key -> words; ``{}`` is a number."""


def reference(language: str, kind: str, number: str) -> str:
    """Return the words of a numbered reference, such as 'Fig. 13.2.1'."""
    return WORDS[language][kind].format(number)

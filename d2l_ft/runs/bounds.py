"""What an option, a config and a checkpoint may hold: one set of bounds for all three."""

from d2l_ft.errors import ModelError

BOUNDS = {
    'epochs': (1, 10**6),
    'batch_size': (1, 10**6),
    'views': (0, 10**6),
    'image_size': (32, 1 << 13),
    'workers': (0, 1 << 10),
    'image_cache': (0, 1 << 24),
    'save_every': (0, 10**9),
    'seed': (0, 2**63 - 1),
    'train_examples': (0, 10**9),
    'test_examples': (0, 10**9),
}
"""Name of a whole number -> the least and the largest: sides in pixels, memory in MiB."""

MOST_CLASSES = 10**5

LONGEST = 4096
"""Characters of a text: what a path may have."""


def check_number(name: str, value: int) -> None:
    """Refuse a whole number out of its bounds.

    Raises:
        ModelError: It is.
    """
    least, most = BOUNDS[name]
    if not least <= value <= most:
        text = str(value) if abs(value) < 10**20 else 'a number of over 20 digits'
        raise ModelError(f'{name} is {text}: give {least} to {most}')


def check_text(name: str, value: str) -> None:
    """Refuse a text that no file name can hold.

    Bytes that are no UTF-8 are U+DC80 to U+DCFF in Python's names of files; other surrogates are of
    no file.

    Raises:
        ModelError: It is too long, has a character 0, or such a surrogate.
    """
    if len(value) > LONGEST:
        raise ModelError(f'{name} has {len(value)} characters: give {LONGEST} at most')
    if any(
        each == '\0' or '\ud800' <= each < '\udc80' or '\udcff' < each < '\ue000' for each in value
    ):
        raise ModelError(f'{name} is {value!a}, which no file can be called: rename it')


def check_classes(classes: list[str]) -> None:
    """Refuse names of classes that no net or page can have.

    Raises:
        ModelError: There are none or too many, or two have one name; or as ``check_text``.
    """
    if not 0 < len(classes) <= MOST_CLASSES:
        raise ModelError(f'there are {len(classes)} classes: give 1 to {MOST_CLASSES}')
    for name in classes:
        check_text('the name of a class', name)
    if len(set(classes)) < len(classes):
        raise ModelError('two classes have the same name: rename one')

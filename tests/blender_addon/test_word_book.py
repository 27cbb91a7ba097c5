"""What a prompt field knows of words."""

from blender_addon.core.errors import AddonError
from blender_addon.core.server_info import WordsFound
from blender_addon.core.word_book import WordBook

KNOWN = ("barrel", "barrier", "red", "table")


class Dictionary:
    """A client that knows four words."""

    def __init__(self, *, fails=False):
        self.asked, self.is_closed, self._fails = [], False, fails

    def look_up_words(self, prompt, *, prefix="", max_suggestions=0):
        if self._fails:
            raise AddonError("CONNECTION_LOST")
        self.asked.append(prompt or prefix)
        unknown = {word: ("table",) if word == "tabel" else () for word in prompt.split() if word not in KNOWN}
        begins = tuple(word for word in KNOWN if prefix and word.startswith(prefix))
        return WordsFound(tuple(w for w in prompt.split() if w in KNOWN), unknown, begins)

    def close(self):
        self.is_closed = True


def asked(*prompts, client=None):
    book, client = WordBook(), client or Dictionary()
    for prompt in prompts:
        book.look_up(prompt, lambda: client)
        book.join(5)
    assert client.is_closed or not client.asked
    return book, client


def test_unknown_words_are_named_with_those_that_are_near():
    book, _ = asked("red tabel")
    assert book.is_changed
    assert book.note("red tabel") == '"tabel" is unknown to the generator, near to it: table'
    assert book.note("red") == ""  # nobody has asked


def test_several_unknown_words_are_counted():
    book, _ = asked("green xylophone")
    assert book.note("green xylophone") == '"green" is unknown to the generator; 1 more unknown'


def test_known_words_need_no_note():
    assert asked("red table")[0].note("red table") == ""


def test_the_same_prompt_is_asked_once():
    _, client = asked("red", "red")
    assert client.asked.count("red") == 1


def test_typing_is_completed_by_known_words_and_by_prompts_of_before():
    book, _ = asked("red")
    assert book.completions("a red ba") == ["a red barrel", "a red barrier"]
    book.remember("a red boat")
    assert book.completions("a red b") == ["a red boat", "a red barrel", "a red barrier"]
    assert book.completions("") == ["a red boat"]


def test_without_a_backend_there_is_nothing_to_say():
    book, _ = asked("red", client=Dictionary(fails=True))
    assert book.note("red") == "" and book.completions("r") == []

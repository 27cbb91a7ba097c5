"""What a prompt field knows of words."""

from blender_addon.core.server_info import KnownWord, WordsFound
from blender_addon.core.word_book import WordBook

KNOWN = ("barrel", "barrier", "red", "table")
TAKEN = {"basket": KnownWord("basket", 0, "barrel"), "desk": KnownWord("desk", 0, "table", is_rough=True)}


class Dictionary:
    """Knows four words, and takes two for these."""

    def __init__(self, *, fails=False):
        self.asked, self._fails = [], fails

    def look_up_words(self, prompt, list_all):
        if self._fails:
            return None
        self.asked.append(prompt + " (all)" * list_all)
        strange = [word for word in prompt.split() if word not in KNOWN]
        unknown = {word: ("table",) if word == "tabel" else () for word in strange if word not in TAKEN}
        taken = tuple(TAKEN[word] for word in strange if word in TAKEN)
        listed = (*(KnownWord(word, 3) for word in KNOWN), *TAKEN.values()) if list_all else ()
        return WordsFound(tuple(w for w in prompt.split() if w in KNOWN), unknown, (), taken, listed)


def asked(*prompts, client=None):
    client, sent = client or Dictionary(), []
    book = WordBook(lambda *question: sent.append(question))
    for prompt in prompts:
        book.look_up(prompt)
        while sent:
            assert book.is_busy
            prompt, list_all = sent.pop()
            book.take(prompt, client.look_up_words(prompt, list_all))
    assert not book.is_busy
    return book, client


def test_unknown_words_are_named_with_those_that_are_near():
    book, _ = asked("red tabel")
    assert book.is_changed
    assert book.note("red tabel") == '"tabel" is unknown to the generator, near to it: table'
    assert book.note("red") == ""  # nobody has asked


def test_several_unknown_words_are_counted():
    book, _ = asked("green xylophone")
    assert book.note("green xylophone") == '"green" is unknown to the generator; 1 more unknown'


def test_known_words_and_synonyms_need_no_note():
    assert asked("red table")[0].note("red table") == ""
    assert asked("red basket")[0].note("red basket") == ""


def test_what_only_comes_near_is_said():
    assert asked("red desk")[0].note("red desk") == '"desk" is read as "table", which only comes near'
    assert asked("a desk")[0].note("a desk") == '"a" is unknown to the generator'


def test_the_same_prompt_is_asked_once():
    _, client = asked("red", "red")
    assert client.asked == ["red (all)"]


def test_while_one_is_asked_the_latest_other_waits():
    sent = []
    book = WordBook(lambda *question: sent.append(question))
    for prompt in ("r", "re", "red"):
        book.look_up(prompt)
    assert sent == [("r", True)]
    book.take("r", Dictionary().look_up_words("r", True))
    assert sent[1:] == [("red", False)] and book.is_busy


def test_another_backend_is_asked_anew():
    book, _ = asked("red tabel")
    book.forget()
    book.take("red tabel", WordsFound(vocabulary=(KnownWord("boat", 1),)))  # the one before answers late
    assert book.note("red tabel") == "" and book.completions("b") == [] and not book.is_busy


def test_typing_is_completed_by_known_words_and_by_prompts_of_before():
    book, _ = asked("red")
    assert book.completions("a red ba") == ["a red barrel", "a red barrier", "a red basket"]
    book.remember("a red boat")
    assert book.completions("a red b") == ["a red boat", "a red barrel", "a red barrier", "a red basket"]
    assert book.completions("") == ["a red boat"]


def test_without_a_backend_there_is_nothing_to_say():
    book, _ = asked("red", client=Dictionary(fails=True))
    assert book.note("red") == "" and book.completions("r") == []

"""`mvgamba vocabulary`: the words that the starter generator knows."""

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from mvgamba.commands.options import Subparsers, user_weights

if TYPE_CHECKING:
    from mvgamba.multiview.vocabulary import Vocabulary

_A_LINE = 110
"""Characters of a list of words."""


def add(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add to the command line."""
    vocabulary = commands.add_parser(
        "vocabulary",
        parents=[common],
        help="the words that the starter generator knows",
        description="What a word or a prompt means to the starter generator; without one, all nouns and colours that it knows.",
    )
    vocabulary.add_argument("word", metavar="WORD", nargs="*", help="a word, or a prompt")
    vocabulary.set_defaults(run=_vocabulary)


def _vocabulary(args: argparse.Namespace) -> int:
    from mvgamba.multiview.vocabulary import read_vocabulary, vocabulary_source

    vocabulary = read_vocabulary(vocabulary_source(user_weights()))
    said = " ".join(args.word).strip()
    if not args.word:
        return _all(args, vocabulary)
    if len(said.split()) < 2:
        return _word(args, vocabulary, said)
    found = vocabulary.translate(said)
    if args.json:
        print(json.dumps(dataclasses.asdict(found), ensure_ascii=False))
        return 0
    print(found.prompt)
    for one in found.substitutions:
        print(f"  {one.said}: taken for {one.taken}{', which only comes near' if one.is_rough else ''}")
    for word in found.unknown:
        print(f"  {_unknown(word, vocabulary.nearest(word))}")
    return 0


def _word(args: argparse.Namespace, vocabulary: "Vocabulary", said: str) -> int:
    from mvgamba.multiview.vocabulary import ROUGHLY, Known, Synonym

    found = vocabulary.lookup(said)
    if args.json:
        kind = type(found).__name__.lower()
        print(json.dumps({"said": said, "is": kind, **dataclasses.asdict(found)}, ensure_ascii=False))
    elif isinstance(found, Known):
        print(f"{found.word}: known, {found.count} training {'object has' if found.count == 1 else 'objects have'} it")
    elif isinstance(found, Synonym):
        print(f"{said}: taken for {found.of}{', which only comes near' if found.group == ROUGHLY else ''}")
    else:
        print(_unknown(said, found.nearest))
    return 0


def _all(args: argparse.Namespace, vocabulary: "Vocabulary") -> int:
    import textwrap

    nouns, colors = vocabulary.nouns(), vocabulary.colors()
    if args.json:
        print(json.dumps({"nouns": nouns, "colors": colors, "others": len(vocabulary.lexicon)}))
        return 0
    for title, words in (("Colours", colors), ("Things", nouns)):
        print(f"{title}, with the number of training objects:")
        text = ", ".join(f"{word} {count}" for word, count in words.items())
        print(textwrap.fill(text, _A_LINE, initial_indent="  ", subsequent_indent="  "))
    print(
        f"{len(vocabulary.lexicon)} other words and phrases are taken for these; `mvgamba vocabulary WORD` says which."
    )
    return 0


def _unknown(word: str, nearest: "list[str] | tuple[str, ...]") -> str:
    return f"{word}: not known" + (f"; spelt alike: {', '.join(nearest)}" if nearest else "")

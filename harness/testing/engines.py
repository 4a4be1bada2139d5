"""What every engine that reads text must keep to. Subclass `EngineContract` and give it a fixture `engine`.

The model behind it should hold at least 200 tokens of context and fewer than 5,000.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from harness.engines import Engine
from harness.errors import RequestFailed
from harness.types import Choose, Generate, Key, Rank, Reply, Request, Scores, Text

FILMS = ("Heat", "Alien", "The Matrix", "Toy Story", "Fargo", "Seven", "Speed")
OPTIONS = ("Yes", "No")
CLOSED = tuple(f'{film}"' for film in FILMS)
"""No one is the beginning of another, in any tokens."""


def answers(engine: Engine, requests: Sequence[Request]) -> list[Reply | RequestFailed]:
    """Ask all at once; the answers in the order of the requests, after checking that each came exactly once."""
    keys = [Key(f"instance-{place}", place % 3) for place in range(len(requests))]
    engine.submit(list(zip(keys, requests, strict=True)))
    found: dict[Key, Reply | RequestFailed] = {}
    while answered := engine.collect():
        for key, reply in answered:
            assert key not in found, f"{key} was answered twice"
            found[key] = reply
    assert set(found) == set(keys)
    return [found[key] for key in keys]


def values(engine: Engine, requests: Sequence[Request]) -> list[tuple[float, ...]]:
    """Scores of requests that must all succeed."""
    scored = []
    for reply in answers(engine, requests):
        assert isinstance(reply, Scores), reply
        scored.append(reply.values)
    return scored


def largest_gap(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    return max(abs(x - y) for a, b in zip(one, other, strict=True) for x, y in zip(a, b, strict=True))


def questions(count: int) -> list[Request]:
    """Choices of mixed lengths, with one-token and longer options."""
    draw = random.Random(count)
    made: list[Request] = []
    for place in range(count):
        seen = ", ".join(draw.choices(FILMS, k=1 + place % 7))
        options = OPTIONS if place % 3 else tuple(draw.sample(FILMS, 4))
        made.append(Choose(f"The user liked {seen}.\nWhat now?\n", options))
    return made


def lists(count: int) -> list[Request]:
    """Requests for a film of `CLOSED`, each with other films barred; every sixth leaves one only."""
    return [
        Generate(f'The user liked {FILMS[place % 7]}. Next: "', 1, options=CLOSED, barred=CLOSED[: place % 6 + 1])
        for place in range(count)
    ]


class EngineContract:
    tolerance = 1e-4
    """Largest change of a log-probability that another batch may make."""

    def test_every_question_is_answered_once(self, engine: Engine) -> None:
        replies = answers(engine, [*questions(20), *(Generate(f"Film {n}:", 3) for n in range(5))])
        assert [type(reply) for reply in replies] == [Scores] * 20 + [Text] * 5

    def test_says_what_it_answers(self, engine: Engine) -> None:
        assert {Choose, Generate} <= engine.answers
        assert engine.capacity >= 1

    def test_nothing_in_hand_is_an_empty_answer(self, engine: Engine) -> None:
        assert list(engine.collect()) == []

    def test_scores_are_log_probabilities(self, engine: Engine) -> None:
        for scored in values(engine, questions(9)):
            assert all(math.isfinite(value) and value < 0 for value in scored)
            assert math.fsum(math.exp(value) for value in scored) <= 1 + 1e-5

    def test_order_does_not_matter(self, engine: Engine) -> None:
        asked = questions(24)
        shuffled = list(range(24))
        random.Random(7).shuffle(shuffled)
        mixed = values(engine, [asked[place] for place in shuffled])
        back = [mixed[shuffled.index(place)] for place in range(24)]
        assert largest_gap(values(engine, asked), back) < self.tolerance

    def test_neighbours_do_not_matter(self, engine: Engine) -> None:
        asked = questions(12)
        alone = [values(engine, [request])[0] for request in asked]
        assert largest_gap(values(engine, asked), alone) < self.tolerance

    def test_the_order_of_options_does_not_matter(self, engine: Engine) -> None:
        (forward,), (backward,) = (values(engine, [Choose("Seen: Heat.\n", o)]) for o in (FILMS, FILMS[::-1]))
        assert largest_gap([forward], [backward[::-1]]) < self.tolerance

    def test_an_end_is_one_token_more(self, engine: Engine) -> None:
        free, closed = answers(engine, [Choose("Seen: Heat.\n", FILMS), Choose("Seen: Heat.\n", FILMS, ended=True)])
        assert isinstance(free, Scores)
        assert isinstance(closed, Scores)
        assert closed.tokens == tuple(count + 1 for count in free.tokens)
        assert all(whole < part for whole, part in zip(closed.values, free.values, strict=True))

    def test_a_failure_touches_no_neighbour(self, engine: Engine) -> None:
        good = questions(6)
        bad: list[Request] = [
            Choose("word " * 5000, OPTIONS),
            Generate("word " * 5000, 4),
            Generate("Hello", 0),
            Choose("Hello", ("Yes", "Yes")),
            Choose("Hello", ("Yes", "")),
            Choose("Hello", ()),
            Rank("u", (), ()),
        ]
        mixed = [request for pair in zip(good, bad, strict=False) for request in pair] + bad[len(good) :]
        replies = answers(engine, mixed)
        failed = [reply for reply in replies if isinstance(reply, RequestFailed)]
        assert len(failed) == len(bad)
        assert not any(failure.transient for failure in failed)
        kept = [reply.values for reply in replies if isinstance(reply, Scores)]
        assert largest_gap(kept, values(engine, good)) < self.tolerance

    def test_too_long_a_prompt_is_told_in_tokens(self, engine: Engine) -> None:
        (reply,) = answers(engine, [Choose("word " * 5000, OPTIONS)])
        assert isinstance(reply, RequestFailed)
        words = str(reply).split()
        assert words[:2] == ["prompt", "of"]
        assert int(words[2]) > 5000
        assert "longer than the model's context of" in str(reply)

    def test_usage_counts_tokens(self, engine: Engine) -> None:
        scored, written = answers(engine, [Choose("Seen: Heat.\n", OPTIONS), Generate("Seen: Heat.\n", 4)])
        assert isinstance(scored, Scores)
        assert isinstance(written, Text)
        assert scored.usage.prompt_tokens > 1
        assert scored.usage.generated_tokens == 0
        assert written.usage.prompt_tokens >= scored.usage.prompt_tokens
        assert 1 <= written.usage.generated_tokens <= 4

    def test_a_text_is_cut_before_its_stop_string(self, engine: Engine) -> None:
        written = Generate("Seen: Heat.\n", 24, temperature=1.0, seed=3)  # greedy texts of random models are dull
        (whole,) = answers(engine, [written])
        assert isinstance(whole, Text)
        letters = [place for place, letter in enumerate(whole.text) if letter.isascii() and letter.isalnum()]
        stop = whole.text[letters[len(letters) // 2]]
        (cut,) = answers(engine, [replace(written, stop=("never said", stop))])
        assert isinstance(cut, Text)
        assert cut.text == whole.text[: whole.text.index(stop)]
        assert cut.finish == "stop"
        assert cut.usage.generated_tokens <= whole.usage.generated_tokens

    def test_running_into_the_limit_is_said(self, engine: Engine) -> None:
        (reply,) = answers(engine, [Generate("Seen: Heat.\n", 2)])
        assert isinstance(reply, Text)
        assert reply.usage.generated_tokens == 2
        assert reply.finish == "length"

    def test_sampling_is_repeatable_in_any_company(self, engine: Engine) -> None:
        asked: list[Request] = [Generate("Seen:", 12, temperature=1.0, seed=seed) for seed in (0, 1, 2)]
        replies = answers(engine, asked)
        alone = [answers(engine, [request])[0] for request in reversed(asked)][::-1]
        assert replies == alone
        assert len({reply.text for reply in replies if isinstance(reply, Text)}) == 3

    def test_a_text_may_be_one_of_several_options(self, engine: Engine) -> None:
        asked = lists(12)
        for request, reply in zip(asked, answers(engine, asked), strict=True):
            assert isinstance(request, Generate)
            assert isinstance(reply, Text), reply
            assert reply.text in set(request.options) - set(request.barred)
            assert reply.finish == "stop"
            assert 1 <= reply.usage.generated_tokens <= len(reply.text)
            assert reply.usage.prompt_tokens > 1

    def test_an_option_is_written_greedily(self, engine: Engine) -> None:
        """For options of one token that is to write the most probable one, and then the next."""
        prompt, signs = "Seen: Heat.\n", ("#", "$", "%", "&", "*")
        (scores,) = values(engine, [Choose(prompt, signs)])
        left = dict(zip(signs, scores, strict=True))
        while left:
            barred = tuple(sign for sign in signs if sign not in left)
            (reply,) = answers(engine, [Generate(prompt, 1, options=signs, barred=barred)])
            assert isinstance(reply, Text)
            assert left.pop(reply.text) >= max(left.values(), default=-math.inf) - self.tolerance

    def test_options_in_other_company_are_the_same(self, engine: Engine) -> None:
        asked = lists(12)
        together = answers(engine, [*asked, *questions(3)])[:12]
        assert answers(engine, asked[::-1])[::-1] == together
        assert [answers(engine, [request])[0] for request in asked[:4]] == together[:4]

    def test_options_that_cannot_be_written_fail_alone(self, engine: Engine) -> None:
        bad: list[Request] = [
            Generate("Seen:", 1, options=("#", "")),
            Generate("Seen:", 1, options=("#", "$"), barred=("$", "#")),
            Generate("Seen:", 1, options=("#", "##$#$")),
            Generate("Seen:", 1, options=("#", "$"), temperature=1.0, seed=1),
            Generate("Seen:", 1, options=("#", "$"), stop=("#",)),
            Generate("Seen:", 1, barred=("$",)),
            Generate("word " * 5000, 1, options=("#", "$")),
        ]
        good = lists(len(bad))
        replies = answers(engine, [request for pair in zip(bad, good, strict=True) for request in pair])
        assert all(isinstance(reply, RequestFailed) and "\n" not in str(reply) for reply in replies[::2])
        assert not any(reply.transient for reply in replies[::2] if isinstance(reply, RequestFailed))
        assert replies[1::2] == answers(engine, good)

    def test_close_forgets_what_is_in_hand(self, engine: Engine) -> None:
        engine.submit([(Key(f"forgotten-{n}"), request) for n, request in enumerate([*questions(8), *lists(8)])])
        engine.close()
        assert list(engine.collect()) == []
        assert len(answers(engine, questions(3))) == 3

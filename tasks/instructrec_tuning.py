"""InstructRec's tuning texts (arXiv:2305.07001, section 2.2 and 2.3): many instructions on the same users and items.

For the last training event of each user (`lessons` for more) some templates are drawn of those that can be filled:
`traditional` of the 17 on preferences (A) and `personalised` of the 13 with a query (C); for each training item of
product search `searched` of the 9 (B). All three ways to make instructions more diverse are in them: turned round,
related, and with reasoning before the item. How many of the 39 the authors took of each user is not known; one, one and
two are those of a public re-implementation. A count of 0 leaves a scenario out, as the study of a held-out scenario
does; `forms` keeps some forms only.

A template is drawn where its texts are there: without `preferences`, none that tells or asks for one; without reviews
or `intentions`, none with a vague intention; without categories, none with a specific one. No text holds anything of an
event of validation or test: `tasks.instructrec_write` says how that is kept of a teacher's texts. And none has a
specific intention beside an item that product search validates or tests; such items may be targets of the other
templates, as they are events of training users.

`harness data export --task instructrec-data --out DIR` writes them as JSON lines, with counts for each template as in
the paper's Table 2. It is a stage before `instructrec`, which evaluates; validation asks the questions of the first
scenario that is not left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from statistics import fmean
from typing import Any, ClassVar, NamedTuple, get_args

from harness.errors import BadSetting, NotApplicable
from harness.knobs import knob, knobs
from harness.metrics import Metric
from harness.types import Example, Instance, Item, Prediction, Program, Split
from tasks.instructrec import InstructRec
from tasks.instructrec_questions import Scenario
from tasks.instructrec_templates import Filling, Form, Template, templates
from tasks.instructrec_told import Told
from tasks.recipes import load_recipes


class Instruction(NamedTuple):
    """One training text, and where it comes from."""

    id: str
    """Of the question that it is made of."""
    code: str
    """Of the template."""
    prompt: str
    answer: str


@dataclass(frozen=True)
class InstructRecData(Told):
    name: ClassVar[str] = "instructrec-data"
    paper: ClassVar[str] = "Zhang et al. 2023, arXiv:2305.07001; the texts to tune on"
    metrics: ClassVar[tuple[Metric, ...]] = InstructRec.metrics

    traditional: int = knob(1, "templates on preferences (A) for each event", low=0, high=17)
    searched: int = knob(1, "templates on queries alone (B) for each item", low=0, high=9)
    personalised: int = knob(2, "templates on both (C) for each event", low=0, high=13)
    lessons: int = knob(1, "last training events of a user, at most", low=1)
    forms: str = knob("all", "forms of the templates, with commas between, such as rank,match; or all")
    queries: str = knob("all", "kinds of query in personalised search, such as P2,I2; or all that there are texts for")
    users: float = knob(1.0, "share of the users, and of the items of product search", low=0, high=1)
    seed: int = knob(0, "draws templates, users and all else")
    candidate_seed: int = knob(0, "draws the candidates", instances=True)
    items_seed: int = knob(0, "splits the items of product search", instances=True)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        return templates().texts

    @cached_property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        return load_recipes("instructrec")

    def data_digests(self) -> Mapping[str, str]:
        return {**super().data_digests(), **self.told_digests(preference=True, vague="I1" in self._kinds)}

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        if split == "test":
            raise NotApplicable("task 'instructrec-data' is for tuning; evaluate with --task instructrec")
        return self._first.instances(split)

    def size(self, split: Split = "test") -> int:
        return self._first.size(split)

    def solve(self, instance: Instance) -> Program[Prediction]:
        return self._first.solve(instance)

    def examples(self, split: Split = "train") -> Iterator[Example]:
        """Training texts; for validation the first scenario's own, one for each question."""
        if split != "train":
            yield from self._first.examples(split)
            return
        yield from (Example(one.prompt, one.answer) for one in self.instructions())

    @property
    def exported(self) -> tuple[Split, ...]:
        return ("train",)

    def export(self, split: Split) -> tuple[str, bytes]:
        if split != "train":
            raise NotApplicable("task 'instructrec-data' has texts for tuning alone; say --split train")
        rows = (
            {"id": i.id, "template": i.code, "instruction": i.prompt, "output": i.answer} for i in self.instructions()
        )
        return "train.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

    def counts(self, split: Split) -> Mapping[str, float]:
        """As the paper's Table 2: templates, texts of the teacher's, their length in words; and rows by template."""
        made = list(self.instructions())
        told = {"preference texts": self.told_preferences, "intention texts": self.told_intentions}
        by_code = Counter(one.code for one in made)
        found: dict[str, float] = {"instructions": len(made), **{name: len(texts) for name, texts in told.items()}}
        fine = [text for texts in told.values() for text in texts]
        if fine:
            found["words of a text"] = round(fmean(len(text.split()) for text in fine), 1)
        coarse = templates().by_code.values()
        found["words of a template"] = round(fmean(len(one.text.split()) for one in coarse), 1)
        return {**found, **{f"{one.code} {one.form}": by_code[one.code] for one in coarse}}

    def instructions(self) -> Iterator[Instruction]:
        """All training texts, in an order that never changes. BadSetting: a scenario lacks its texts, or all are left
        out."""
        if not (self.traditional or self.searched or self.personalised):
            raise BadSetting(
                "traditional, searched and personalised are all 0, which leaves no text; raise one of them"
            )
        if self.traditional or self.personalised:
            for instance in self._asked_of("sequential"):
                yield from self._of_event(instance)
        if self.searched:
            for instance in self._asked_of("product-search"):
                (item,) = (item for item in instance.candidates or () if item.id in instance.relevance)
                filling = self._filling(instance, item)
                yield from self._drawn(instance.id, "B", self.searched, {"I2": instance.context or ""}, filling)

    def _asked_of(self, scenario: Scenario) -> Iterator[Instance]:
        """Training questions of the users or items that are drawn."""
        for instance in self._part(scenario).offered("train", self.lessons):
            if int(self._draw(instance.user, "user")[:13], 16) < self.users * 16**13:
                yield instance

    def _of_event(self, instance: Instance) -> Iterator[Instruction]:
        place = int(instance.id.rpartition("-")[2])
        (item,) = (item for item in instance.candidates or () if item.id in instance.relevance)
        user = self._codes[instance.user]
        # The teacher read all that stands before the last training event, so it is told of that alone.
        told = self.preference_of(user) if self.preferences and place == int(self._training[user]) - 1 else ""
        filling = replace(self._filling(instance, item), preference=told)
        yield from self._drawn(instance.id, "A", self.traditional, {}, filling)
        if self.personalised:
            queries = {"P2": filling.preference if "P2" in self._kinds else ""}
            if "I1" in self._kinds:
                queries["I1"] = self.vague(instance.id, user, place)
            if "I2" in self._kinds and item.text in self._taught:
                queries["I2"] = self.category(item)
            yield from self._drawn(instance.id, "C", self.personalised, queries, filling)

    def _drawn(
        self, name: str, family: str, count: int, queries: Mapping[str, str], filling: Filling
    ) -> Iterator[Instruction]:
        """Some of a family's templates, each with a query of a kind that it takes."""
        found = 0
        codes = sorted(self._usable[family], key=lambda one: self._draw(name, one.code))
        for template in codes:
            if found == count:
                return
            kinds = [kind for kind in template.query if queries.get(kind)]
            if template.query and not kinds:
                continue
            draw = int(self._draw(name, template.code, "filling")[:8], 16)
            kind = kinds[draw % len(kinds)] if kinds else ""
            told = "" if kind == "P2" and template.optional else filling.preference  # which is the query already
            filled = replace(filling, query=queries.get(kind, ""), preference=told)
            filled = self._varied(filled, template, draw // 64)
            if not template.can_fill(filled):
                continue
            found += 1
            yield Instruction(name, template.code, self.ended_prompt(template.prompt(filled)), template.target(filled))

    def _varied(self, filling: Filling, template: Template, draw: int) -> Filling:
        """By half an optional preference is left out, and by half a pointwise question is about a wrong candidate."""
        if template.optional and draw % 2:
            filling = replace(filling, preference="")
        if template.form == "pointwise" and draw // 2 % 2:
            wrong = next(title for title in filling.candidates if title != filling.item)
            filling = replace(filling, item=wrong, yes=False)
        return filling

    def _filling(self, instance: Instance, item: Item) -> Filling:
        history = [event.item.text for event in instance.history]
        candidates = [one.text for one in instance.candidates or ()]
        return Filling(history=history, candidates=candidates, item=item.text)

    @cached_property
    def _usable(self) -> Mapping[str, tuple[Template, ...]]:
        known = get_args(Form)
        wanted = set(known) if self.forms == "all" else set(self.forms.split(","))
        if strange := sorted(wanted - set(known)):
            raise BadSetting(f"forms has {strange[0]!r}; there is {', '.join(known)}")
        every = templates().by_code.values()
        return {family: tuple(t for t in every if t.family == family and t.form in wanted) for family in "ABC"}

    @cached_property
    def _kinds(self) -> tuple[str, ...]:
        """Of the queries that there are texts for. BadSetting: there is none, and some is needed."""
        there = {
            "P2": bool(self.preferences),
            "I1": self.intentions != "review" or self.has_reviews,
            "I2": self.has_categories,
        }
        wanted = set(there) if self.queries == "all" else set(self.queries.split(","))
        if strange := sorted(wanted - set(there)):
            raise BadSetting(f"queries has {strange[0]!r}; there is {', '.join(there)}")
        found = [kind for kind, is_there in there.items() if is_there and kind in wanted]
        if self.personalised and not found:
            raise BadSetting(
                f"{self._whole.name} has no texts for queries={self.queries} of personalised search; set "
                "personalised=0, or name a teacher's with preferences= or intentions="
            )
        return tuple(found)

    @cached_property
    def _taught(self) -> Set[str]:
        """Titles of the items whose categories may be told: those that product search neither validates nor tests."""
        return {item.text for item in self._part("product-search").searched["train"]}

    @cached_property
    def _first(self) -> InstructRec:
        if self.traditional:
            return self._part("sequential")
        return self._part("product-search" if self.searched else "personalised-search")

    def _part(self, scenario: Scenario) -> InstructRec:
        """The task that asks the questions of a scenario, with all that the two have in common."""
        shared = {k.name: getattr(self, k.name) for k in knobs(Told)}
        if scenario == "product-search" and not self.has_categories:
            raise BadSetting(f"{self._whole.name} has no categories, so product search has no queries; set searched=0")
        asks: dict[str, Any] = {}
        if scenario == "personalised-search":
            preference, intention = {"P2": ("P2", "I0"), "I1": ("P1", "I1"), "I2": ("P1", "I2")}[self._kinds[-1]]
            asks = {"preference": preference, "intention": intention}
        return InstructRec(
            **shared, scenario=scenario, candidate_seed=self.candidate_seed, items_seed=self.items_seed, **asks
        )

    def _draw(self, *parts: str) -> str:
        return sha256("\0".join((str(self.seed), *parts)).encode()).hexdigest()

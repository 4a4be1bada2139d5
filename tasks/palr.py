"""PALR (Yang et al. 2023, arXiv:2305.07622): a model writes a list of ten, which is the ranking.

Data, section 3.1.1: every event counts alike, repeats dropped, 5-core of users and items; Beauty has then 22,363 users,
12,101 items and 198,502 events, MovieLens 1M 6,040, 3,416 and 999,611. Leave one out, HR@10 and NDCG@10 on the whole
item set (section 3.1.2). Both variants ask the same questions, and so do conventional models, which rank the whole
catalogue: `variant=v1` offers no candidates, `variant=v2` the first `top` of a run of the task `retrieval` (section
3.2: SASRec's 50). Nothing puts the target among them: what the first stage missed is missed, and the metrics marked
[identity] and [random] say what its own order, and none, would score.

Answers. Ten lines are read, by the rules of `harness.parsing` (docs/parsing.md). The list is what is left of them in
their order: lines that name nothing that may be credited are dropped, and nothing takes their place. Strict metrics
credit exact and normalised lines, those marked [lenient] fuzzy ones too.

No code was published. What the paper leaves open is a knob: the order of the candidates (`order`), whether what the
user has seen is taken out of them (`remove_seen`), the longest answer, and all of the tuning texts
(`tasks/palr_texts.py`). The authors say neither how they decode (here: greedily) nor how they read an answer.

Deviations, all named: the questions are those of the task `sequential`, so what a user has seen is no answer unless
`masking=none`; `decoding=constrained` and `answer=score` are ours, to tell what a model does not know from what it
cannot spell; the place of a profile in the prompt is ours (`profile`, off), since the paper's prompt is an image.
Titles of films have no year, as in the paper's examples, so some films share one; `year=true` keeps it. No paper number
is for ml-100k.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.errors import BadSetting, InstanceFailed, NotApplicable, StaleRun
from harness.exposure import ARP, Coverage
from harness.knobs import knob, knobs
from harness.metrics import NDCG, HitRate, MeanOf, Metric
from harness.parsing import RULES, Names, Outcome, Reading, read
from harness.stages import Stage, agree, as_options, find_stage
from harness.types import Choose, Example, Generate, Instance, Item, ItemId, Prediction, Program, Split, ask
from harness.written import AboveShuffled, AsFound, Ceiling, Lenient, Share, Shuffled
from tasks.palr_lists import Entries, entry, listed, text_of
from tasks.palr_texts import Choices, Texts
from tasks.prompts import load_texts
from tasks.recipes import load_recipes
from tasks.sequential import LeaveOneOut

TEN = 10
"""Lines that are asked for, and read."""
TOP = 50
"""Candidates, as in the paper."""
YEAR = re.compile(r" \(\d{4}\)$")
HIT, GAIN = HitRate(TEN), NDCG(TEN)


@dataclass(frozen=True)
class PALR(LeaveOneOut):
    name: ClassVar[str] = "palr"
    paper: ClassVar[str] = "Yang et al. 2023, arXiv:2305.07622"
    metrics: ClassVar[tuple[Metric, ...]] = (
        *(HIT, GAIN, AboveShuffled(HIT), AboveShuffled(GAIN), Lenient(HIT), Lenient(GAIN)),
        *(Ceiling(), AsFound(HIT), AsFound(GAIN), Shuffled(HIT), Shuffled(GAIN)),
        *(MeanOf("lines"), Share("spelled", "lines"), *(Share(outcome.value, "lines") for outcome in Outcome)),
        *(Coverage(TEN), ARP(TEN), MeanOf("cold")),
    )

    dataset: Literal["ml-100k", "ml-1m", "amazon-beauty"] = knob("ml-100k", "which data set", instances=True)
    k_core: int = knob(5, "events that every user and item must have; 0 is no filter", instances=True, low=0)
    repeats: bool = knob(False, "keep what a user does with an item that he has met before", instances=True)
    variant: Literal["v1", "v2"] = knob("v2", "without candidates, or with those of a retrieval run")
    candidates: str = knob("", "digest of the run of task 'retrieval' whose items are offered")
    top: int = knob(TOP, "how many of them", low=1)
    order: Literal["retriever", "reversed", "shuffled"] = knob("retriever", "in which they are written")
    order_seed: int = knob(0, "shuffles them")
    remove_seen: bool = knob(True, "take out of them what the user has seen")
    profile: str = knob("", "digest of a run of task 'palr-profile' whose answers stand in the prompt")
    runs: str = knob("runs", "folder that holds these runs", hashed=False)
    shown: int = knob(20, "how many items of the history are in the prompt", low=1)
    year: bool = knob(False, "keep the year in the titles of films")
    longest_title: int = knob(0, "characters of a title that are shown, cut at a blank; 0 shows all", low=0)
    answer: Literal["generate", "score"] = knob("generate", "write the list, or rank candidates by their probability")
    decoding: Literal["free", "constrained"] = knob("free", "write anything, or candidates (v1: the catalogue) only")
    max_tokens: int = knob(512, "longest answer", low=1)

    users: float = knob(0.2, "share of the users whose texts are tuned on", low=0, high=1, tuning=True)
    users_seed: int = knob(0, "draws them, and all else in the tuning texts", tuning=True)
    stride: int = knob(1, "events from one text of a user to the next", low=1, tuning=True)
    recommend: float = knob(1.0, "share of v2's texts that are told without candidates, too", high=1, tuning=True)
    negatives: int = knob(
        40, "similar items beside the targets of a text, at most; so many or fewer are drawn", low=0, tuning=True
    )
    swaps: float = knob(0.1, "chance that a target changes places with an item of the history", high=1, tuning=True)
    enrich: bool = knob(True, "fill short lists from the user's 3-hop affinity", tuning=True)
    mixed: bool = knob(True, "candidates of a text in no order; false keeps the targets in theirs", tuning=True)
    drawn: bool = knob(False, "targets of a text in a drawn order, not in that of time", tuning=True)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        return {**load_texts("palr"), "parsing": f"rules {RULES}"}

    @cached_property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        return load_recipes("palr")

    @property
    def stages(self) -> Mapping[str, Stage]:
        stages = {"candidates": self._retrieval, "profile": self._profiles}
        return {name: stage for name, stage in stages.items() if stage is not None}

    def __post_init__(self) -> None:
        if self.shown > self.max_history:
            raise BadSetting(f"shown={self.shown} is more than max_history={self.max_history}; raise that, too")

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        # A run is of one split. Conventional models validate without one; a prompt that needs it says so.
        ours = [stage for stage in self.stages.values() if stage.manifest["split"] == split]
        for told in ours:
            self._check(told, split)
        stage = self._retrieval
        if stage is None or stage not in ours:
            yield from super().instances(split)
            return
        if (kept := stage.manifest["settings"]["n"]) < self.top:
            what = f"run {stage.name} has {kept} items for each user, and top={self.top}"
            raise StaleRun(f"{what}; make one with `{self._command('retrieval')}`")
        for instance in super().instances(split):
            if instance.id not in stage.lists:
                raise StaleRun(f"run {stage.name} has no candidates for {instance.id}; make one of all instances")
            yield replace(instance, shortlist=self._offered(instance, stage.lists[instance.id]))

    def solve(self, instance: Instance) -> Program[Prediction]:
        if self.answer == "score":
            return self._score(instance)
        return self._write(instance) if self.decoding == "free" else self._spell(instance)

    def prompt(self, instance: Instance) -> str:
        """What a language model reads, up to `Output:`."""
        shown = self._listed([event.item for event in instance.history[-self.shown :]])
        profile = self._profile(instance)
        if self.variant == "v1":
            return self.texts[self._kind].format(history=shown, profile=profile)
        offered = self._listed(self.ordered(instance))
        return self.texts[f"{self._kind}_retrieval"].format(history=shown, profile=profile, candidates=offered)

    def ordered(self, instance: Instance) -> Sequence[Item]:
        """The candidates in the order in which they are written.

        InstanceFailed: the first stage found none. MissingData: no first stage is named. StaleRun: its run is of
        another split.
        """
        found = instance.shortlist
        if found is None:
            if self._retrieval is not None:
                self._check(self._retrieval, instance.id.partition("-")[0])
            self._stage("retrieval", "")
        if not found:
            raise InstanceFailed("the first stage found no candidates")
        if self.order == "shuffled":
            return sorted(found, key=lambda item: _draw(self.order_seed, instance.id, item.id))
        return found[::-1] if self.order == "reversed" else found

    def said(self, item: Item) -> str:
        """An item as prompts and answers write it."""
        code = self.codes.get(item.id)
        text = item.text if code or self.year else YEAR.sub("", item.text)
        if 0 < self.longest_title < len(text):
            text = text[: self.longest_title + 1].rpartition(" ")[0] or text[: self.longest_title]
        return text if code is None else f"{code} ({text})" if item.text != item.id else code

    @cached_property
    def codes(self) -> Mapping[ItemId, str]:
        """Second names of items: Amazon's numbers."""
        asins = self._data.attributes.get("asin", ())
        return {item.id: asin for item, (asin,) in zip(self._data.items, asins, strict=False)}

    @cached_property
    def names(self) -> Names:
        """The catalogue for the reader of answers."""
        return Names(self._data.items, self.codes, {item.id: self.said(item) for item in self._data.items})

    def read(self, instance: Instance, text: str, finish: Literal["stop", "length"]) -> Reading:
        """What an answer names, line by line."""
        offered = None if self.variant == "v1" else {item.id for item in instance.shortlist or ()}
        return read(text, self.names, candidates=offered, history=instance.excluded, finish=finish, limit=TEN)

    def examples(self, split: Split = "train") -> Iterator[Example]:
        """Texts of the chosen users' training events; for validation what each user did next, without candidates."""
        if split == "test":
            raise NotApplicable("task 'palr' has no training texts in its test split")
        if split == "valid":
            for instance in super().instances("valid"):
                (target,) = instance.relevance
                item = self._data.items[self._catalogue.places[target]]
                shown = self._listed([event.item for event in instance.history[-self.shown :]])
                yield Example(self.texts[self._kind].format(history=shown, profile=""), " " + self._listed([item]))
            return
        for window in self.tuning.windows():
            lists = (self._listed([self._data.items[place] for place in part]) for part in window[:3])
            shown, targets, offered = lists
            said = {"history": shown, "profile": ""}
            if self.variant == "v1" or window.draw < self.recommend:
                yield Example(self.texts[self._kind].format(**said), " " + targets)
            if self.variant == "v2":
                yield Example(self.texts[f"{self._kind}_retrieval"].format(**said, candidates=offered), " " + targets)

    @cached_property
    def tuning(self) -> Texts:
        """What the tuning texts are made from."""
        how = Choices(
            *(self.users, self.users_seed, self.shown, TEN, self.stride),
            *(self.negatives, self.swaps, self.enrich, self.mixed, self.drawn),
        )
        return Texts(list(self.timelines()), self._catalogue.places, how)

    def _write(self, instance: Instance) -> Program[Prediction]:
        reply = yield from ask(Generate(self.prompt(instance), self.max_tokens))
        reading = self.read(instance, reply.text, reply.finish)
        facts = {outcome.value: float(count) for outcome, count in reading.counts.items()}
        facts |= {"lines": float(len(reading.lines)), "spelled": float(reading.spelled)}
        return Prediction(Prediction.ranked(reading.strict).scores, facts, reply.text, reading.lenient)

    def _spell(self, instance: Instance) -> Program[Prediction]:
        """One choice a place, from what is left. The items of one text are one choice."""
        prompt, written = self.prompt(instance), list[str]()
        entries = self._entries(instance)
        barred = self._barred(instance, entries)
        count = min(TEN, len(entries.owners) - len(barred))
        for place in range(count):
            options, close = (entries.inner, ",") if place < count - 1 else (entries.last, "")
            taken = tuple(entry(text, close) for text in (*barred, *written))
            before = prompt + "".join(map(entry, written))
            reply = yield from ask(Generate(before, self.max_tokens, options=options, barred=taken))
            written.append(text_of(reply.text))
        chosen = [self._meant(instance, entries.owners[text]) for text in written]
        kept = [item for item in chosen if item not in instance.excluded]
        facts = {**dict.fromkeys((outcome.value for outcome in Outcome), 0.0), "exact": float(len(kept))}
        facts |= {"in_history": float(len(chosen) - len(kept)), "lines": float(count), "spelled": float(count)}
        return Prediction(Prediction.ranked(kept).scores, facts, listed(written), tuple(kept))

    def _entries(self, instance: Instance) -> Entries:
        return self._everything if self.variant == "v1" else Entries.of(self.ordered(instance), self.said)

    @cached_property
    def _everything(self) -> Entries:
        return Entries.of(self._data.items, self.said)

    def _barred(self, instance: Instance, entries: Entries) -> Sequence[str]:
        """Texts of the catalogue that name only what the user has seen; candidates are without these already."""
        if self.variant == "v2" or not self.remove_seen:
            return ()
        seen = self._seen(instance)
        items = (self._data.items[self._catalogue.places[item]] for item in sorted(seen))
        texts = dict.fromkeys(map(self.said, items))
        return [text for text in texts if seen >= set(entries.owners[text])]

    @staticmethod
    def _meant(instance: Instance, items: Sequence[ItemId]) -> ItemId:
        return next((item for item in items if item not in instance.excluded), items[0])

    def _score(self, instance: Instance) -> Program[Prediction]:
        """Each candidate as the first of a list."""
        if self.variant == "v1":
            raise NotApplicable("answer=score ranks candidates, and variant=v1 has none; use variant=v2")
        entries = self._entries(instance)
        reply = yield from ask(Choose(self.prompt(instance), entries.inner))
        scores = zip(entries.owners.values(), reply.values, strict=True)
        return Prediction({item: score for items, score in scores for item in items if item not in instance.excluded})

    @property
    def _kind(self) -> str:
        return "products" if self.dataset == "amazon-beauty" else "films"

    def _listed(self, items: Sequence[Item]) -> str:
        return ", ".join(f'"{self.said(item)}"' for item in items)

    def _profile(self, instance: Instance) -> str:
        stage = self._profiles
        if stage is None:
            return ""
        if instance.id not in stage.texts:
            raise StaleRun(f"run {stage.name} has no profile for {instance.id}; make one of all instances")
        words = " ".join(stage.texts[instance.id].split())
        return self.texts["with_profile"].format(profile=words) if words else ""

    def _offered(self, instance: Instance, found: Sequence[ItemId]) -> tuple[Item, ...]:
        met = self._seen(instance) if self.remove_seen else frozenset()
        kept = [item for item in found if item not in met][: self.top]
        return tuple(self._data.items[self._catalogue.places[item]] for item in kept)

    def _seen(self, instance: Instance) -> Set[ItemId]:
        """All that the user met before, also where `masking=none` excludes none of it."""
        user = self._codes[instance.user]
        place = self._asked(instance.id.partition("-")[0], user)
        return instance.excluded or {self._data.items[code].id for code in self._met(user)[:place]}

    @cached_property
    def _retrieval(self) -> Stage | None:
        return self._stage("retrieval", self.candidates) if self.candidates else None

    @cached_property
    def _profiles(self) -> Stage | None:
        return self._stage("palr-profile", self.profile) if self.profile else None

    def _stage(self, task: str, digest: str) -> Stage:
        """A run of an earlier stage. MissingData: there is no such run; the message has the command that makes one."""
        return find_stage(Path(self.runs), task, digest, self._command(task))

    def _command(self, task: str) -> str:
        """How to make a run of an earlier stage that goes with this task."""
        same = {"dataset": self.dataset, "k_core": self.k_core, "min_rating": self.min_rating}
        if task == "retrieval" and self.top > TOP:
            same["n"] = self.top
        default = {k.name: k.default for k in knobs(LeaveOneOut)}
        told = as_options({name: value for name, value in same.items() if value != default.get(name)})
        model = "recbole:SASRec" if task == "retrieval" else "MODEL"
        return f"harness run --task {task}{told} --model {model}"

    def _check(self, stage: Stage, split: str) -> None:
        """StaleRun: the first stage was asked other questions."""
        ours = {name: getattr(self, name) for name in ("dataset", "k_core", "min_rating")}
        agree(stage, {**ours, **self.data_digests(), "split": split}, self._command(stage.manifest["task"]))


def _draw(seed: int, instance: str, item: ItemId) -> str:
    return sha256(f"{seed}\0{instance}\0{item}".encode()).hexdigest()
